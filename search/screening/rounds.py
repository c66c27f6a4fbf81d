"""Screening: the front of an additive score under exactly known costs, found without any training.

A first set of policies comes of `relaxation`: each is the best for some worth of a byte and a second, if costs add up.
They are costed exactly. Then one or two genes of the front's members are changed, and those that promise to extend the
front are costed, until a round brings nothing or the budget is spent.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from ...devices.costs import Costs
from ...results.limits import Limits
from ...results.pareto import nondominated
from ...spaces.space import Genotypes, UpdateSpace
from ..screens.base import AdditiveScore
from .candidates import CandidateFront, Candidates
from .pricing import Choices, Floats, Ints
from .relaxation import Relaxation

#: Spaces with at most so many policies to choose from are enumerated.
ENUMERATED = 20_000
#: Policies that are costed at most, unless another number is stated.
BUDGET = 80_000
#: Pairs of multipliers for each depth.
PAIRS = 256
#: Most rounds of changes.
ROUNDS = 12
#: Changes of the front's members that are drawn in a round, and genes of the policies that come of them.
DRAWN, DRAWN_GENES = 100_000, 30_000_000
#: Share of them that change two genes.
DOUBLE = 0.7
#: Members of the front whose score is compared with a bound.
CHECKED = 500
#: Whether memory is predicted by its price beside the policy that trains least (0), or most (1).
MEMORY_PRICE = 1


@dataclass(frozen=True)
class Screened:
    """The front of score, peak memory and latency, those of the least memory first; arrays are (K,).

    Attributes:
        rows: Encoded policies, (K, D).
        scores: Their scores.
        costs: What they cost.
        checked: Places of members that a bound was found for, spread evenly over the front, (G,).
        gaps: How far the score of each of those can be below the best at no more memory and latency, as a share of a
            bound on that, (G,). The bound assumes that a policy costs at least what `relaxation` predicts, lowered at
            each depth until no member costs less. Latency is such a sum of prices; peak memory is a maximum over
            moments and can be less, so the bound is no proof. All 0 where the space was enumerated.
        candidates: How many policies were costed.
        seconds: Wall time.
    """

    rows: Genotypes
    scores: Floats
    costs: Costs
    checked: Ints
    gaps: Floats
    candidates: int
    seconds: float

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def memory_bytes(self) -> Ints:
        """Peak memory, or the planned arena where `cost` planned it."""
        return self.costs.memory_bytes

    @property
    def latency_s(self) -> Floats:
        """Seconds of a step."""
        return self.costs.latency_s

    def best(self, memory_bytes: float = np.inf, latency_s: float = np.inf) -> int | None:
        """Place of the highest score at no more memory and latency; None where nothing is as cheap."""
        fitting = np.flatnonzero((self.memory_bytes <= memory_bytes) & (self.latency_s <= latency_s))
        return int(fitting[self.scores[fitting].argmax()]) if len(fitting) else None


def screen(
    space: UpdateSpace,
    score: AdditiveScore,
    cost: Callable[[Genotypes], Costs],
    limits: Limits,
    *,
    seed: int = 0,
    seeds: Genotypes | None = None,
    approximations: bool = False,
    budget: int = BUDGET,
) -> Screened:
    """Find the front of score, peak memory and latency within limits.

    Levels that add nothing to the score are left out, and so are batch statistics, which cost and do not score.

    Args:
        space: The policies.
        score: What it is worth to train each tensor.
        cost: What encoded policies cost.
        limits: What a policy may cost.
        seed: Same seed, same front.
        seeds: Encoded policies to begin with, (N, D), whatever their levels.
        approximations: Whether sign masks may stand where they save memory; the score does not see what they cost in
            accuracy.
        budget: Policies to cost at most, once all levels are priced.

    Example:
        >>> import numpy as np
        >>> import tinysearch as ts
        >>> from torch import nn
        >>> from tinysearch.devices.costs import cost_rows
        >>> from tinysearch.results.limits import Limits
        >>> from tinysearch.search.screens.base import AdditiveScore
        >>> layers = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
        >>> trace = ts.trace(nn.Sequential(*layers), (3, 16, 16))
        >>> space, device = ts.UpdateSpace(trace), ts.load_device("rpi4")
        >>> score = AdditiveScore(trace, *np.ones((3, len(trace.rows))))
        >>> found = screen(space, score, lambda rows: cost_rows(space, rows, device), Limits())
        >>> found.rows[found.best()].tolist()  # the whole weight, and the bias
        [4, 1, 0]
    """
    begun, rng = time.perf_counter(), np.random.default_rng(seed)
    choices = Choices.of(space, score, approximations=approximations)
    front = CandidateFront(space, score, cost, limits)
    alone = np.zeros((1, len(space)), np.int64)
    front.add(alone if seeds is None else np.concatenate([alone, space.check(seeds)]))
    every = _enumerated(choices)
    if every is not None:
        front.add(every)
    else:
        relaxation = Relaxation.of(choices, front.add)
        solutions = relaxation.solve(PAIRS, rng)
        front.add(np.unique(solutions.rows.reshape(-1, len(space)), axis=0))
        for _ in range(ROUNDS):
            before = front.members.objectives
            front.add(_promising(relaxation, front.members, limits, rng)[: max(0, budget - front.seen)])
            if np.array_equal(before, front.members.objectives):
                break
    found = front.members[np.lexsort((front.members.costs.latency_s, front.members.costs.memory_bytes))]
    checked = np.unique(np.linspace(0, max(0, len(found) - 1), CHECKED).astype(np.int64))[: len(found)]
    gaps = np.zeros(len(checked))
    if every is None:
        relaxation = relaxation.lowered(found.rows, found.paid)
        bounds = score(space.table(alone)) + relaxation.bound(solutions, found.paid[checked])
        below = np.clip(bounds - found.scores[checked], 0, None)
        np.divide(below, bounds, out=gaps, where=below > 0)
    seconds = time.perf_counter() - begun
    return Screened(found.rows, found.scores, found.costs, checked, gaps, front.seen, seconds)


def _enumerated(choices: Choices) -> Genotypes | None:
    """All policies that may be chosen, (N, D), or None where they are too many."""
    levels = choices.levels
    if np.prod([float(len(each)) for each in levels]) > ENUMERATED:
        return None
    return np.array(list(product(*levels)), np.int64)


def _promising(relaxation: Relaxation, front: Candidates, limits: Limits, rng: np.random.Generator) -> Genotypes:
    """Changes of one or two genes of a front's members that are predicted to extend it, (N, D)."""
    choices, depths = relaxation.choices, relaxation.depths(front.rows)
    parents = np.flatnonzero(depths >= 0)
    if not len(parents):
        return front.rows[:0]
    count = min(DRAWN, DRAWN_GENES // len(choices.space))
    parent = rng.choice(parents, count)
    rows, axes, depth = front.rows[parent], choices.chosen_axis(front.rows), depths[parent]
    every, able = np.arange(count), np.flatnonzero(choices.open)
    changes = np.zeros((count, 3))  # of what is to be small
    for often in (1.0, DOUBLE):
        gene = rng.choice(able, count)
        before, axis = rows[every, gene], axes[parent, gene]
        drawn = rng.integers(0, choices.space.levels[gene])
        after = np.where(rng.uniform(size=count) < often, drawn, before)
        rows[every, gene] = after
        with np.errstate(invalid="ignore"):  # what may not be chosen gains minus infinity, and is left out below
            changes[:, 0] -= choices.gains[gene, axis, after] - choices.gains[gene, axis, before]
            prices = relaxation.prices[depth, gene, axis, after] - relaxation.prices[depth, gene, axis, before]
        changes[:, 1:] += prices[:, [MEMORY_PRICE, 2]]
    predicted = front.objectives[parent] + changes
    for column, most in ((1, limits.peak_bytes), (2, limits.latency_s)):
        if most is not None:
            predicted[predicted[:, column] > most] = np.nan
    predicted[~np.isfinite(predicted).all(1)] = np.nan
    extends = nondominated(np.concatenate([front.objectives, predicted]))[len(front) :]
    promising: Genotypes = rows[extends]
    return promising
