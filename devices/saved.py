"""Which tensors an applied policy keeps from the forward to the backward pass, and how many bytes they are.

The rules are those of the layers in `spaces.functions`, tensor by tensor, so that the answer is what
`torch.autograd.graph.saved_tensors_hooks` counts (`devices.measure`), to the byte. Arrays here are (R, N), rows of
the trace first, since the loops run over rows and the arithmetic over policies.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..spaces.table import UpdateTable
from ..spaces.trace import INPUT, Layer, Trace

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Element = TypeVar("Element", bound=np.generic)

#: Bytes of a batch statistic, whatever the activations' type.
STATISTIC_BYTES = 4


@dataclass(frozen=True)
class Kept:
    """What N policies keep.

    Attributes:
        holders: Per row, who keeps its output: (row, mask (N,)) in data-flow order. The last entry is that of the
            network's input, so that `INPUT` indexes it.
        extra: Bytes that each row keeps besides tensors of the data flow, (R, N).
    """

    holders: tuple[tuple[tuple[int, Bools], ...], ...]
    extra: Ints

    @cached_property
    def outputs(self) -> Bools:
        """Whether the output of each row is kept by anyone, (R + 1, N); the last is the network's input."""
        mask = np.zeros((len(self.holders), self.extra.shape[1]), np.bool_)
        for row, holders in enumerate(self.holders):
            for _, keeps in holders:
                mask[row] |= keeps
        return mask

    def row_bytes(self, trace: Trace, scale: int) -> Ints:
        """Bytes kept per row, (N, R), with `scale` bytes for each element of an output."""
        sizes = scale * np.array([layer.out_elements for layer in trace.rows])
        result: Ints = (self.outputs[:-1] * sizes[:, None] + self.extra).T
        return result


def saved_bytes(table: UpdateTable, batch: int, element_bytes: int = 4) -> Ints:
    """Bytes kept for the backward pass, per row.

    A tensor is counted once, at the row that produces it, however many rows keep it; copies, masks and statistics
    are counted at the row that makes them. The network's input, parameters and buffers are left out.

    Args:
        table: N policies of a trace with R rows.
        batch: Samples of one step.
        element_bytes: Bytes of an activation.

    Returns:
        Bytes, (N, R).
    """
    return find_kept(table, batch, element_bytes).row_bytes(table.trace, batch * element_bytes)


def find_kept(table: UpdateTable, batch: int, element_bytes: int = 4) -> Kept:
    """What is kept, and by whom.

    - A conv or linear keeps its input if its weight trains: by reference where all input channels take part (a set
      of output channels too), else a copy of the chosen channels.
    - A batch norm on frozen statistics keeps its input if its scale trains. With batch statistics it is PyTorch's
      own and keeps its input, mean and inverse deviation whenever a gradient reaches it. So do group and layer
      norms, whose statistics are per sample.
    - Any other operation keeps what was observed of it (`Layer.retention`) for each input that needs a gradient;
      an activation with a sign mask keeps one bit an element.
    """
    trace = table.trace
    count = len(trace.rows)
    live_inputs, live = columns(table.live_inputs), columns(table.live)
    inputs, scale = columns(table.inputs), columns(table.scale)
    statistics, sign = columns(table.statistics), columns(table.sign)
    present, trains = columns(table.present), columns(table.trains & table.present)
    holders: list[list[tuple[int, Bools]]] = [[] for _ in range(count + 1)]
    extra = np.zeros((count, len(table)), np.int64)

    def hold(tensor: int, row: int, keeps: Bools) -> None:
        if keeps.any():
            holders[tensor].append((row, keeps))

    beside = {block.output: block.lite[0] for block in trace.blocks if block.lite}
    for row in trace.order:
        layer = trace.rows[row]
        if layer.kind in ("conv", "linear"):
            whole = inputs[row] == layer.in_channels
            hold(layer.inputs[0], row, whole)
            positions = layer.in_elements // layer.in_channels
            extra[row] = np.where(whole, 0, inputs[row] * (positions * batch * element_bytes))
        elif layer.kind == "norm":
            # Not `live`: the output of a block's last row is the sum with that of a lite residual module.
            reached = live_inputs[row] | trains[row]
            own = reached & statistics[row] if layer.op == "batch" else reached
            hold(layer.inputs[0], row, own | scale[row])
            extra[row] = own * (norm_statistics(layer, batch) * STATISTIC_BYTES)
        elif live_inputs[row].any():
            masked = live_inputs[row] & sign[row]
            needs = [live[source] & ~masked if source != INPUT else None for source in layer.inputs]
            extra[row] = masked * (batch * -(-layer.out_elements // 8))
            own_output = np.zeros(len(table), np.bool_)
            observed = np.zeros(len(table), np.int64)
            for need, retention in zip(needs, layer.retention, strict=True):
                if need is None:
                    continue
                np.maximum(observed, need * (batch * retention.extra), out=observed)
                own_output |= need & retention.output
                for source, keeps in zip(layer.inputs, retention.inputs, strict=True):
                    hold(source, row, need & keeps)
            extra[row] += observed
            if row in beside:
                # The block's output is then the sum with the module's, and this row's own output a tensor apart.
                apart = own_output & present[beside[row]]
                extra[row] += apart * (layer.out_elements * batch * element_bytes)
                own_output &= ~apart
            hold(row, row, own_output)
    return Kept(tuple(merge_holders(entry, trace) for entry in holders), extra)


def columns(array: npt.NDArray[Element]) -> npt.NDArray[Element]:
    """An (N, R) array as (R, N), each row in one piece."""
    return np.ascontiguousarray(array.T)


def merge_holders(holders: list[tuple[int, Bools]], trace: Trace) -> tuple[tuple[int, Bools], ...]:
    """One entry per holding row, in data-flow order."""
    masks: dict[int, Bools] = {}
    for row, keeps in holders:
        masks[row] = masks[row] | keeps if row in masks else keeps
    return tuple((row, masks[row]) for row in trace.order if row in masks) if len(masks) > 1 else tuple(masks.items())


def norm_statistics(layer: Layer, batch: int) -> int:
    """Means and inverse deviations that PyTorch's own norms keep, as numbers of elements."""
    if layer.op == "batch":
        return 2 * layer.weights
    if layer.op == "group":
        return 2 * batch * layer.groups
    return 2 * batch * (layer.in_elements // layer.weights)
