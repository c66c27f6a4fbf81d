"""Which tensors an applied policy keeps from the forward to the backward pass, and how many bytes they are.

The rules are those of the layers in `spaces.functions`, tensor by tensor, so that the answer is what
`torch.autograd.graph.saved_tensors_hooks` counts (`devices.measure`), to the byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...spaces.operations import READ_OFF_OUTPUT
from ...spaces.table import UpdateTable
from ...spaces.trace import INPUT, Layer, Retention, Retentions, Trace
from .columns import Amount, Ints, Mask, both, columns, either, larger, masks, times, without

#: Bytes of a batch statistic, whatever the activations' type.
STATISTIC_BYTES = 4


@dataclass(frozen=True)
class Kept:
    """What N policies keep.

    Attributes:
        count: N.
        holders: Per row whose output is kept (`INPUT` for the network's input), who keeps it: row and mask, in the
            order of the forward pass.
        outputs: Per such row, the policies in which anyone does.
        extra: Per row that keeps tensors besides those of the data flow, their bytes.
        besides: Per such row, the policies in which it does.
    """

    count: int
    holders: dict[int, list[tuple[int, Mask]]] = field(default_factory=dict)
    outputs: dict[int, Mask] = field(default_factory=dict)
    extra: dict[int, Amount] = field(default_factory=dict)
    besides: dict[int, Mask] = field(default_factory=dict)

    def hold(self, tensor: int, row: int, keeps: Mask) -> None:
        """Note that a row keeps a tensor."""
        if keeps is False:
            return
        holders = self.holders.setdefault(tensor, [])
        if holders and holders[-1][0] == row:
            holders[-1] = (row, either(holders[-1][1], keeps))
        else:
            holders.append((row, keeps))
        self.outputs[tensor] = either(self.outputs.get(tensor, False), keeps)

    def add(self, row: int, keeps: Mask, amount: Amount) -> None:
        """Note that a row keeps bytes that are no output; an array of them is 0 where it does not."""
        if keeps is False or (isinstance(amount, int) and not amount):
            return
        amount = times(keeps, amount) if isinstance(amount, int) else amount
        self.extra[row] = self.extra.get(row, 0) + amount
        self.besides[row] = either(self.besides.get(row, False), keeps)

    def total(self, trace: Trace, batch: int, element_bytes: int) -> Ints:
        """Bytes kept in all, (N,)."""
        total = np.zeros(self.count, np.int64)
        for row, keeps in self.outputs.items():
            if row != INPUT:
                total += times(keeps, trace.rows[row].bytes(batch, element_bytes))
        for amount in self.extra.values():
            total += amount
        return total

    def row_bytes(self, trace: Trace, batch: int, element_bytes: int) -> Ints:
        """Bytes kept per row, (N, R)."""
        result = np.zeros((len(trace.rows), self.count), np.int64)
        for row, keeps in self.outputs.items():
            if row != INPUT:
                result[row] += times(keeps, trace.rows[row].bytes(batch, element_bytes))
        for row, amount in self.extra.items():
            result[row] += amount
        return result.T


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
    return find_kept(table, batch, element_bytes).row_bytes(table.trace, batch, element_bytes)


def find_kept(table: UpdateTable, batch: int, element_bytes: int = 4) -> Kept:
    """What is kept, and by whom.

    - A conv or linear keeps its input if its weight trains: by reference where all input channels take part (a set
      of output channels too), else a copy of the chosen channels.
    - A batch norm on frozen statistics keeps its input if its scale trains. With batch statistics it is PyTorch's
      own and keeps its input, mean and inverse deviation whenever a gradient reaches it. So do group and layer
      norms, whose statistics are per sample.
    - Any other operation keeps what was observed of it (`Layer.kept`) for each input that needs a gradient;
      an activation with a sign mask keeps one bit an element.
    - ReLU and ReLU6 without a sign mask keep their output instead of a mask where a conv or linear keeps it anyway.
    """
    return _Finder(table, batch, element_bytes).find()


class _Finder:
    def __init__(self, table: UpdateTable, batch: int, element_bytes: int) -> None:
        self.trace, self.batch, self.element_bytes = table.trace, batch, element_bytes
        self.live_inputs, self.live = masks(table.live_inputs), masks(table.live)
        self.trains = masks(table.trains & table.present)
        channels = np.array([layer.in_channels for layer in self.trace.rows])
        self.weights, self.inputs = masks(table.trains_weight), columns(table.inputs)
        self.whole = masks(table.trains_weight & (table.inputs == channels))
        self.scale, self.statistics = masks(table.scale), masks(table.statistics)
        self.sign, self.present = masks(table.sign), masks(table.present)
        self.beside = {block.output: block.lite[0] for block in self.trace.blocks if block.lite}
        self.readers: dict[int, list[int]] = {}
        for row in self.trace.order:
            if self.trace.rows[row].kind in ("conv", "linear") and not self.trace.rows[row].viewed:
                self.readers.setdefault(self.trace.rows[row].inputs[0], []).append(row)
        self.kept = Kept(len(table))

    def find(self) -> Kept:
        for row in self.trace.order:
            layer = self.trace.rows[row]
            if layer.kind in ("conv", "linear"):
                self._weighted(row, layer)
            elif layer.kind == "norm":
                # Not `live`: the output of a block's last row is the sum with that of a lite residual module.
                own = either(self.live_inputs[row], self.trains[row])
                own = both(own, self.statistics[row]) if layer.op == "batch" else own
                reads, samples = either(own, self.scale[row]), layer.samples(self.batch)
                if layer.copies(self.batch):
                    self.kept.add(row, reads, layer.in_elements * samples * self.element_bytes)
                else:
                    self.kept.hold(layer.inputs[0], row, reads)
                self.kept.add(row, own, norm_statistics(layer, self.batch) * STATISTIC_BYTES)
            elif self.live_inputs[row] is not False:
                self._operation(row, layer)
        return self.kept

    def _weighted(self, row: int, layer: Layer) -> None:
        whole = self.whole[row]
        self.kept.hold(layer.inputs[0], row, whole)
        partly = without(self.weights[row], whole)
        if partly is not False:
            per_channel = layer.in_elements // layer.in_channels * layer.samples(self.batch) * self.element_bytes
            self.kept.add(row, partly, times(partly, self.inputs[row] * per_channel))

    def _operation(self, row: int, layer: Layer) -> None:
        masked = both(self.live_inputs[row], self.sign[row])
        self.kept.add(row, masked, layer.samples(self.batch) * layer.mask_bytes)
        read_off = without(self._read_off(row, layer), masked)
        own_output = read_off
        needs = [
            False if source == INPUT else without(without(self.live[source], masked), read_off)
            for source in layer.inputs
        ]
        observed = layer.kept.of(self.batch)
        needs, instead = exchanged(needs, layer.inputs, observed)
        for need, retention in (*zip(needs, observed.each, strict=True), *instead):
            if retention.output:
                own_output = either(own_output, need)
            for tensor, keeps in zip(layer.inputs, retention.inputs, strict=True):
                if keeps:
                    self.kept.hold(tensor, row, need)
        self.kept.add(row, *observed_extra(needs, observed, self.batch))
        for need, retention in instead:
            self.kept.add(row, need, self.batch * retention.extra + retention.fixed)
        if row in self.beside:
            # The block's output is then the sum with the module's, and this row's own output a tensor apart.
            apart = both(own_output, self.present[self.beside[row]])
            self.kept.add(row, apart, layer.bytes(self.batch, self.element_bytes))
            own_output = without(own_output, apart)
        self.kept.hold(row, row, own_output)

    def _read_off(self, row: int, layer: Layer) -> Mask:
        """Where an activation's derivative is read off its output, since a layer that reads that keeps all of it."""
        kept: Mask = False
        if layer.op in READ_OFF_OUTPUT:
            for reader in self.readers.get(row, ()):
                kept = either(kept, self.whole[reader])
            if row in self.beside:  # the readers read the sum with the module's output
                kept = without(kept, self.present[self.beside[row]])
        return both(kept, self.live_inputs[row])


def exchanged(
    needs: Sequence[Mask], inputs: Sequence[int], observed: Retentions
) -> tuple[list[Mask], list[tuple[Mask, Retention]]]:
    """Where an operation keeps something else than what each of its inputs needs.

    Args:
        needs: Of each input, in which policies it needs a gradient.
        inputs: The row that each reads.
        observed: What is kept.

    Returns:
        The needs in all other policies; and what is kept in these.
    """
    left, instead = list(needs), []
    for together in observed.joint:
        if together.instead is None:
            continue
        rows = {inputs[place] for place in together.inputs}
        exactly: Mask = True
        for need, row in zip(needs, inputs, strict=True):
            exactly = both(exactly, need) if row in rows else without(exactly, need)
        left = [without(need, exactly) for need in left]
        instead.append((exactly, together.instead))
    return left, instead


def observed_extra(needs: Sequence[Mask], observed: Retentions, batch: int) -> tuple[Mask, Amount]:
    """What an operation was observed to keep besides its inputs and output.

    Args:
        needs: Of each input, in which policies it needs a gradient.
        observed: What is kept for each, and for several together.
        batch: Samples of one step.

    Returns:
        In which policies anything is, and bytes, which are 0 in the others.
    """
    seen: Mask = False
    amount: Amount = 0
    for need, kept in zip(needs, observed.each, strict=True):
        if kept.extra or kept.fixed:
            amount = larger(amount, times(need, batch * kept.extra + kept.fixed))
            seen = either(seen, need)
    for together in observed.joint:
        every: Mask = together.instead is None
        for place in together.inputs:
            every = both(every, needs[place])
        if every is not False:
            amount = larger(amount, times(every, batch * together.extra + together.fixed))
            seen = either(seen, every)
    return seen, amount


def norm_statistics(layer: Layer, batch: int) -> int:
    """Means and inverse deviations that PyTorch's own norms keep, as numbers of elements."""
    batch = layer.samples(batch)
    if layer.op == "batch":
        return 2 * layer.weights
    if layer.op == "group":
        return 2 * batch * layer.groups * layer.fold
    return 2 * batch * (layer.in_elements // layer.weights)
