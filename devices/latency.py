"""The time of a training step, from rates per class of operation.

t = a_f * sum of F over all rows + a_b * (sum of X over rows whose input needs a gradient + sum of W over what trains)
    + update,

with F, X and W the forward pass, input gradient and weight gradient of a row, each its multiply-accumulates or bytes
over its class's rate, and an overhead for each operation that runs. A weight gradient is charged for the share of the
weight that trains. Rows in front of the first trained one cost their forward pass alone. All coefficients are
non-negative, so that training more never costs less.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ..spaces.table import UpdateTable
from ..spaces.trace import Layer, Trace
from .profile import DeviceProfile, Rates

Floats = npt.NDArray[np.float64]
OpClass = Literal["dense", "pointwise", "depthwise", "linear", "elementwise"]
CLASSES: tuple[OpClass, ...] = get_args(OpClass)

#: Bytes that an optimizer reads and writes per trained value in 4 bytes: gradient, weight and state.
UPDATE_BYTES = {"sgd": 12, "sgd-momentum": 20, "adam": 28}


def op_class(layer: Layer) -> OpClass:
    """The class whose rate a row runs at."""
    if layer.kind == "linear":
        return "linear"
    if layer.kind != "conv":
        return "elementwise"
    if layer.depthwise:
        return "depthwise"
    return "pointwise" if layer.kernel == (1, 1) else "dense"


@dataclass(frozen=True)
class Work:
    """What each row does in a step, in its class's unit: multiply-accumulates, or bytes for elementwise rows.

    Attributes:
        classes: Number of each row's class in `CLASSES`, (R,).
        amount: Of the forward pass, the input gradient, and the gradient of a whole weight alike, (R,).
        output_bytes: Bytes of the output, which a bias gradient reads, (R,).
    """

    classes: npt.NDArray[np.int64]
    amount: Floats
    output_bytes: Floats

    @classmethod
    def of(cls, trace: Trace, batch: int, element_bytes: int) -> "Work":
        """The work of every row of a trace."""
        rows = trace.rows
        sizes = [*(layer.out_elements for layer in rows), prod(trace.input_shape)]  # the last is that of INPUT
        moved = [
            batch * element_bytes * (sum(sizes[source] for source in layer.inputs) + layer.out_elements)
            for layer in rows
        ]
        return cls(
            np.array([CLASSES.index(op_class(layer)) for layer in rows]),
            np.array([batch * layer.macs_forward or moved[n] for n, layer in enumerate(rows)], np.float64),
            np.array([batch * element_bytes * layer.out_elements for layer in rows], np.float64),
        )


@dataclass(frozen=True)
class StepSeconds:
    """Seconds of N policies' steps, as rates per row and what of each row runs.

    Attributes:
        terms: Pairs of how often each row does a thing, (N, R), and how long that takes, (R,): forward pass, input
            gradient, weight gradient, bias gradient, and the overhead of training a row.
    """

    terms: tuple[tuple[npt.NDArray[np.bool_] | npt.NDArray[np.int64], Floats], ...]

    @property
    def total(self) -> Floats:
        """Seconds of each policy's step, (N,)."""
        return np.asarray(sum(runs @ seconds for runs, seconds in self.terms))

    def rows(self) -> Floats:
        """Seconds of each row, (N, R)."""
        return np.asarray(sum(runs * seconds for runs, seconds in self.terms))


def step_seconds(table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str) -> StepSeconds:
    """The time of a step.

    A bias or norm shift costs one pass over the output's gradient, a norm's scale one over its input and gradient.

    Args:
        table: N policies.
        profile: The device and runtime.
        batch: Samples of one step.
        optimizer: adam, sgd or sgd-momentum.
    """
    latency, dtypes = profile.latency, profile.memory.dtypes
    rows = table.trace.rows
    ahead = Work.of(table.trace, batch, dtypes.activation)
    back = Work.of(table.trace, batch, dtypes.gradient)
    a_f, a_b = latency.forward_scale.value, latency.backward_scale.value
    overhead = latency.backward.overhead.value

    forward = ahead.amount / _rates(latency.forward)[ahead.classes] + latency.forward.overhead.value
    if latency.fused:
        forward[[layer.kind in ("norm", "act") for layer in rows]] = 0.0
    gradient = back.amount / _rates(latency.backward)[back.classes]
    weights = np.array([max(1, layer.weights) for layer in rows])
    biases = np.array([layer.biases for layer in rows])
    update = UPDATE_BYTES[optimizer] / latency.backward.elementwise.value
    return StepSeconds(
        (
            (table.present, a_f * forward),
            (table.live_inputs, a_b * (gradient + overhead)),
            (table.trained_weights, a_b * gradient / weights + update),
            (table.bias, a_b * back.output_bytes / latency.backward.elementwise.value + biases * update),
            (table.trains, np.full(len(rows), (a_b + 1) * overhead)),
        )
    )


def _rates(rates: Rates) -> Floats:
    return np.array([getattr(rates, name).value for name in CLASSES])
