"""Frozen layers that run line by line, and where it pays to hold a whole map between them.

What lies below all that trains has no backward pass, so nothing of it is needed again. Run layer by layer its widest
maps decide the peak of the whole step; run line by line each layer waits for as many lines as its kernel reads, which
lie in a ring buffer, and nothing is computed twice. A stretch of layers from one map to another may run so, and where
the maps between stretches are whole is a choice: the path from the image to the first map that is needed whole whose
worst moment is the least (a minimax shortest path, exact). A patch-wise first stage (MCUNetV2, Lin et al. 2021, section
3) does the same with recomputation; line buffers need none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from ...spaces.trace import INPUT, Layer, Trace
from .channels import Chain

#: Operations that run in place, element by element.
ELEMENTWISE = ("norm", "act")


@dataclass(frozen=True, slots=True)
class Stage:
    """What computes one line at a time: a convolution with what follows it element by element, or an addition.

    Attributes:
        rows: Rows of the trace, in order; the first reads the stage's inputs, the last writes its output.
        inputs: Rows whose outputs are read, or `INPUT`.
    """

    rows: tuple[int, ...]
    inputs: tuple[int, ...]

    @property
    def output(self) -> int:
        """The row whose output the stage's is."""
        return self.rows[-1]


@dataclass(frozen=True, slots=True)
class Stretch:
    """How a map is made from the nearest whole map before it.

    Attributes:
        source: The row whose whole output is read, or `INPUT`.
        target: The row whose whole output is written.
        rows: The rows between, the last included, in data-flow order.
        by_lines: Whether they run line by line; else layer by layer.
        scratch: Bytes of ring buffers, and of what one of the kernels needs besides; 0 layer by layer.
        worst: The most bytes that live at a moment on the whole way from the image, weights and optimizer apart.
    """

    source: int
    target: int
    rows: tuple[int, ...]
    by_lines: bool
    scratch: int
    worst: int


@dataclass(frozen=True)
class Needs:
    """What the rows of a network need in memory, in bytes; lists are by row, and `INPUT` indexes the images.

    Attributes:
        activation: A row's output.
        line: A line of it.
        scratch: What its kernel needs besides.
        channel: Likewise to overwrite its input.
        overwrites: The sources that its output may take the place of, if they die with it.
        chains: What runs by channels, by its last row.
        chain_scratch: What a chain needs besides, likewise.
        alignment: Buffers start at multiples of it.
        images: Whether images are in memory; else they are asked for line by line.
    """

    activation: Sequence[int]
    line: Sequence[int]
    scratch: Mapping[int, int]
    channel: Sequence[int]
    overwrites: Mapping[int, tuple[int, ...]]
    chains: Mapping[int, Chain]
    chain_scratch: Mapping[int, int]
    alignment: int
    images: bool


