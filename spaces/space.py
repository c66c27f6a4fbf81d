"""The update space: the policies allowed for a backbone, as vectors of ordered integers.

A gene is one integer, ordered from frozen to more. Each weighted layer has a gene for how much of its weight trains
and one for its bias or the norm that follows it; each parameter that stands by itself has one; each block has genes
for the channel axis, the lite residual module and the sign masks; one gene says whether norms whose scale trains also
update their statistics. The head always trains and has no gene.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..core.errors import InputError
from .operations import SIGN_MASK
from .policy import Channels, LayerUpdate, LiteUpdate, NormUpdate, UpdatePolicy
from .table import UpdateTable
from .trace import Block, Layer, Trace

#: One encoded policy, (D,).
Genotype = npt.NDArray[np.int64]
#: Encoded policies, (N, D).
Genotypes = npt.NDArray[np.int64]
GeneKind = Literal["weight", "norm", "parameter", "axis", "lite", "sign", "statistics"]

#: Share of a weight's channels by level: MCUNetV3's ratios (Lin et al. 2022), with none in front.
RATIOS = (0.0, 0.125, 0.25, 0.5, 1.0)
AXES: tuple[Literal["in", "out"], ...] = ("in", "out")
#: Levels of a norm gene: nothing, the shift (or the layer's own bias), the shift and the scale.
SHIFT, SCALE = 1, 2


@dataclass(frozen=True, slots=True)
class Gene:
    """One position of an encoded policy.

    Attributes:
        kind: What it decides.
        name: Layer or block that it decides about; empty for the whole network.
        levels: Number of values: 0 to levels - 1.
        row: Row of the trace, for weight and norm genes.
        block: Index of the block, for lite genes.
    """

    kind: GeneKind
    name: str
    levels: int
    row: int = -1
    block: int = -1


@dataclass(frozen=True)
class Segment:
    """A run of the network that is searched together: a block, or a weighted layer outside of blocks.

    Attributes:
        name: Name of the block or layer.
        weights: Positions of its weight genes, first layer first.
        norms: Positions of its norm genes.
        parameters: Positions of its genes of parameters by themselves.
        axis: Position of its axis gene, or None.
        lite: Position of its lite gene, or None.
        sign: Position of its sign gene, or None.
        activations: Rows of the activations that the sign gene stands for.
    """

    name: str
    weights: tuple[int, ...]
    norms: tuple[int, ...]
    axis: int | None
    lite: int | None
    sign: int | None
    activations: tuple[int, ...] = ()
    parameters: tuple[int, ...] = ()

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions of all its genes."""
        single = (self.axis, self.lite, self.sign)
        trained = (*self.weights, *self.norms, *self.parameters)
        return (*trained, *(position for position in single if position is not None))


