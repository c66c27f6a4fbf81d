"""The time of a training step, from the time of its kernels.

t = constant + input + a_f * sum of F over all rows
    + a_b * (sum of X over rows whose input needs a gradient + sum of W over what trains) + update,

with F, X and W the forward pass, input gradient and weight gradient of a row. Each is
`overhead + MACs / P + elements written / E + bytes / B` by the row's class in that phase (`devices.kernels`), additive
and non-negative, so that training more never costs less. A weight gradient is charged its overhead and the share of the
weight that trains. Rows in front of the first trained one cost their forward pass alone. Source: kernels as nn-Meter
predicts them (Zhang et al. 2021), the step as ElasticTrainer adds them up (Huang et al. 2023), with a whole step's
coefficients.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from ...spaces.operations import SIGN_MASK
from ...spaces.optimizers import OPTIMIZERS
from ...spaces.table import UpdateTable
from ...spaces.trace import Layer, Trace
from ..profile import DeviceProfile
from ..profile.kernels import Kernel, PassKernels, class_keys, find_kernel, is_assumed
from ..profile.model import Dtypes

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.bool_] | npt.NDArray[np.int64]

#: Classes of packing and unpacking a mask, finest first.
MASK_KEYS = ("mask", "act", "elementwise")


@dataclass(frozen=True)
class Load:
    """What one kernel of each row does in a step, whole weights trained; arrays are (R,).

    Attributes:
        macs: Multiply-accumulates.
        outputs: Elements written.
        bytes: Bytes read and written.
    """

    macs: Floats
    outputs: Floats
    bytes: Floats

    def first(self, count: int) -> "Load":
        """The load of the first rows alone."""
        return Load(self.macs[:count], self.outputs[:count], self.bytes[:count])

    def seconds(self, kernels: Sequence[Kernel]) -> Floats:
        """Time of each row's kernel, (R,)."""
        return (
            _each(kernels, "per_call")
            + self.macs * _each(kernels, "per_mac")
            + self.outputs * _each(kernels, "per_output")
            + self.bytes * _each(kernels, "per_byte")
        )


