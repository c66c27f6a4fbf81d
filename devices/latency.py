"""The time of a training step, from the time of its kernels.

t = constant + a_f * sum of F over all rows
    + a_b * (sum of X over rows whose input needs a gradient + sum of W over what trains) + update,

with F, X and W the forward pass, input gradient and weight gradient of a row. Each is `overhead + MACs / P + bytes / B`
by the row's class in that phase (`devices.kernels`), which is additive and non-negative, so that training more never
costs less. A weight gradient is charged its overhead and the share of the weight that trains. Rows in front of the
first trained one cost their forward pass alone. Source: the roofline-like models of nn-Meter (Zhang et al. 2021) and
the step model of ElasticTrainer (Huang et al. 2023), with a whole step's coefficients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from ..spaces.layers import SIGN_MASK
from ..spaces.table import UpdateTable
from ..spaces.trace import Layer, Trace
from .kernels import Kernel, Phase, class_keys, find_kernel
from .records import DeviceProfile, Dtypes

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.bool_] | npt.NDArray[np.int64]

#: Values in 4 bytes that an optimizer reads and writes per trained one: gradient, weight and state.
UPDATE_VALUES = {"sgd": 3, "sgd-momentum": 5, "adam": 7}


@dataclass(frozen=True)
class Work:
    """What the kernels of each row do in one step, whole weights trained; arrays are (R,).

    Attributes:
        macs: Multiply-accumulates, of forward pass, input gradient and weight gradient alike.
        forward: Bytes read and written by the forward pass: inputs, weight and output.
        dx: By the gradient of the inputs: those of the output and the weight, and what is written.
        dw: By the gradient of the weight: the input, the output's gradient, and what is written.
        bias: By the gradient of a bias: the output's gradient.
        mask: By packing a derivative of 0 or 1 into bits, one an element; 0 where a row never does.
    """

    macs: Floats
    forward: Floats
    dx: Floats
    dw: Floats
    bias: Floats
    mask: Floats

    @classmethod
    def of(cls, trace: Trace, batch: int, dtypes: Dtypes) -> "Work":
        """The work of every row of a trace."""
        rows = trace.rows
        sizes = [*(layer.out_elements for layer in rows), prod(trace.input_shape)]  # the last is that of INPUT
        inputs = np.array([batch * sum(sizes[source] for source in layer.inputs) for layer in rows], np.float64)
        outputs = np.array([batch * layer.out_elements for layer in rows], np.float64)
        # A norm's scale is a few values beside two maps: only the weights of convs and linears count.
        weights = np.array([layer.weights if layer.macs_forward else 0 for layer in rows], np.float64)
        return cls(
            macs=np.array([batch * layer.macs_forward for layer in rows], np.float64),
            forward=(inputs + outputs) * dtypes.activation + weights * dtypes.frozen,
            dx=(inputs + outputs) * dtypes.gradient + weights * dtypes.frozen,
            dw=inputs * dtypes.activation + (outputs + weights) * dtypes.gradient,
            bias=outputs * dtypes.gradient,
            mask=outputs * (dtypes.activation + 1 / 8) * np.array([_packs(layer) or _signs(layer) for layer in rows]),
        )


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of N policies' steps, as the times of kernels and how often each runs.

    Attributes:
        terms: Pairs of how often each row does a thing, (N, R), and how long that takes, (R,): forward pass, input
            gradient, a trained element's share of the weight gradient, what a weight gradient costs besides, bias
            gradient, and sign masks where PyTorch's activation packs none.
    """

    terms: tuple[tuple[Counts, Floats], ...]

    @property
    def total(self) -> Floats:
        """Seconds of each policy's step, (N,)."""
        return np.asarray(sum(runs @ seconds for runs, seconds in self.terms))

    def rows(self) -> Floats:
        """Seconds of each row, (N, R); the step's constant is the head's, which every step runs."""
        return np.asarray(sum(runs * seconds for runs, seconds in self.terms))


