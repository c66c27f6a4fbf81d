"""Costs as sums of prices: the best policies at given worths of a byte and a second, and a bound on the score.

At a given depth, which is the first gene that trains, latency is a sum over genes, and peak memory nearly is. The score
is a sum too. So once a byte and a second are worth so and so much score, the best level of every gene is found by
itself, and the policy that comes of it has the highest score of all that cost no more than it does (Everett 1963,
"Generalized Lagrange multiplier method for solving problems of optimum allocation of resources").
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ...spaces.space import Genotypes
from .pricing import Bools, Choices, Floats, Ints

#: Which of bytes and seconds each price is of: a byte has two.
COLUMNS = [0, 0, 1]
#: Genes of the policies that are costed together, which bounds the memory that deep networks take: 160 MB of rows. What
#: networks of 70 layers have is costed at once.
TOGETHER = 20_000_000
#: Share of the multipliers that price one cost alone.
ALONE = 0.15


@dataclass(frozen=True)
class Solutions:
    """The best policy for each of P pairs of multipliers at each of F depths.

    Attributes:
        rows: The policies, (F, P, D).
        multipliers: Score that a unit of each cost is worth, (F, P, C).
        values: Score added to that of the head alone, less all prices, (F, P).
    """

    rows: Genotypes
    multipliers: Floats
    values: Floats


@dataclass(frozen=True)
class Relaxation:
    """The prices of all levels at each of F depths.

    Memory has two prices, as a peak is a maximum over moments: what a change adds to the peak of the policy that trains
    least at a depth, and what it adds to that of the policy that trains most from the same segment on. The peak of the
    first may be in the backward pass of large early layers, that of the second where most is kept. Latency has one
    price, so C = 3.

    Attributes:
        choices: The levels that may be chosen.
        firsts: The first gene that trains at each depth, (F,).
        fixed: What a policy of a depth costs besides its prices, (F, C).
        prices: What a level costs more than level 0, (F, D, 2, L, C); NaN where it may not be chosen at a depth.
    """

    choices: Choices
    firsts: Ints
    fixed: Floats
    prices: Floats

    @classmethod
    def of(cls, choices: Choices, paid: Callable[[Genotypes], Floats]) -> Self:
        """Price single changes of the policy that trains least at each depth.

        Args:
            choices: The levels that may be chosen.
            paid: Bytes of memory and seconds of a step of N encoded policies, (N, 2).
        """
        firsts, depths = choices.starts, np.arange(len(choices.starts))
        opened = choices.open & (choices.rank >= choices.rank[firsts, None])
        least = np.zeros((len(firsts), len(choices.space)), np.int64)
        least[depths, firsts] = 1
        # The depths lie in the order of the network, and so do segments.
        _, deepest, segment = np.unique(choices.segment[firsts], return_index=True, return_inverse=True)
        most = np.where(opened[deepest], choices.top, 0)
        totals, paid_most = _priced_around(choices, most, opened[deepest], paid)
        at_least, paid_least = _priced_around(choices, least, opened, paid)
        prices = np.stack([at_least[..., 0], totals[segment][..., 0], at_least[..., 1]], -1)
        prices[np.isnan(at_least[..., 0])] = np.nan
        prices[depths, firsts, :, 0] = np.nan  # the first gene trains
        relaxation = cls(choices, firsts, np.zeros((len(firsts), len(COLUMNS))), prices)
        fixed = paid_least[:, COLUMNS] - relaxation.priced(least)
        fixed[:, 1] = (paid_most[:, COLUMNS] - relaxation.priced(most))[segment, 1]
        return replace(relaxation, fixed=fixed)

    def solve(self, pairs: int, rng: np.random.Generator) -> Solutions:
        """The best policies at some worths of a byte and a second, drawn for each depth.

        Args:
            pairs: How many pairs of multipliers to draw for a depth.
            rng: Where they are drawn from.
        """
        multipliers = np.stack([self._multipliers(depth, pairs, rng) for depth in range(len(self.firsts))])
        solved = [self._best(depth, multipliers[depth]) for depth in range(len(self.firsts))]
        return Solutions(np.stack([rows for rows, _ in solved]), multipliers, np.stack([value for _, value in solved]))

    def lowered(self, rows: Genotypes, paid: Floats) -> Self:
        """The same with `fixed` so low at each depth that none of N policies is predicted to cost more than it does.

        Args:
            rows: Encoded policies, (N, D).
            paid: What they cost, (N, 2).
        """
        fixed, depth = self.fixed.copy(), self.depths(rows)
        spared = paid[:, COLUMNS] - self.priced(rows)
        known = (depth >= 0) & ~np.isnan(spared).any(1)
        np.minimum.at(fixed, depth[known], spared[known])
        return replace(self, fixed=fixed)

    def depths(self, rows: Genotypes) -> Ints:
        """The depth of each of N policies, (N,); -1 where it is the head alone or begins where none may."""
        depths = np.full(len(self.choices.space) + 1, -1)
        depths[self.firsts] = np.arange(len(self.firsts))
        return depths[self.choices.first(rows)]

    def priced(self, rows: Genotypes) -> Floats:
        """The prices of N policies added up, (N, C); NaN where one has a level that may not be chosen."""
        depths, axes, genes = self.depths(rows), self.choices.chosen_axis(rows), np.arange(rows.shape[1])
        priced = np.zeros((len(rows), len(COLUMNS)))
        for depth in np.unique(depths[depths >= 0]):
            own = depths == depth
            priced[own] = self.prices[depth][genes, axes[own], rows[own]].sum(1)
        return priced

    def bound(self, solutions: Solutions, limits: Floats) -> Floats:
        """What no policy can add to the score of the head alone within K limits, (K,), if it costs what is predicted.

        For any multipliers, what a policy adds is at most its gain less its price, plus the worth of the whole limit
        (weak duality); the least of these counts at each depth, and the largest of all depths.

        Args:
            solutions: What `solve` found.
            limits: Limits of memory and latency, (K, 2).
        """
        bound = np.zeros(len(limits))
        for depth in range(len(self.firsts)):
            room = limits[:, COLUMNS] - self.fixed[depth]
            least = np.nanmin(self.prices[depth], axis=(1, 2)).sum(0)
            dual = (solutions.values[depth] + room @ solutions.multipliers[depth].T).min(1)
            bound = np.where((room >= least).all(1), np.maximum(bound, dual), bound)
        return bound

    def _multipliers(self, depth: int, count: int, rng: np.random.Generator) -> Floats:
        """Multipliers, (P, C), spread over the ratios at which levels begin to pay, and mixed; the first are 0."""
        multipliers = np.zeros((count, len(COLUMNS)))
        for column in range(len(COLUMNS)):
            prices = self.prices[depth, ..., column]
            paying = (self.choices.gains > 0) & (prices > 0)
            if paying.any():
                shares = rng.permutation((np.arange(count) + rng.uniform(size=count)) / count)
                multipliers[:, column] = np.quantile(self.choices.gains[paying] / prices[paying], shares)
        mixed = np.clip(rng.uniform(-ALONE, 1 + ALONE, count), 0, 1)
        own = np.clip(rng.uniform(-1, 2, count), 0, 1)
        multipliers *= np.column_stack([mixed * own, mixed * (1 - own), 1 - mixed])
        multipliers[0] = 0
        return multipliers

    def _best(self, depth: int, multipliers: Floats) -> tuple[Genotypes, Floats]:
        """The policies of the largest gain less price for P pairs of multipliers, (P, D), and that value, (P,)."""
        choices = self.choices
        genes = np.flatnonzero(choices.open & (choices.rank >= choices.rank[self.firsts[depth]]))
        prices, gains = self.prices[depth][genes], choices.gains[genes]
        shut = np.isnan(prices[..., 0])
        worth = multipliers @ np.where(shut[..., None], 0, prices).reshape(-1, len(COLUMNS)).T
        values = np.where(shut, -np.inf, gains) - worth.reshape(-1, *gains.shape)
        segments, begins, place = np.unique(choices.segment[genes], return_index=True, return_inverse=True)
        by_axis = np.add.reduceat(values.max(-1), begins, axis=1)
        axis = by_axis.argmax(-1)
        rows = np.zeros((len(multipliers), len(choices.space)), np.int64)
        levels = values.argmax(-1)  # of equal values the lowest level
        rows[:, genes] = np.take_along_axis(levels, axis[:, place, None], -1)[..., 0]
        for number, segment in enumerate(segments):
            position = choices.space.segments[segment].axis
            if position is not None:
                sliced = np.flatnonzero(choices.axis == position)
                partial = (rows[:, sliced] > 0) & (rows[:, sliced] < choices.space.levels[sliced] - 1)
                rows[:, position] = axis[:, number] * partial.any(1)
        return rows, by_axis.max(-1).sum(1)


def _priced_around(
    choices: Choices, bases: Genotypes, opened: Bools, paid: Callable[[Genotypes], Floats]
) -> tuple[Floats, Floats]:
    """What levels cost more than level 0 beside each of F policies, (F, D, 2, L, 2), and what these cost, (F, 2).

    Args:
        choices: The levels that may be chosen.
        bases: The policies, (F, D).
        opened: The genes that are changed, one at a time, (F, D).
        paid: What encoded policies cost.
    """
    options = [choices.options(genes) for genes in opened]
    counts = [len(own) for own in options]
    shares = np.cumsum(counts) * len(choices.space) // TOGETHER
    costs = []
    for share in np.unique(shares):
        depths = np.flatnonzero(shares == share)
        rows = [choices.changed(bases[depth], options[depth]) for depth in depths]
        last = bases if depths[-1] == len(bases) - 1 else bases[:0]
        costs.append(paid(np.concatenate([*rows, last])))
    *parts, of_bases = np.split(np.concatenate(costs), np.cumsum(counts))
    totals = np.stack([choices.filled(own, part, np.nan) for own, part in zip(options, parts, strict=True)])
    prices = totals - totals[:, :, :, :1]
    prices[:, choices.gains == -np.inf] = np.nan
    prices[:, :, :, 0] = 0
    prices[:, choices.axis[choices.axis >= 0]] = 0  # an axis is priced with the levels that depend on it
    return prices, of_bases