@dataclass(frozen=True)
class Work:
    """What the kernels of each row do in one step.

    Attributes:
        forward: The forward pass reads inputs and weight, and writes the output.
        dx: The gradient of the inputs reads the output's and the weight, and writes its own.
        dw: The gradient of the weight reads the input and the output's gradient, and writes its own.
        bias: The gradient of a bias reads the output's.
        mask: A derivative of 0 or 1 is packed into bits, one an element; 0 where a row never does.
    """

    forward: Load
    dx: Load
    dw: Load
    bias: Load
    mask: Load

    @classmethod
    def of(cls, trace: Trace, batch: int, dtypes: Dtypes) -> "Work":
        """The work of every row of a trace."""
        rows = trace.rows
        sizes = [*(layer.elements(batch) for layer in rows), batch * prod(trace.input_shape)]  # the last: INPUT
        inputs = np.array([sum(sizes[source] for source in layer.inputs) for layer in rows], np.float64)
        outputs = np.array([layer.elements(batch) for layer in rows], np.float64)
        # A norm's scale is a few values beside two maps: only the weights of convs and linears count.
        weights = np.array([layer.weights if layer.macs_dw else 0 for layer in rows], np.float64)
        macs = np.array([batch * layer.macs_forward for layer in rows], np.float64)
        macs_dx = np.array([batch * layer.macs_dx for layer in rows], np.float64)
        biases = np.array([layer.biases for layer in rows], np.float64)
        packed = outputs * np.array([_packs(layer) or _signs(layer) for layer in rows])
        act, grad, frozen = dtypes.activation, dtypes.gradient, dtypes.frozen
        return cls(
            forward=Load(macs, outputs, (inputs + outputs) * act + weights * frozen),
            dx=Load(macs_dx, inputs, (inputs + outputs) * grad + weights * frozen),
            dw=Load(macs, weights, inputs * act + (outputs + weights) * grad),
            bias=Load(0 * macs, biases, outputs * grad),
            mask=Load(0 * macs, packed, packed * (act + 1 / 8)),
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
        used = ((runs.T[seconds != 0], seconds[seconds != 0]) for runs, seconds in self.terms)
        return np.asarray(sum(seconds @ runs for runs, seconds in used))

    def rows(self) -> Floats:
        """Seconds of each row, (N, R); the input is charged to the first row, the constant to the head."""
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
    return StepTimes.of(table.trace, profile, batch, optimizer).seconds(table)


@dataclass(frozen=True)
class StepTimes:
    """How long each row does a thing, (R,) each: what all policies' steps share.

    Attributes:
        present: Forward pass.
        live_inputs: Input gradient.
        per_weight: An element's share of the weight gradient, and its update.
        weights: What a weight gradient costs besides.
        bias: Bias gradient, and its update.
        signs: Sign masks where PyTorch's activation packs none.
    """

    present: Floats
    live_inputs: Floats
    per_weight: Floats
    weights: Floats
    bias: Floats
    signs: Floats

    @classmethod
    def of(cls, trace: Trace, profile: DeviceProfile, batch: int, optimizer: str) -> "StepTimes":
        """The times of a network's rows on a device."""
        latency, rows = profile.latency, trace.rows
        work = Work.of(trace, batch, profile.memory.dtypes)
        a_f = latency.forward_scale.value * profile.slowdown
        a_b = latency.backward_scale.value * profile.slowdown

        forward = work.forward.seconds(_kernels(latency.forward, rows))
        if latency.fused:
            forward[_is_fused(rows)] = 0.0
        dx = work.dx.seconds(_kernels(latency.dx, rows))
        dw_kernels = _kernels(latency.dw, rows)
        dw, dw_call = work.dw.seconds(dw_kernels), _each(dw_kernels, "per_call")
        bias = work.bias.seconds([find_kernel(latency.dw, ("bias", "elementwise"))] * len(rows))
        mask = a_f * work.mask.seconds([find_kernel(latency.forward, MASK_KEYS)] * len(rows))
        mask += a_b * work.mask.seconds([find_kernel(latency.dx, MASK_KEYS)] * len(rows))
        packs = np.array([_packs(layer) for layer in rows])
        signs = np.array([_signs(layer) and not _packs(layer) for layer in rows])
        weights = np.array([max(1, layer.weights) for layer in rows])
        biases = np.array([layer.biases for layer in rows])
        per_tensor = profile.slowdown * latency.update.per_call
        per_value = profile.slowdown * latency.update.per_byte * 4 * OPTIMIZERS.load(optimizer).traffic

        once = a_f * forward
        once[0] += profile.slowdown * _input_seconds(trace, profile, batch)
        once[trace.head] += profile.slowdown * latency.constant.value
        return cls(
            present=once,
            live_inputs=a_b * dx + packs * mask,
            per_weight=np.where([layer.weights > 0 for layer in rows], a_b * (dw - dw_call) / weights + per_value, 0.0),
            weights=a_b * dw_call + per_tensor,
            bias=a_b * bias + biases * per_value + per_tensor,
            signs=signs * mask,
        )

    def seconds(self, table: UpdateTable) -> StepSeconds:
        """The times of N policies' steps."""
        terms: list[tuple[Counts, Floats]] = [
            (table.present, self.present),
            (table.live_inputs, self.live_inputs),
            (table.trained_weights, self.per_weight),
            (table.trains_weight, self.weights),
            (table.bias, self.bias),
        ]
        if self.signs.any():
            terms.append((table.sign & table.live_inputs, self.signs))
        return StepSeconds(tuple(terms))


def assumed_share(trace: Trace, profile: DeviceProfile, batch: int) -> float:
    """Share of the time of a full training step, 0 to 1, that is by kernels which no one has measured."""
    latency, layers = profile.latency, trace.layers
    work = Work.of(trace, batch, profile.memory.dtypes)
    a_f, a_b = latency.forward_scale.value, latency.backward_scale.value
    trained = np.array([layer.weights > 0 for layer in layers])
    total = assumed = 0.0
    for pass_kernels, load, factor in (
        (latency.forward, work.forward, a_f * ~(_is_fused(layers) & latency.fused)),
        (latency.dx, work.dx, a_b * np.ones(len(layers))),
        (latency.dw, work.dw, a_b * trained),
    ):
        seconds = factor * load.first(len(layers)).seconds(_kernels(pass_kernels, layers))
        total += float(seconds.sum())
        assumed += float(seconds @ np.array([is_assumed(pass_kernels, layer) for layer in layers], np.float64))
    return assumed / total if total else 0.0


def _input_seconds(trace: Trace, profile: DeviceProfile, batch: int) -> float:
    kernel = profile.latency.forward.get("input")
    if kernel is None:
        return 0.0
    count = np.array([batch * prod(trace.input_shape)], np.float64)
    return float(Load(0 * count, count, count * profile.memory.dtypes.activation).seconds([kernel])[0])


def _packs(layer: Layer) -> bool:
    """Whether a row keeps its derivative as packed bits whatever a policy says."""
    return layer.kind == "act" and any(kept.extra == layer.mask_bytes for kept in layer.kept.each)


def _signs(layer: Layer) -> bool:
    return layer.kind == "act" and layer.op in SIGN_MASK


def _is_fused(rows: Sequence[Layer]) -> npt.NDArray[np.bool_]:
    return np.array([layer.kind in ("norm", "act") for layer in rows])


def _kernels(kernels: PassKernels, rows: Sequence[Layer]) -> list[Kernel]:
    return [find_kernel(kernels, class_keys(layer)) for layer in rows]


def _each(kernels: Sequence[Kernel], name: str) -> Floats:
    return np.array([getattr(kernel, name) for kernel in kernels])