def step_seconds(table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str) -> StepSeconds:
    """The time of a step.

    A bias or norm shift costs one pass over the output's gradient, a norm's scale one over its input and gradient;
    every trained tensor costs the optimizer's overhead and its bytes.

    Args:
        table: N policies.
        profile: The device and runtime.
        batch: Samples of one step.
        optimizer: adam, sgd or sgd-momentum.
    """
    latency, rows = profile.latency, table.trace.rows
    work = Work.of(table.trace, batch, profile.memory.dtypes)
    a_f = latency.forward_scale.value * profile.slowdown
    a_b = latency.backward_scale.value * profile.slowdown

    forward = _seconds(_kernels(latency.forward, rows), work.macs, work.forward)
    if latency.fused:
        forward[_is_fused(rows)] = 0.0
    dx = _seconds(_kernels(latency.dx, rows), work.macs, work.dx)
    dw = _kernels(latency.dw, rows)
    dw_call = _each(dw, "per_call")
    bias = _pass(latency.dw, ("bias", "elementwise"), work.bias)
    mask_keys = ("mask", "act", "elementwise")
    mask = a_f * _pass(latency.forward, mask_keys, work.mask) + a_b * _pass(latency.dx, mask_keys, work.mask)
    packs = np.array([_packs(layer) for layer in rows])
    signs = np.array([_signs(layer) and not _packs(layer) for layer in rows])
    weights = np.array([max(1, layer.weights) for layer in rows])
    biases = np.array([layer.biases for layer in rows])
    per_tensor = profile.slowdown * latency.update.per_call
    per_value = profile.slowdown * latency.update.per_byte * 4 * UPDATE_VALUES[optimizer]

    once = a_f * forward
    once[table.trace.head] += profile.slowdown * latency.constant.value
    terms: list[tuple[Counts, Floats]] = [
        (table.present, once),
        (table.live_inputs, a_b * dx + packs * mask),
        (table.trained_weights, a_b * (_seconds(dw, work.macs, work.dw) - dw_call) / weights + per_value),
        (table.trained_weights > 0, a_b * dw_call + per_tensor),
        (table.bias, a_b * bias + biases * per_value + per_tensor),
    ]
    if signs.any():
        terms.append((table.sign & table.live_inputs, signs * mask))
    return StepSeconds(tuple(terms))


def kernel_seconds(trace: Trace, profile: DeviceProfile, batch: int) -> list[tuple[Floats, list[Kernel]]]:
    """Times of the backbone's kernels when everything trains, (rows,), with the kernels they come from, by phase."""
    latency, rows = profile.latency, trace.layers
    work = Work.of(trace, batch, profile.memory.dtypes)
    count, trained = len(rows), np.array([layer.weights > 0 for layer in rows])
    phases = []
    for phase, moved in ((latency.forward, work.forward), (latency.dx, work.dx), (latency.dw, work.dw)):
        kernels = _kernels(phase, rows)
        seconds = _seconds(kernels, work.macs[:count], moved[:count])
        if phase is latency.forward:
            seconds *= latency.forward_scale.value * ~(_is_fused(rows) & latency.fused)
        else:
            seconds *= latency.backward_scale.value * (trained if phase is latency.dw else 1)
        phases.append((profile.slowdown * seconds, kernels))
    return phases


def _packs(layer: Layer) -> bool:
    """Whether a row keeps its derivative as packed bits whatever a policy says."""
    bits = -(-layer.out_elements // 8)
    return layer.kind == "act" and any(kept.extra == bits for kept in layer.retention)


def _signs(layer: Layer) -> bool:
    return layer.kind == "act" and layer.op in SIGN_MASK


def _is_fused(rows: Sequence[Layer]) -> npt.NDArray[np.bool_]:
    return np.array([layer.kind in ("norm", "act") for layer in rows])


def _kernels(phase: Phase, rows: Sequence[Layer]) -> list[Kernel]:
    return [find_kernel(phase, class_keys(layer)) for layer in rows]


def _pass(phase: Phase, keys: tuple[str, ...], moved: Floats) -> Floats:
    """Seconds of one pass over some bytes."""
    kernel = find_kernel(phase, keys)
    return kernel.per_call + moved * kernel.per_byte


def _each(kernels: Sequence[Kernel], name: str) -> Floats:
    return np.array([getattr(kernel, name) for kernel in kernels])


def _seconds(kernels: Sequence[Kernel], macs: Floats, moved: Floats) -> Floats:
    return _each(kernels, "per_call") + macs * _each(kernels, "per_mac") + moved * _each(kernels, "per_byte")
