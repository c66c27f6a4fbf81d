"""One training step of N policies, operation by operation: the only place that says what a step does.

Each operation names the tensors that it reads and writes, those that it may write in the place of others, and what it
needs besides, with masks that say of which policies that holds. How long a tensor lives follows from who touches it
(`peak`, `compiler`), so a new operation is added here and nowhere else. The order of the operations:

- **Forward**: the trace's rows in data-flow order. A row writes its output and what it keeps besides: masks, copies,
  statistics. What else is kept (`saved`) is read again by the backward pass of who keeps it. What lies below all that
  trains may run line by line, from one whole map to another (`lines`).
- **Loss**: reads the logits, and writes their gradient.
- **Backward**: the rows that a gradient reaches, in reverse order. A row reads the gradient of its output and writes or
  adds to those of its inputs.
  - Arena: a row's weight gradient first, which alone needs what a convolution or linear layer keeps; then the gradient
    of its input, with the weight not yet updated; then the update, so that one weight gradient exists at a time.
    Gradients that several readers give to one tensor are added up in place.
  - Arena with fused updates: the gradient of a layer's input first, then that of its weight, which is added to the
    weight as it is computed. An inverted residual may run a few channels at a time, all its rows in one operation
    (`channels`).
  - Arena, one image at a time: weight gradients are added up over the passes, and every update follows the last.
  - Eager: both gradients in one operation. A gradient is added to one that is there from a temporary of its size. A
    partly trained weight is put together for the time of a pass. One update at the end of the step reads all weight
    gradients; until then the caller holds the images and the logits.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from ...spaces.trace import INPUT, Layer
from .channels import Chain
from .columns import Amount, Mask, both, either, masks, times, without
from .lines import Stretch
from .tensors import Key, Kind, StepTensors, Touches, key_of


class Phase(StrEnum):
    """What an operation does with its row.

    forward: computes the output; by_lines: of several rows, line by line; loss: its value, and the gradient of the
    logits; weight_gradient, input_gradient: of the row; backward: both in one operation, the input's first, with the
    updates where these are fused; ..._by_channels: of several rows, a few channels at a time; update: of what trains in
    the row (eager: of everything, at the end).
    """

    FORWARD = "forward"
    BY_LINES = "by_lines"
    FORWARD_BY_CHANNELS = "forward_by_channels"
    LOSS = "loss"
    WEIGHT_GRADIENT = "weight_gradient"
    INPUT_GRADIENT = "input_gradient"
    BACKWARD = "backward"
    BACKWARD_BY_CHANNELS = "backward_by_channels"
    UPDATE = "update"


#: The phases that go through the network from its input.
FORWARD_PHASES = (Phase.FORWARD, Phase.BY_LINES, Phase.FORWARD_BY_CHANNELS)


class MaskedOperation(NamedTuple):
    """One operation of the steps of N policies.

    Attributes:
        phase: What it does.
        row: Row of the trace that it does it with; of several the last.
        runs: In which policies it does.
        reads: What it reads, and in which policies.
        writes: What it writes or adds to, likewise.
        in_place: Pairs of a tensor and another whose place it may take, where it is made here and the other is needed
            no more. In each policy the first such pair does.
        channel: Bytes that it needs besides where a pair shares a place.
        scratch: Bytes that it needs besides in any case.
        rows: All rows that it does it with, in data-flow order, where they are several.
    """

    phase: Phase
    row: int
    runs: Mask
    reads: Touches
    writes: Touches
    in_place: Sequence[tuple[Key, Key]] = ()
    channel: int = 0
    scratch: Amount = 0
    rows: tuple[int, ...] = ()


def walk(tensors: StepTensors) -> Iterator[MaskedOperation]:
    """The operations of the steps of N policies, in the order in which they run."""
    return _Walk(tensors).operations()


class _Walk:
    def __init__(self, tensors: StepTensors) -> None:
        self.tensors, self.setting, table = tensors, tensors.setting, tensors.table
        self.present, self.trains = tensors.present, tensors.trains
        self.live, self.live_inputs = masks(table.live), masks(table.live_inputs)
        self.order, self.eager = self.setting.trace.order, self.setting.eager
        self.held = self._held()
        self.chains = self.setting.chains
        self.chained = {row: chain.rows[-1] for chain in self.chains.values() for row in chain.rows}
        self.reached: dict[int, Mask] = {}  # by row, where the backward pass has met its gradient

    def operations(self) -> Iterator[MaskedOperation]:
        yield from self._forward_pass()
        final = self.order[-1]
        logits, gradient = key_of(Kind.ACTIVATION, final), key_of(Kind.GRADIENT, final)
        yield MaskedOperation(Phase.LOSS, final, True, {logits: True}, {gradient: True})
        for row in reversed(self.order):
            if self.live[row] is False or self.chained.get(row, row) != row:
                continue
            if row in self.chains:
                yield self._backward_by_channels(self.chains[row])
            else:
                yield from self._backward(row)
        if self.eager:
            yield self._eager_update(final)
        elif self.setting.accumulates:
            for row in reversed(self.order):
                if self.trains[row] is not False:
                    yield self._update(row)

    def _forward_pass(self) -> Iterator[MaskedOperation]:
        """Line by line or not to the last map below all that trains, each policy on its best way, then row by row."""
        for stretch, runs in self.tensors.ways.stretches:
            if stretch.by_lines:
                yield self._by_lines(stretch, runs)
            else:
                yield from self._forwards(stretch.rows, dict.fromkeys(stretch.rows, runs), keeps=False)
        yield from self._forwards(self.order, self.tensors.ways.above, keeps=True)

    def _forwards(self, rows: Sequence[int], where: Mapping[int, Mask], *, keeps: bool) -> Iterator[MaskedOperation]:
        for row in rows:
            runs = both(self.present[row], where[row])
            if runs is False or self.chained.get(row, row) != row:
                continue
            operation = self._forward_by_channels(row, runs) if row in self.chains else self._forward(row, runs)
            # Whatever keeps something, or has statistics of its own, lies above the ways.
            yield operation._replace(writes=operation.writes | self._keeps(operation)) if keeps else operation

    def _keeps(self, operation: MaskedOperation) -> Touches:
        """What a forward operation writes besides its output: masks, copies, statistics, inner maps of a chain."""
        kept, found = self.tensors.kept, Touches()
        for row in operation.rows or (operation.row,):
            if row in kept.besides:
                found[key_of(Kind.KEPT, row)] = kept.besides[row]
            if self.tensors.statistics[row] is not False:
                found[key_of(Kind.STATISTICS, row)] = self.tensors.statistics[row]
            if row != operation.row:
                for _, keeps in kept.holders.get(row, ()):
                    output = key_of(Kind.ACTIVATION, row)
                    found[output] = either(found.get(output, False), keeps)
        return found

    def _backward(self, row: int) -> Iterator[MaskedOperation]:
        if self.eager:
            yield self._eager_backward(row)
        elif self.setting.schedule.fused_updates and is_fused(self.setting.trace.rows[row]):
            yield self._fused_backward(row)
        else:
            yield from self._arena_backward(row)

    def _held(self) -> dict[int, Touches]:
        """By row, what its backward pass needs of the forward pass."""
        held: dict[int, Touches] = {}
        for tensor, holders in self.tensors.kept.holders.items():
            for row, keeps in holders:
                held.setdefault(row, {})[key_of(Kind.ACTIVATION, tensor)] = keeps
        for row, keeps in self.tensors.kept.besides.items():
            held.setdefault(row, {})[key_of(Kind.KEPT, row)] = keeps
        return held

    def _by_lines(self, stretch: Stretch, runs: Mask) -> MaskedOperation:
        held = both(runs, self.tensors.ways.images) if stretch.source == INPUT else runs
        return MaskedOperation(
            Phase.BY_LINES,
            stretch.target,
            runs,
            {key_of(Kind.ACTIVATION, stretch.source): held},
            {key_of(Kind.ACTIVATION, stretch.target): runs},
            scratch=times(runs, stretch.scratch),
            rows=stretch.rows,
        )

    def _forward_by_channels(self, row: int, runs: Mask) -> MaskedOperation:
        chain, setting = self.chains[row], self.setting
        reads = {key_of(Kind.ACTIVATION, source): runs for source in setting.sources[chain.rows[0]]}
        reads |= {key_of(Kind.PARAMETERS, each): runs for each in chain.rows}
        for source in setting.sources[row]:
            if source not in chain.rows:  # of the lite residual module beside the block that ends here
                reads[key_of(Kind.ACTIVATION, source)] = both(runs, self.present[source])
        return MaskedOperation(
            Phase.FORWARD_BY_CHANNELS,
            row,
            runs,
            reads,
            {key_of(Kind.ACTIVATION, row): runs},
            scratch=times(runs, setting.chain_scratch(chain)),
            rows=chain.rows,
        )

    def _forward(self, row: int, runs: Mask) -> MaskedOperation:
        setting = self.setting
        reads = {
            key_of(Kind.ACTIVATION, source): runs if source == INPUT else both(runs, self.present[source])
            for source in setting.sources[row]
        }
        reads[key_of(Kind.PARAMETERS, row)] = runs
        return MaskedOperation(
            Phase.FORWARD,
            row,
            runs,
            reads,
            {key_of(Kind.ACTIVATION, row): runs},
            in_place=[
                (key_of(Kind.ACTIVATION, row), key_of(Kind.ACTIVATION, source)) for source in setting.overwrites[row]
            ],
            channel=setting.channel[row],
            scratch=times(runs, setting.scratch[row]) + self.tensors.composed(row),
        )

    def _passing(self, row: int) -> dict[int, Mask]:
        """The sources that a row's backward pass hands a gradient on to."""
        return {
            source: both(self.live[source], self.present[row])
            for source in self.setting.sources[row]
            if source != INPUT and self.live[source] is not False
        }

    def _arena_backward(self, row: int) -> Iterator[MaskedOperation]:
        setting, trains, held = self.setting, self.trains[row], self.held.get(row, {})
        given, parameters = key_of(Kind.GRADIENT, row), key_of(Kind.PARAMETERS, row)
        weight_gradient: Touches = {key_of(Kind.WEIGHT_GRADIENT, row): trains}
        if trains is not False:
            reads = {given: trains} | {key: both(mask, trains) for key, mask in held.items()}
            yield MaskedOperation(Phase.WEIGHT_GRADIENT, row, trains, reads, weight_gradient)
        passing = self._passing(row)
        runs: Mask = False
        for mask in passing.values():
            runs = either(runs, mask)
        if runs is not False:
            if setting.trace.rows[row].kind in ("conv", "linear"):
                # It needs what it keeps for its weight gradient alone, and gives it up there.
                held = {key: without(mask, trains) for key, mask in held.items()}
            needed: Touches = {key: both(mask, runs) for key, mask in held.items()}
            yield MaskedOperation(
                Phase.INPUT_GRADIENT,
                row,
                runs,
                {given: runs, parameters: runs, **needed},
                {key_of(Kind.GRADIENT, source): mask for source, mask in passing.items()},
                in_place=[(key_of(Kind.GRADIENT, source), given) for source in setting.gradient_overwrites[row]],
                channel=setting.gradient_channel[row],
            )
        if trains is not False and not setting.accumulates:
            yield self._update(row)

    def _update(self, row: int) -> MaskedOperation:
        trains = self.trains[row]
        writes: Touches = {key_of(Kind.PARAMETERS, row): trains, key_of(Kind.STATE, row): trains}
        return MaskedOperation(Phase.UPDATE, row, trains, {key_of(Kind.WEIGHT_GRADIENT, row): trains}, writes)

    def _learned(self, row: int) -> Touches:
        """What a fused update of a row changes."""
        trains = self.trains[row]
        if self.setting.accumulates:
            return {key_of(Kind.WEIGHT_GRADIENT, row): trains}
        return {key_of(Kind.PARAMETERS, row): trains, key_of(Kind.STATE, row): trains}

    def _fused_backward(self, row: int) -> MaskedOperation:
        given, runs, passing = key_of(Kind.GRADIENT, row), self.live[row], self._passing(row)
        return MaskedOperation(
            Phase.BACKWARD,
            row,
            runs,
            {given: runs, key_of(Kind.PARAMETERS, row): runs, **self.held.get(row, {})},
            {key_of(Kind.GRADIENT, source): mask for source, mask in passing.items()} | self._learned(row),
            in_place=[(key_of(Kind.GRADIENT, source), given) for source in self.setting.gradient_overwrites[row]],
            scratch=times(self._rescaled(row), self.setting.scales(self.setting.trace.rows[row].weights)),
        )

    def _rescaled(self, row: int) -> Mask:
        """Where a norm's scale trains and a gradient passes it: the old scale is needed when the new one is there."""
        norm = self.setting.trace.rows[row].kind == "norm"
        return both(self.tensors.scale[row], self.live_inputs[row]) if norm else False

    def _backward_by_channels(self, chain: Chain) -> MaskedOperation:
        setting, last, first = self.setting, chain.rows[-1], chain.rows[0]
        runs, given = self.live[last], key_of(Kind.GRADIENT, last)
        reads: Touches = {given: runs}
        passing = self._passing(last) | self._passing(first)
        writes: Touches = {
            key_of(Kind.GRADIENT, source): mask for source, mask in passing.items() if source not in chain.rows
        }
        scratch: Amount = 0
        rescaled: Mask = False
        for row in chain.rows:
            reads |= self.held.get(row, {}) | {key_of(Kind.PARAMETERS, row): self.live[row]}
            writes |= self._learned(row)
            rescaled = either(rescaled, self._rescaled(row))
        for row, elements in chain.gradient_maps:
            size = setting.aligned(elements, setting.profile.memory.dtypes.gradient)
            scratch = scratch + times(self.live_inputs[row], size)
        scratch = scratch + times(rescaled, setting.scales(chain.channels))
        return MaskedOperation(Phase.BACKWARD_BY_CHANNELS, last, runs, reads, writes, scratch=scratch, rows=chain.rows)

    def _eager_backward(self, row: int) -> MaskedOperation:
        runs, passing = self.live[row], self._passing(row)
        scratch = times(self.live_inputs[row], self.tensors.composed(row))
        for source, mask in passing.items():
            reached = self.reached.get(source, False)
            scratch += times(both(mask, reached), self.setting.gradient[source])
            self.reached[source] = either(reached, mask)
        reads = {key_of(Kind.GRADIENT, row): runs} | self.held.get(row, {}) | {key_of(Kind.PARAMETERS, row): runs}
        writes = {key_of(Kind.GRADIENT, source): mask for source, mask in passing.items()}
        writes[key_of(Kind.WEIGHT_GRADIENT, row)] = self.trains[row]
        return MaskedOperation(Phase.BACKWARD, row, runs, reads, writes, scratch=scratch)

    def _eager_update(self, final: int) -> MaskedOperation:
        reads: Touches = {key_of(Kind.WEIGHT_GRADIENT, row): self.trains[row] for row in self.order}
        reads |= {key_of(Kind.ACTIVATION, INPUT): True, key_of(Kind.ACTIVATION, final): True}
        writes: Touches = {key_of(Kind.PARAMETERS, row): self.present[row] for row in self.order}
        return MaskedOperation(Phase.UPDATE, final, True, reads, writes)


def is_fused(layer: Layer) -> bool:
    """Whether a row's update can be part of its backward pass outside of a chain.

    That of a depthwise convolution cannot: it overwrites the gradient that its weight's needs.
    """
    return layer.kind in ("linear", "norm") or (layer.kind == "conv" and not layer.depthwise)
