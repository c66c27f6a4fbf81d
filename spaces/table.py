"""Update policies as arrays: one row per policy, one column per row of the trace.

Every cost and every search works on this table, so that one policy and a hundred thousand take the same path.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import InputError
from .lite_shape import lite_shape
from .operations import SIGN_MASK
from .policy import Channels, LiteUpdate, UpdatePolicy
from .trace import INPUT, Layer, Trace

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

#: Kinds of rows whose weight trains whole or not at all, and reads no input.
SCALED = ("norm", "parameter")


@dataclass(frozen=True)
class UpdateTable:
    """What N policies train of a trace with R rows; every array is (N, R), column by column in memory (order F).

    Attributes:
        trace: The backbone.
        present: Whether the row exists: rows of lite residual modules only where a policy has the module.
        inputs: Input channels of the weight that train; 0 where the weight is frozen.
        outputs: Output channels of the weight that train; 0 where the weight is frozen.
        bias: Whether the bias (of a norm: the shift) trains.
        scale: Whether a norm's scale trains, or a parameter by itself.
        statistics: Whether a norm uses and updates batch statistics.
        sign: Whether an activation's derivative is its sign mask.
    """

    trace: Trace
    present: Bools
    inputs: Ints
    outputs: Ints
    bias: Bools
    scale: Bools
    statistics: Bools
    sign: Bools

    def __len__(self) -> int:
        return len(self.present)

    def __getitem__(self, rows: slice | Ints | Bools) -> "UpdateTable":
        if isinstance(rows, slice):
            arrays = {name: array[rows] for name, array in self._arrays()}
        else:
            index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
            arrays = {name: array.T.take(index, axis=1).T for name, array in self._arrays()}
        return UpdateTable(self.trace, **arrays)

    def _arrays(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        return ((f.name, getattr(self, f.name)) for f in fields(self) if f.name != "trace")

    @classmethod
    def frozen(cls, trace: Trace, count: int) -> "UpdateTable":
        """A table of `count` policies that train the head alone."""
        shape = (count, len(trace.rows))
        flags = {name: np.zeros(shape, np.bool_, "F") for name in ("present", "bias", "scale", "statistics", "sign")}
        table = cls(trace, inputs=np.zeros(shape, np.int64, "F"), outputs=np.zeros(shape, np.int64, "F"), **flags)
        table.present[:, : len(trace)] = True
        table.train_whole(trace.head)
        return table

    def train_whole(self, row: int, which: Any = slice(None)) -> None:
        """Let a row's whole weight, scale and bias train, for all policies or for those in `which`."""
        layer = self.trace.rows[row]
        if layer.kind in SCALED:
            self.scale[which, row] = True
        elif layer.weights:
            self.inputs[which, row] = layer.in_channels
            self.outputs[which, row] = layer.out_channels
        self.bias[which, row] = layer.bias

    def set_lite(self, block: int, present: Bools, shift: Bools | bool = True) -> None:
        """Say of every policy whether a lite residual module stands beside a block.

        Args:
            block: Index of the block.
            present: Whether it does, (N,).
            shift: Whether the shift of the module's last norm trains, one value or (N,).
        """
        lite = self.trace.blocks[block].lite
        for row in lite:
            layer = self.trace.rows[row]
            self.present[:, row] = present
            if layer.kind == "norm":
                self.scale[:, row] = self.bias[:, row] = present
            elif layer.weights:
                np.multiply(present, layer.in_channels, out=self.inputs[:, row])
                np.multiply(present, layer.out_channels, out=self.outputs[:, row])
        self.bias[:, max(row for row in lite if self.trace.rows[row].kind == "norm")] = present & shift

    @classmethod
    def of(cls, trace: Trace, policies: Sequence[UpdatePolicy]) -> "UpdateTable":
        """The table of some policies.

        Raises:
            InputError: A policy is for another backbone: it names a layer or block that this one has not.
        """
        table = cls.frozen(trace, len(policies))
        blocks = {block.name: index for index, block in enumerate(trace.blocks)}
        lites, shifts = np.zeros((2, len(policies), len(blocks)), np.bool_)
        for n, policy in enumerate(policies):
            if policy.head != trace.layers[trace.head].name:
                raise InputError(f"policy {policy.hash} trains the head {policy.head}, which {trace.name} has not")
            for entry in policy.layers:
                row, layer = _find(trace, entry.name, ("conv", "linear"))
                if entry.weight == "all":
                    table.inputs[n, row], table.outputs[n, row] = layer.in_channels, layer.out_channels
                elif isinstance(entry.weight, Channels):
                    _check_channels(layer, entry.weight)
                    count = len(entry.weight.index)
                    by_input = entry.weight.axis == "in"
                    table.inputs[n, row] = count if by_input or layer.depthwise else layer.in_channels
                    table.outputs[n, row] = count if not by_input or layer.depthwise else layer.out_channels
                if entry.bias and not layer.bias:
                    raise InputError(f"{layer.name} has no bias to train")
                table.bias[n, row] = entry.bias
            for norm in policy.norms:
                row, _ = _find(trace, norm.name, ("norm",))
                table.bias[n, row], table.scale[n, row] = norm.shift, norm.scale
                table.statistics[n, row] = norm.statistics
            for name in policy.parameters:
                table.scale[n, _find(trace, name, ("parameter",))[0]] = True
            for name in policy.sign_masks:
                row, layer = _find(trace, name, ("act",))
                if layer.op not in SIGN_MASK:
                    raise InputError(
                        f"{name} is a {layer.op}: a sign mask may stand for {', '.join(sorted(SIGN_MASK))}"
                    )
                table.sign[n, row] = True
            for lite in policy.lite_residuals:
                if lite.block not in blocks or not trace.blocks[blocks[lite.block]].lite:
                    raise InputError(f"{trace.name} has no block {lite.block} that can take a lite residual module")
                _check_lite(trace, blocks[lite.block], lite, policy.input_shape)
                lites[n, blocks[lite.block]], shifts[n, blocks[lite.block]] = True, lite.shift
        for block in np.flatnonzero(lites.any(0)):
            table.set_lite(int(block), lites[:, block], shifts[:, block])
        return table

    @cached_property
    def trains_weight(self) -> Bools:
        """Whether any of the row's weight trains, or its scale."""
        return (self.outputs > 0) | self.scale

    @cached_property
    def trains(self) -> Bools:
        """Whether any parameter of the row trains."""
        return self.trains_weight | self.bias

    @cached_property
    def live_inputs(self) -> Bools:
        """Whether a gradient must flow to the row's input: something that trains stands before it."""
        return self._liveness[0]

    @cached_property
    def live(self) -> Bools:
        """Whether a gradient flows to the row's output: something that trains stands before or in it."""
        return self._liveness[1]

    @cached_property
    def _liveness(self) -> tuple[Bools, Bools]:
        entering = np.zeros_like(self.present)
        leaving = np.zeros_like(self.present)
        lite = {block.output: block.lite[-1] for block in self.trace.blocks if block.lite}
        for row in self.trace.order:
            for source in self.trace.rows[row].inputs:
                if source != INPUT:
                    entering[:, row] |= leaving[:, source]
            entering[:, row] &= self.present[:, row]
            if self.trace.rows[row].itemsize:
                entering[:, row] = False  # no gradient passes through what is no float
            leaving[:, row] = entering[:, row] | (self.trains[:, row] & self.present[:, row])
            if row in lite:
                leaving[:, row] |= leaving[:, lite[row]]
        return entering, leaving

    @cached_property
    def trained_weights(self) -> Ints:
        """Trained elements of each row's weight or scale."""
        counts = np.zeros_like(self.inputs)
        for row, layer in enumerate(self.trace.rows):
            if layer.kind in SCALED:
                np.multiply(self.scale[:, row], layer.weights, out=counts[:, row])
            elif layer.depthwise:  # its channels are both inputs and outputs
                np.multiply(self.inputs[:, row], layer.weights // layer.in_channels, out=counts[:, row])
            elif layer.weights:
                np.multiply(self.inputs[:, row], self.outputs[:, row], out=counts[:, row])
                counts[:, row] *= layer.weights * layer.groups // (layer.in_channels * layer.out_channels)
                if layer.groups > 1:  # an input channel feeds the outputs of its own group alone
                    counts[:, row] //= layer.groups
        return counts

    @cached_property
    def trained_params(self) -> Ints:
        """Trained elements of each row, biases and shifts included."""
        counts = np.zeros_like(self.inputs)
        for row, layer in enumerate(self.trace.rows):
            if layer.bias:
                np.multiply(self.bias[:, row], layer.biases, out=counts[:, row])
            if layer.weights:
                counts[:, row] += self.trained_weights[:, row]
        return counts


def _find(trace: Trace, name: str, kinds: tuple[str, ...]) -> tuple[int, Layer]:
    row = trace.index.get(name)
    if row is None or trace.rows[row].kind not in kinds:
        raise InputError(f"{trace.name} has no {' or '.join(kinds)} named {name}: is the policy for another backbone?")
    return row, trace.rows[row]


def _check_lite(trace: Trace, block: int, lite: LiteUpdate, input_shape: tuple[int, ...]) -> None:
    found = trace.blocks[block]
    expected, stated = lite_shape(found.in_shape, found.out_shape, trace.input_shape), lite.shape
    if expected is not None and input_shape != trace.input_shape:  # kernels and strides follow the size of the map
        expected = replace(stated, in_channels=expected.in_channels, out_channels=expected.out_channels)
    if stated != expected:
        raise InputError(f"the lite residual module of {lite.block} must be {expected}, not {stated}")


def _check_channels(layer: Layer, channels: Channels) -> None:
    if not layer.sliceable:
        raise InputError(f"{layer.name} standardises its weight, which couples its channels: it trains whole")
    count = layer.in_channels if channels.axis == "in" else layer.out_channels
    if channels.index[-1] >= count:
        raise InputError(f"{layer.name} has {count} {channels.axis}put channels, no channel {channels.index[-1]}")
