"""What plain PyTorch keeps: the backbone's own layers, with `requires_grad` set as a policy says.

A user who freezes layers and trains in a plain loop gets this. PyTorch's layers decide by whether a gradient passes,
not by what needs it:

- conv: its whole input whenever its output needs a gradient, be it frozen, trained for its bias alone, or trained;
- batch, group and layer norm: the input whenever the output needs a gradient, and means and inverse deviations, which a
  batch norm in evaluation mode has not; a batch norm is in training mode where the policy trains its statistics;
- linear: its input if its weight trains;
- anything else: what was observed of PyTorch's own operation (`Layer.plain_kept`);
- zero padding in front of a conv makes a padded copy, which the conv keeps in its input's stead.

`requires_grad` is of whole tensors: a weight of which some channels train counts as trained whole, and a sign mask as
the exact activation. The rules are tested against autograd, to the byte.
"""

from dataclasses import replace

import numpy as np

from ...spaces.table import UpdateTable
from ...spaces.trace import INPUT, Trace
from ..step.columns import Mask, both, either, masks, without
from ..step.saved import STATISTIC_BYTES, Kept, exchanged, norm_statistics, observed_extra
from .base import Accounting


def plain_table(table: UpdateTable) -> UpdateTable:
    """The policies as `requires_grad` can say them: weights whole or frozen, activations exact."""
    rows = table.trace.rows
    trains = table.outputs > 0
    return replace(
        table,
        inputs=trains * np.array([layer.in_channels for layer in rows]),
        outputs=trains * np.array([layer.out_channels for layer in rows]),
        sign=np.zeros_like(table.sign),
    )


def find_kept(table: UpdateTable, batch: int, element_bytes: int = 4) -> Kept:
    """What plain layers keep, and which.

    Args:
        table: N policies, as `plain_table` gives them.
        batch: Samples of one step.
        element_bytes: Bytes of an activation.
    """
    trace, kept = table.trace, Kept(len(table))
    live, weights, present = masks(table.live), masks(table.outputs > 0), masks(table.present)
    # Not `live`, of the row that a lite residual module's output is added to.
    reached = masks(table.live_inputs | (table.trains & table.present))
    statistics = masks(table.statistics)
    beside = {block.output: block.lite[0] for block in trace.blocks if block.lite}
    storage = _storages(trace, beside)

    def hold(tensor: int, row: int, keeps: Mask) -> None:
        kept.hold(storage.get(tensor, tensor), row, keeps)

    for row in trace.order:
        layer = trace.rows[row]
        if layer.kind == "conv" and layer.padded:
            kept.add(row, reached[row], layer.padded * layer.samples(batch) * element_bytes)
        elif layer.kind in ("conv", "norm"):
            if layer.copies(batch):
                kept.add(row, reached[row], layer.in_elements * layer.samples(batch) * element_bytes)
            else:
                hold(layer.inputs[0], row, reached[row])
            if layer.kind == "norm":
                own = both(reached[row], statistics[row]) if layer.op == "batch" else reached[row]
                kept.add(row, own, norm_statistics(layer, batch) * STATISTIC_BYTES)
        elif layer.kind == "linear":
            hold(layer.inputs[0], row, weights[row])
        else:
            own_output: Mask = False
            needs = [False if source == INPUT else both(live[source], present[row]) for source in layer.inputs]
            observed = layer.plain_kept.of(batch)
            needs, instead = exchanged(needs, layer.inputs, observed)
            for need, retention in (*zip(needs, observed.each, strict=True), *instead):
                own_output = either(own_output, both(need, retention.output))
                for tensor, keeps in zip(layer.inputs, retention.inputs, strict=True):
                    hold(tensor, row, both(need, keeps))
            kept.add(row, *observed_extra(needs, observed, batch))
            for need, retention in instead:
                kept.add(row, need, batch * retention.extra + retention.fixed)
            if row in beside:
                # The block's output is then the sum with the module's, and this row's own output a tensor apart.
                apart = both(own_output, present[beside[row]])
                kept.add(row, apart, layer.bytes(batch, element_bytes))
                own_output = without(own_output, apart)
            hold(row, row, own_output)
    return kept


def _storages(trace: Trace, beside: dict[int, int]) -> dict[int, int]:
    """Rows that overwrite their input, and the row whose storage that is."""
    storages: dict[int, int] = {}
    for row in trace.order:
        layer = trace.rows[row]
        if layer.in_place and row not in beside and layer.inputs[0] != INPUT:
            storages[row] = storages.get(layer.inputs[0], layer.inputs[0])
    return storages


EAGER = Accounting(
    name="eager",
    summary="what PyTorch's plain layers keep, with requires_grad set as the policy says",
    source="PyTorch, observed",
    caveat="a weight of which some channels train counts as trained whole, and a sign mask as the exact activation",
    see=plain_table,
    keep=find_kept,
)
