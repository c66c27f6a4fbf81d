"""The front of an additive score under exactly known costs: what is worth a fine-tuning at all.

Two steps find it. Once it is fixed how deep training reaches, costs are nearly sums over genes, and so is the score. So
for any price of memory and time the best level of every gene is found on its own (Everett 1963), and a grid of prices
over all depths gives a first set of policies. Their true costs are then computed, and small changes of those on the
front are tried as long as they bring anything.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..devices.costs import Costs
from ..results.limits import Limits
from ..results.pareto import nondominated
from ..spaces.space import SHIFT, Genotypes, UpdateSpace
from .screens.base import AdditiveScore

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: Prices of memory and of time, as the share of all that could be trained which is too dear at them.
DEAR = np.linspace(0.0, 0.97, 14)
#: Rounds of changes, and changed policies of a round.
ROUNDS, CHANGES = 24, 6000
#: Policies of the front from which a round starts.
PARENTS = 1500
#: Genes that the score says nothing of, and that change what training gives: left alone.
UNSCORED = ("axis", "sign", "statistics")


@dataclass(frozen=True)
class Screened:
    """Policies of which none is better in score, memory and time at once; arrays are (K,).

    Attributes:
        rows: Encoded policies, (K, D).
        scores: Their scores.
        memory_bytes: Peak training memory.
        latency_s: Seconds of a step.
        candidates: How many policies were costed.
        seconds: Wall time.
    """

    rows: Genotypes
    scores: Floats
    memory_bytes: npt.NDArray[np.int64]
    latency_s: Floats
    candidates: int
    seconds: float

    def __len__(self) -> int:
        return len(self.rows)

    def best(self, memory_bytes: float = np.inf, latency_s: float = np.inf) -> int | None:
        """Place of the highest score at no more memory and time; None where nothing is as cheap."""
        fitting = np.flatnonzero((self.memory_bytes <= memory_bytes) & (self.latency_s <= latency_s))
        return int(fitting[self.scores[fitting].argmax()]) if len(fitting) else None


def screen(
    space: UpdateSpace,
    score: AdditiveScore,
    cost: Callable[[Genotypes], Costs],
    limits: Limits,
    *,
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Screened:
    """Find the front of score, peak memory and step time within limits.

    Args:
        space: The policies.
        score: What it is worth to train each tensor.
        cost: What encoded policies cost.
        limits: What a policy may cost.
        seed: Same seed, same front.
        rounds: Most rounds of changes.
    """
    begun = time.perf_counter()
    rng = np.random.default_rng(seed)
    search = _Front(space, score, cost, limits)
    search.add(np.zeros((1, len(space)), np.int64))
    if space.segments:
        search.add(_by_prices(space, score, cost))
        for _ in range(rounds):
            if not len(search.rows) or not search.add(_changed(space, search.rows, rng)):
                break
    return Screened(
        search.rows,
        search.values[:, 0] * -1,
        search.values[:, 1].astype(np.int64),
        search.values[:, 2],
        search.candidates,
        time.perf_counter() - begun,
    )


class _Front:
    """The policies that no other seen so far dominates."""

    def __init__(
        self, space: UpdateSpace, score: AdditiveScore, cost: Callable[[Genotypes], Costs], limits: Limits
    ) -> None:
        self._space, self._score, self._cost, self._limits = space, score, cost, limits
        self.rows: Genotypes = np.zeros((0, len(space)), np.int64)
        self.values: Floats = np.zeros((0, 3))
        self.candidates = 0

    def add(self, rows: Genotypes) -> bool:
        """Cost and score some policies; whether any of them is on the front now."""
        costs = self._cost(rows)
        self.candidates += len(rows)
        fits = ~self._limits.exceeded(costs)
        scores = self._score(self._space.table(rows))
        values = np.column_stack([-scores, costs.memory_bytes, costs.latency_s])
        every = np.concatenate([self.values, values[fits]])
        chosen = np.flatnonzero(nondominated(every))
        old = len(self.values)
        self.rows = np.concatenate([self.rows, rows[fits]])[chosen]
        self.values = every[chosen]
        return bool((chosen >= old).any())


def gains(space: UpdateSpace, score: AdditiveScore) -> tuple[Floats, Genotypes]:
    """What each level of each gene adds to the score on its own.

    Returns:
        Gains, and the genes and levels that they belong to as rows of (gene, level).
    """
    pairs = np.array(
        [
            (d, level)
            for d, gene in enumerate(space.genes)
            if gene.kind not in UNSCORED
            for level in range(1, gene.levels)
        ]
    ).reshape(-1, 2)
    rows = np.zeros((len(pairs), len(space)), np.int64)
    rows[np.arange(len(pairs)), pairs[:, 0]] = pairs[:, 1]
    nothing = score(space.table(np.zeros((1, len(space)), np.int64)))[0]
    return score(space.table(rows)) - nothing, pairs


def _by_prices(space: UpdateSpace, score: AdditiveScore, cost: Callable[[Genotypes], Costs]) -> Genotypes:
    """The best policy of every depth at every pair of prices, by costs as they add up."""
    worth, pairs = gains(space, score)
    found: list[Genotypes] = []
    for depth in range(len(space.segments)):
        base = _base(space, depth)
        inside = np.isin(pairs[:, 0], [p for segment in space.segments[depth:] for p in segment.positions])
        own, value = pairs[inside], worth[inside]
        rows = np.repeat(base[None], len(own) + 1, 0)
        rows[np.arange(len(own)), own[:, 0]] = own[:, 1]
        costs, table = cost(rows), space.table(rows)
        # What is kept, and what trains: the peak itself is a maximum, which a single change seldom moves.
        memory = costs.saved_bytes + 4.0 * table.trained_params.sum(1)
        memory, seconds = (each[:-1] - each[-1] for each in (memory, costs.latency_s))
        for memory_price in _prices(value, memory):
            for time_price in _prices(value, seconds):
                found.append(_chosen(base, own, value - memory_price * memory - time_price * seconds))
    return np.unique(np.array(found).reshape(-1, len(space)), axis=0)


def _base(space: UpdateSpace, depth: int) -> npt.NDArray[np.int64]:
    """Nothing but one shift, or the least of one weight, of the segment at a depth."""
    base = np.zeros(len(space), np.int64)
    segment = space.segments[depth]
    base[segment.norms[-1] if segment.norms else segment.weights[-1]] = SHIFT
    return base


def _prices(value: Floats, price: Floats) -> Floats:
    """Prices at which more and more of the changes are not worth what they cost."""
    dear = price > 0
    return np.quantile(value[dear] / price[dear], DEAR) if dear.any() else np.zeros(1)


def _chosen(base: npt.NDArray[np.int64], pairs: Genotypes, net: Floats) -> npt.NDArray[np.int64]:
    row = base.copy()
    best = np.zeros(len(base))
    for (gene, level), worth in zip(pairs, net, strict=True):
        if worth > best[gene]:
            row[gene], best[gene] = level, worth
    return row


def _changed(space: UpdateSpace, front: Genotypes, rng: np.random.Generator) -> Genotypes:
    """Policies near those of a front: one to three genes other, or the lowest segment that trains left out."""
    free = np.array([d for d, gene in enumerate(space.genes) if gene.kind not in UNSCORED])
    parents = (
        front[rng.integers(len(front), size=CHANGES)]
        if len(front) > PARENTS
        else front.repeat(-(-CHANGES // len(front)), 0)[:CHANGES]
    )
    rows = parents.copy()
    every = np.arange(len(rows))
    for often in (1.0, 0.5, 0.25):
        genes = rng.choice(free, len(rows))
        step = rng.choice([-1, 1, space.levels.max()], len(rows))
        new = np.where(step > 1, rng.integers(0, space.levels[genes]), rows[every, genes] + step)
        hit = rng.random(len(rows)) < often
        rows[every[hit], genes[hit]] = np.clip(new, 0, space.levels[genes] - 1)[hit]
    return rows
