"""What every level of every gene adds to an additive score, and which levels a screen may choose."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from ...spaces.space import Genotype, Genotypes, UpdateSpace
from ..screens.base import AdditiveScore

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Depths that are looked at: at each, every change of one gene is priced. Networks of 70 layers have fewer.
MOST_STARTS = 160
#: Kinds of genes that train something, and so let gradients flow.
TRAINING = ("weight", "norm", "parameter", "lite")


@dataclass(frozen=True)
class Choices:
    """The levels that a screen may choose, and what each adds to the score by itself.

    A level of a weight gene is priced for both channel axes, which a segment's weights share; that of another gene is
    the same for both.

    Attributes:
        space: The space, of D genes with at most L levels.
        gains: What a level adds to the score of the head alone, by axis, (D, 2, L); minus infinity where a level may
            not be chosen. Level 0 adds nothing.
        rank: The genes in the order of the network, from the input, (D,). A lite residual module stands behind its
            block, as the block's own layers get no gradient for its sake.
        trains: Whether a gene trains something, (D,).
        segment: Index of each gene's segment, (D,).
        axis: Position of the axis gene that the levels of a gene depend on, (D,); -1 where they depend on none.
    """

    space: UpdateSpace
    gains: Floats
    rank: Ints
    trains: Bools
    segment: Ints
    axis: Ints

    @classmethod
    def of(cls, space: UpdateSpace, score: AdditiveScore, *, approximations: bool = False) -> Self:
        """The levels that add to the score; a gene of which none does stays at level 0.

        Args:
            space: The space.
            score: What it is worth to train each tensor.
            approximations: Whether sign masks may be chosen, which save memory and add nothing to the score.
        """
        kinds = np.array([gene.kind for gene in space.genes], np.str_)
        trains = np.isin(kinds, TRAINING)
        shape = (len(space), 2, int(max(space.levels, default=2)))
        layout = cls(space, np.zeros(shape), _ranks(space, kinds), trains, *_segments(space))
        options = layout.options(trains)
        frozen = np.zeros((1, len(space)), np.int64)
        added = score(space.table(layout.changed(frozen[0], options))) - score(space.table(frozen))
        gains = layout.filled(options, np.where(added > 0, added, -np.inf), -np.inf)
        gains[kinds == "sign", :, 1] = 0 if approximations else -np.inf
        gains[:, :, 0] = 0
        return replace(layout, gains=gains)

    @cached_property
    def open(self) -> Bools:
        """Whether a gene has a level above 0 that may be chosen, (D,)."""
        allowed: Bools = np.logical_or.reduce(self.gains[:, :, 1:] > -np.inf, axis=(1, 2))
        return allowed

    @cached_property
    def top(self) -> Ints:
        """The level of each gene that adds most, by the axis of inputs, (D,)."""
        levels: Ints = self.gains[:, 0].argmax(1)
        return levels

    @cached_property
    def starts(self) -> Ints:
        """The genes that training may begin at, from the input; of very many, `MOST_STARTS` spread evenly."""
        able = np.flatnonzero(self.open & self.trains)
        starts: Ints = able[np.argsort(self.rank[able])]
        if len(starts) <= MOST_STARTS:
            return starts
        spread: Ints = starts[np.linspace(0, len(starts) - 1, MOST_STARTS).round().astype(np.int64)]
        return spread

    @cached_property
    def levels(self) -> tuple[Genotype, ...]:
        """The levels of each gene that may be chosen; both of an axis gene that a level depends on."""
        allowed: Bools = np.logical_or(self.gains[:, 0] > -np.inf, self.gains[:, 1] > -np.inf)
        allowed[self.axis[self.open & (self.axis >= 0)], :2] = True
        return tuple(np.flatnonzero(each) for each in allowed)

    def first(self, rows: Genotypes) -> Ints:
        """The gene nearest the input that trains, of each of N policies, (N,); -1 where the head alone does."""
        if not len(self.space):
            return np.full(len(rows), -1)
        ranks = np.where(self.trains & (rows > 0), self.rank, len(self.space))
        return np.where(ranks.min(1) < len(self.space), ranks.argmin(1), -1)

    def options(self, genes: Bools) -> Ints:
        """Every gene, axis and level of some genes, level 0 included, (O, 3)."""
        every = [
            (gene, axis, level)
            for gene in np.flatnonzero(genes)
            for axis in range(2 if self.axis[gene] >= 0 else 1)
            for level in range(self.space.levels[gene])
        ]
        return np.array(every, np.int64).reshape(-1, 3)

    def changed(self, row: Genotype, options: Ints) -> Genotypes:
        """A policy with each of O options taken by itself, (O, D)."""
        rows = np.repeat(row[None], len(options), 0)
        gene, axis, level = options.T
        sliced = np.flatnonzero(self.axis[gene] >= 0)
        rows[sliced, self.axis[gene[sliced]]] = axis[sliced]
        rows[np.arange(len(rows)), gene] = level
        return rows

    def filled(self, options: Ints, values: Floats, empty: float) -> Floats:
        """Values of O options, (O, ...), by gene, axis and level, (D, 2, L, ...); `empty` where there is no option."""
        array = np.full((*self.gains.shape, *values.shape[1:]), empty)
        gene, axis, level = options.T
        array[gene, axis, level] = values
        array[self.axis < 0, 1] = array[self.axis < 0, 0]
        return array

    def chosen_axis(self, rows: Genotypes) -> Ints:
        """The axis by which each gene of N policies is sliced, (N, D)."""
        return np.where(self.axis >= 0, rows[:, self.axis], 0)


def _ranks(space: UpdateSpace, kinds: npt.NDArray[np.str_]) -> Ints:
    """The rank of each gene, (D,)."""
    place = np.array([max(gene.row, 0) for gene in space.genes], np.int64)
    for part in space.segments:
        without_row = [position for position in part.positions if space.genes[position].row < 0]
        place[without_row] = place[[*part.weights, *part.norms, *part.parameters]].max()
    ranks = np.empty(len(space), np.int64)
    ranks[np.lexsort((kinds == "sign", kinds == "lite", place))] = np.arange(len(space))
    return ranks


def _segments(space: UpdateSpace) -> tuple[Ints, Ints]:
    """The index of each gene's segment and the position of the axis gene it depends on, (D,) each."""
    segment, axis = np.zeros(len(space), np.int64), np.full(len(space), -1)
    for number, part in enumerate(space.segments):
        segment[list(part.positions)] = number
        if part.axis is not None:
            axis[[position for position in part.weights if space.levels[position] > 2]] = part.axis
    return segment, axis