class Frozen:
    """The ways from the image to each map that separates what comes before it from what comes after.

    Args:
        trace: The network.
        needs: What its rows need.

    Attributes:
        stretches: By target in data-flow order, the best last stretch to it.
    """

    def __init__(self, trace: Trace, needs: Needs) -> None:
        self._needs, self._rows = needs, trace.rows
        self._order = [row for row in trace.order if row < len(trace)]
        self._image_height = trace.input_shape[1] if len(trace.input_shape) == 3 else 0
        self._chained = {row: chain for chain in needs.chains.values() for row in chain.rows}
        self.stretches: dict[int, Stretch] = {}
        self._find()

    @cached_property
    def _last_reader(self) -> dict[int, int]:
        return {source: row for row in self._order for source in self._rows[row].inputs}

    @cached_property
    def stages(self) -> dict[int, Stage]:
        """By its output, each stage that can run line by line."""
        readers = dict.fromkeys((INPUT, *self._order), 0)
        for row in self._order:
            for source in self._rows[row].inputs:
                readers[source] += 1
        found: dict[int, Stage] = {}
        for row in self._order:
            layer = self._rows[row]
            before = found.get(layer.inputs[0]) if layer.inputs else None
            if before is not None and readers[before.output] == 1 and self._follows(layer, before):
                del found[before.output]
                found[row] = Stage((*before.rows, row), before.inputs)
            elif self._slides(layer):
                found[row] = Stage((row,), layer.inputs)
        return found

    @cached_property
    def lines(self) -> dict[int, int]:
        """By row, lines of its output that must be there at once; `INPUT` for the image.

        Found by running the lines in order: the stage nearest to the end that can compute a line does. What follows
        later changes nothing of what a ring buffer must hold.
        """
        stages = list(self.stages.values())
        made = {INPUT: 0} | {stage.output: 0 for stage in stages}
        heights = {INPUT: self._image_height}
        heights |= {stage.output: self._rows[stage.output].out_shape[1] for stage in stages}
        readers = {source: [stage for stage in stages if source in stage.inputs] for source in made}
        # A map that no stage makes is there as a whole.
        whole = {source for stage in stages for source in stage.inputs if source not in made}
        most = dict.fromkeys(made, 1)
        while True:
            ready = next((stage for stage in reversed(stages) if self._is_ready(stage, made, heights, whole)), None)
            if ready is not None:
                made[ready.output] += 1
            elif made[INPUT] < heights[INPUT]:
                made[INPUT] += 1
            else:
                return most
            for source in (INPUT, *(ready.inputs if ready else ()), *((ready.output,) if ready else ())):
                if source in made and readers[source]:
                    oldest = min(self._first_line(stage, made[stage.output]) for stage in readers[source])
                    most[source] = max(most[source], made[source] - oldest)

    def _is_ready(self, stage: Stage, made: dict[int, int], heights: dict[int, int], whole: set[int]) -> bool:
        line = made[stage.output]
        if line == heights[stage.output]:
            return False
        return all(
            source in whole or made[source] > min(self._last_line(stage, line), heights[source] - 1)
            for source in stage.inputs
        )

    def _first_line(self, stage: Stage, line: int) -> int:
        layer = self._rows[stage.rows[0]]
        return max(0, line * layer.stride[0] - layer.padding[0]) if layer.kind == "conv" else line

    def _last_line(self, stage: Stage, line: int) -> int:
        layer = self._rows[stage.rows[0]]
        reach = (layer.kernel[0] - 1) * layer.dilation[0] - layer.padding[0]
        return line * layer.stride[0] + reach if layer.kind == "conv" else line

    def _follows(self, layer: Layer, stage: Stage) -> bool:
        """Whether a row can be computed on a line as that is made: a norm behind a convolution, then an activation."""
        last = self._rows[stage.output]
        if layer.kind == "act":
            return last.kind != "act"
        return layer.kind == "norm" and layer.op == "batch" and last.kind == "conv"

    def _slides(self, layer: Layer) -> bool:
        if layer.kind == "conv":
            return len(layer.out_shape) == 3 and not layer.viewed and not layer.standardised
        return layer.op == "add" and len(layer.inputs) == 2 and len(layer.out_shape) == 3

    def _cuts(self) -> list[int]:
        """Maps that are all that is needed of what comes before them; not those that are overwritten at once."""
        place = {row: number for number, row in enumerate(self._order)}
        cuts, latest = [], place[self._last_reader[INPUT]]
        for row, following in pairwise(self._order):
            joins = self._rows[following].kind in ELEMENTWISE and self._rows[following].inputs == (row,)
            joins |= row in self._chained and row != self._chained[row].rows[-1]
            if latest <= place[row] and not joins:
                cuts.append(row)
            latest = max(latest, place[self._last_reader.get(row, row)])
        return cuts

    def _find(self) -> None:
        place = {row: number for number, row in enumerate(self._order)}
        starts = [INPUT]
        for target in self._cuts():
            best: Stretch | None = None
            for source in starts:
                rows = tuple(self._order[place[source] + 1 if source != INPUT else 0 : place[target] + 1])
                for stretch in self._stretches(source, target, rows, adjacent=source == starts[-1]):
                    if best is None or (stretch.worst, stretch.by_lines) < (best.worst, best.by_lines):
                        best = stretch
            if best is None:
                return
            self.stretches[target] = best
            starts.append(target)

    def _stretches(self, source: int, target: int, rows: tuple[int, ...], *, adjacent: bool) -> Sequence[Stretch]:
        """The ways from one whole map to another."""
        needs, held = self._needs, source != INPUT or self._needs.images
        before = self.stretches[source].worst if source in self.stretches else 0
        found = []
        stages = [stage for stage in self.stages.values() if stage.output in rows]
        if sum(len(stage.rows) for stage in stages) == len(rows):
            rings = sum(self.ring_bytes(stage.output) for stage in stages if stage.output != target)
            rings += 0 if held else self.ring_bytes(INPUT)
            rings += max(needs.scratch[row] for row in rows)
            worst = max(before, needs.activation[source] * held + rings + needs.activation[target])
            found.append(Stretch(source, target, rows, True, rings, worst))
        if adjacent and held:
            worst = max(before, self._layer_by_layer(source, rows))
            found.append(Stretch(source, target, rows, False, 0, worst))
        return found

    def ring_bytes(self, row: int) -> int:
        """Bytes of the ring buffer of a row's output, or of the image's lines."""
        size, step = self.lines[row] * self._needs.line[row], self._needs.alignment
        return -(-size // step) * step

    def _layer_by_layer(self, source: int, rows: tuple[int, ...]) -> int:
        """The most that lives at a moment when rows run one after another."""
        needs, waiting = self._needs, {source}
        last = {read: row for row in rows for read in self._rows[row].inputs}
        worst = 0
        for row in rows:
            chain = self._chained.get(row)
            if chain is not None and row != chain.rows[-1]:
                continue
            dying = {each for each in waiting if last.get(each) == (row if chain is None else chain.rows[0])}
            over = next((each for each in needs.overwrites[row] if each in dying and chain is None), None)
            live = sum(needs.activation[each] for each in waiting)
            live += needs.activation[row] if over is None else needs.channel[row]
            live += needs.scratch[row] if chain is None else needs.chain_scratch[row]
            worst = max(worst, live)
            waiting = (waiting - dying) | {row}
        return worst