@dataclass(frozen=True)
class UpdateSpace:
    """All policies of a backbone that the genes can say.

    Args:
        trace: The backbone.

    Attributes:
        genes: What each position decides.
        segments: The genes of each block, or layer outside of blocks, from the input to the head.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> space = ts.UpdateSpace(trace)
        >>> encoded = space.sample(2, seed=0)
        >>> encoded.shape
        (2, 160)
        >>> space.contains(space.decode(encoded[0]))
        True
    """

    trace: Trace
    genes: tuple[Gene, ...] = field(init=False)
    segments: tuple[Segment, ...] = field(init=False)

    def __post_init__(self) -> None:
        genes: list[Gene] = []
        segments = [self._segment(name, rows, block, genes) for name, rows, block in self._groups()]
        if any(layer.op == "batch" for layer in self.trace):
            genes.append(Gene("statistics", "", 2))
        object.__setattr__(self, "genes", tuple(genes))
        object.__setattr__(self, "segments", tuple(s for s in segments if s.weights or s.norms or s.parameters))

    def __len__(self) -> int:
        """Number of genes."""
        return len(self.genes)

    @cached_property
    def levels(self) -> Genotype:
        """Levels of each gene, (D,)."""
        return np.array([gene.levels for gene in self.genes])

    @cached_property
    def gene_names(self) -> tuple[str, ...]:
        """A name per gene, such as `042 features.3 lite`, whose alphabetical order is that of the encoding."""
        digits = max(3, len(str(len(self))))
        return tuple(f"{number:0{digits}d} {gene.name} {gene.kind}" for number, gene in enumerate(self.genes))

    @property
    def gene_levels(self) -> dict[str, int]:
        """Number of levels of each gene, by its name."""
        return dict(zip(self.gene_names, (gene.levels for gene in self.genes), strict=True))

    @cached_property
    def statistics(self) -> int | None:
        """Position of the statistics gene, or None."""
        return next((n for n, gene in enumerate(self.genes) if gene.kind == "statistics"), None)

    def check(self, rows: npt.ArrayLike) -> Genotypes:
        """Encoded policies as an (N, D) array of integers.

        Raises:
            InputError: The shape is another, or a value is no level of its gene.
        """
        array = np.atleast_2d(np.asarray(rows))
        if array.ndim != 2 or array.shape[1] != len(self) or not np.issubdtype(array.dtype, np.integer):
            raise InputError(
                f"encoded policies are (N, {len(self)}) integers, not {array.dtype} of shape {array.shape}"
            )
        if array.size and (array.min() < 0 or (array >= self.levels).any()):
            n, d = np.argwhere((array < 0) | (array >= self.levels))[0]
            gene = self.genes[d]
            raise InputError(f"row {n}: {gene.kind} of {gene.name}: {array[n, d]} is not in 0..{gene.levels - 1}")
        return array.astype(np.int64, copy=False)

    def table(self, rows: npt.ArrayLike) -> UpdateTable:
        """What N encoded policies train.

        Args:
            rows: (N, D) integers.

        Returns:
            The table, in which sign masks stand only where a gradient passes, as in `decode`.
        """
        return self.table_of_checked(self.check(rows))

    def table_of_checked(self, rows: Genotypes) -> UpdateTable:
        """As `table`, of rows that `check` has let through."""
        genes = np.asfortranarray(rows, np.int8)  # column by column; a gene has a few levels
        table = UpdateTable.frozen(self.trace, len(genes))
        statistics = genes[:, self.statistics] > 0 if self.statistics is not None else None
        for segment in self.segments:
            by_output = genes[:, segment.axis] == 1 if segment.axis is not None else np.zeros(len(genes), bool)
            for position in segment.weights:
                if genes[:, position].any():
                    self._fill_weight(table, position, genes[:, position], by_output)
            for position in segment.norms:
                row = self.genes[position].row
                table.bias[:, row] = (genes[:, position] >= SHIFT) & self.trace.layers[row].bias
                if self.trace.layers[row].kind == "norm":
                    table.scale[:, row] = genes[:, position] >= SCALE
                    if statistics is not None and self.trace.layers[row].op == "batch":
                        table.statistics[:, row] = table.scale[:, row] & statistics
            for position in segment.parameters:
                table.scale[:, self.genes[position].row] = genes[:, position] > 0
            if segment.lite is not None and genes[:, segment.lite].any():
                number = self.genes[segment.lite].block
                closing = self.trace.closing_row(self.trace.blocks[number])
                shift = True if closing is None else ~table.bias[:, closing]
                table.set_lite(number, genes[:, segment.lite] > 0, shift)
        for segment in self.segments:
            if segment.sign is not None and genes[:, segment.sign].any():
                for row in segment.activations:
                    table.sign[:, row] = (genes[:, segment.sign] > 0) & table.live_inputs[:, row]
        return table

    def decode(self, row: npt.ArrayLike) -> UpdatePolicy:
        """The policy that an encoded row of D integers stands for.

        A set of channels is filled with those of the largest L1 norm, as in MCUNetV3. Genes without effect, such as
        the axis of a weight that trains whole, are left out: rows that train the same give the same policy.
        """
        table = self.table(np.asarray(row)[None])
        genes = self.check(row)[0]
        layers: list[LayerUpdate] = []
        norms: list[NormUpdate] = []
        axes: dict[int, Literal["in", "out"]] = {
            self.genes[position].row: AXES[genes[segment.axis]] if segment.axis is not None else "in"
            for segment in self.segments
            for position in segment.weights
        }
        for number, layer in enumerate(self.trace.layers):
            if number == self.trace.head:
                continue
            bias, scale = bool(table.bias[0, number]), bool(table.scale[0, number])
            if layer.kind == "norm" and (bias or scale):
                statistics = bool(table.statistics[0, number])
                norms.append(NormUpdate(name=layer.name, shift=bias, scale=scale, statistics=statistics))
            elif layer.kind in ("conv", "linear") and (bias or table.outputs[0, number]):
                weight = self._weight(layer, table, number, axes.get(number, "in"))
                layers.append(LayerUpdate(name=layer.name, weight=weight, bias=bias))
        return UpdatePolicy(
            backbone=self.trace.name,
            input_shape=self.trace.input_shape,
            head=self.trace.layers[self.trace.head].name,
            layers=tuple(layers),
            norms=tuple(norms),
            lite_residuals=tuple(
                lite_update(self.trace, block, shifted={row for row in range(len(self.trace)) if table.bias[0, row]})
                for block in self.trace.blocks
                if block.lite and table.present[0, block.lite[0]]
            ),
            sign_masks=tuple(self.trace.layers[n].name for n in np.flatnonzero(table.sign[0])),
            parameters=tuple(
                layer.name
                for number, layer in enumerate(self.trace.layers)
                if layer.kind == "parameter" and table.scale[0, number]
            ),
        )

    def encode(self, policy: UpdatePolicy) -> Genotype:
        """The encoded row, (D,), that comes closest to a policy; exact for a policy of this space."""
        table = UpdateTable.of(self.trace, [policy])
        row = np.zeros(len(self), np.int64)
        for segment in self.segments:
            for position in segment.weights:
                layer = self.trace.layers[self.genes[position].row]
                share = self._share(table, self.genes[position].row, layer)
                levels = self._counts(layer)
                row[position] = int(np.argmin(np.abs(np.array(levels) - share)))
            sliced = [
                e.weight.axis for e in policy.layers if isinstance(e.weight, Channels) and self._inside(segment, e)
            ]
            if segment.axis is not None and sliced:
                row[segment.axis] = AXES.index(max(set(sliced), key=sliced.count))
            for position in segment.norms:
                number = self.genes[position].row
                row[position] = SCALE if table.scale[0, number] else SHIFT if table.bias[0, number] else 0
            for position in segment.parameters:
                row[position] = table.scale[0, self.genes[position].row]
            if segment.lite is not None:
                block = self.trace.blocks[self.genes[segment.lite].block]
                row[segment.lite] = table.present[0, block.lite[0]]
            if segment.sign is not None:
                row[segment.sign] = table.sign[0, list(segment.activations)].any()
        if self.statistics is not None:
            row[self.statistics] = table.statistics.any()
        return row

    def contains(self, policy: UpdatePolicy) -> bool:
        """Whether a row stands for exactly this policy."""
        return self.decode(self.encode(policy)).hash == policy.hash

    def sample(self, count: int, seed: int = 0) -> Genotypes:
        """Draw encoded policies, (count, D), spread over the whole range of costs.

        Each draws how deep it reaches from the head, and then what trains in the segments that it reaches: a uniform
        draw of every gene would reach the first layers nearly always, and so cost nearly the same every time.
        """
        rng = np.random.default_rng(seed)
        rows = np.zeros((count, len(self)), np.int64)
        if not self.segments:  # the head alone
            return rows
        for row in rows:
            depth = rng.integers(1, len(self.segments) + 1)
            density, whole = rng.uniform(0.15, 1.0), rng.uniform()
            scale, lite, sign = rng.uniform(0, 0.5), rng.choice([0.0, 0.5, 1.0], p=[0.5, 0.3, 0.2]), rng.uniform() < 0.3
            axis = int(rng.integers(2))
            for segment in self.segments[-depth:]:
                if rng.uniform() < density:
                    self._sample_segment(row, segment, rng, whole)
                for position in segment.norms:
                    level = SCALE if rng.uniform() < scale else SHIFT
                    row[position] = min(level, self.genes[position].levels - 1) if rng.uniform() < density else 0
                for position in segment.parameters:
                    row[position] = rng.uniform() < min(scale, density)
                if segment.axis is not None:
                    row[segment.axis] = axis
                if segment.lite is not None:
                    row[segment.lite] = rng.uniform() < lite
                if segment.sign is not None:
                    row[segment.sign] = sign
        return rows

    def _sample_segment(self, row: Genotype, segment: Segment, rng: np.random.Generator, whole: float) -> None:
        style = rng.choice(["none", "first", "pointwise", "all"], p=[0.25, 0.3, 0.2, 0.25])
        for order, position in enumerate(segment.weights):
            layer = self.trace.layers[self.genes[position].row]
            if style == "all" or (style == "first" and order == 0) or (style == "pointwise" and layer.groups == 1):
                top = self.genes[position].levels - 1
                row[position] = top if rng.uniform() < whole else rng.integers(1, top + 1)

    def _groups(self) -> list[tuple[str, list[int], Block | None]]:
        groups: list[tuple[str, list[int], Block | None]] = []
        for number, layer in enumerate(self.trace.layers):
            if layer.block >= 0:
                block = self.trace.blocks[layer.block]
                if not groups or groups[-1][2] is not block:
                    groups.append((block.name, [], block))
            elif layer.kind in ("conv", "linear") or not groups or groups[-1][2] is not None:
                groups.append((layer.name, [], None))
            groups[-1][1].append(number)
        return groups

    def _segment(self, name: str, rows: Sequence[int], block: Block | None, genes: list[Gene]) -> Segment:
        def add(gene: Gene) -> int:
            genes.append(gene)
            return len(genes) - 1

        layers = {n: self.trace.layers[n] for n in rows if n != self.trace.head}
        weighted = {n: layer for n, layer in layers.items() if layer.kind in ("conv", "linear")}
        shifted = {n: layer for n, layer in layers.items() if layer.kind == "norm" or (n in weighted and layer.bias)}
        sliceable = any(layer.sliceable for layer in weighted.values())
        signable = tuple(n for n, layer in layers.items() if layer.kind == "act" and layer.op in SIGN_MASK)
        return Segment(
            name=name,
            weights=tuple(
                add(Gene("weight", layer.name, len(self._counts(layer)), n)) for n, layer in weighted.items()
            ),
            norms=tuple(
                add(Gene("norm", layer.name, SCALE + 1 if layer.kind == "norm" else SHIFT + 1, n))
                for n, layer in shifted.items()
            ),
            parameters=tuple(
                add(Gene("parameter", layer.name, 2, n)) for n, layer in layers.items() if layer.kind == "parameter"
            ),
            axis=add(Gene("axis", name, 2)) if sliceable else None,
            lite=add(Gene("lite", name, 2, block=self.trace.blocks.index(block))) if block and block.lite else None,
            sign=add(Gene("sign", name, 2)) if signable else None,
            activations=signable,
        )

    @staticmethod
    def _counts(layer: Layer) -> tuple[float, ...]:
        return RATIOS if layer.sliceable else (0.0, 1.0)

    def _fill_weight(
        self, table: UpdateTable, position: int, genes: npt.NDArray[np.int8], by_output: npt.NDArray[np.bool_]
    ) -> None:
        row = self.genes[position].row
        layer = self.trace.layers[row]
        levels = self._counts(layer)
        choice = genes + len(levels) * by_output
        for array, channels, sliced in (
            (table.inputs, layer.in_channels, (True, layer.depthwise)),
            (table.outputs, layer.out_channels, (layer.depthwise, True)),
        ):
            counts = [0 if not r else max(1, int(r * channels)) if cut else channels for cut in sliced for r in levels]
            np.take(np.array(counts), choice, out=array[:, row], mode="clip")

    def _share(self, table: UpdateTable, row: int, layer: Layer) -> float:
        inputs, outputs = table.inputs[0, row] / layer.in_channels, table.outputs[0, row] / layer.out_channels
        return float(min(inputs, outputs))

    def _inside(self, segment: Segment, entry: LayerUpdate) -> bool:
        return any(self.genes[position].name == entry.name for position in segment.weights)

    def _weight(
        self, layer: Layer, table: UpdateTable, row: int, axis: Literal["in", "out"]
    ) -> Literal["none", "all"] | Channels:
        inputs, outputs = int(table.inputs[0, row]), int(table.outputs[0, row])
        if not outputs:
            return "none"
        if (inputs, outputs) == (layer.in_channels, layer.out_channels):
            return "all"
        return largest_channels(self.trace, layer, axis, inputs if axis == "in" else outputs)


def largest_channels(trace: Trace, layer: Layer, axis: Literal["in", "out"], count: int) -> Channels:
    """The channels of a weight with the largest L1 norm; of equal ones, the first."""
    order = np.argsort(-trace.channel_norms[layer.name][axis], kind="stable")
    return Channels(axis=axis, index=tuple(sorted(int(channel) for channel in order[:count])))


def lite_update(trace: Trace, block: Block, shifted: Container[int] = ()) -> LiteUpdate:
    """The policy entry of the lite residual module that a block takes.

    Args:
        trace: The backbone.
        block: The block.
        shifted: Rows whose bias or shift trains. Where the block's last one does, that of the module is frozen: the
            two are added and say the same (TinyTL's authors freeze it too).
    """
    pool, conv = trace.rows[block.lite[0]], trace.rows[block.lite[1]]
    stride = round(block.in_shape[1] / block.out_shape[1])
    return LiteUpdate(
        block=block.name,
        in_channels=block.in_shape[0],
        out_channels=block.out_shape[0],
        stride=stride,
        kernel=conv.kernel[0],
        pool=pool.op == "avgpool2d",
        shift=trace.closing_row(block) not in shifted,
    )
