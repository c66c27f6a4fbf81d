"""Policies with their scores and costs, and the front of those that were seen so far."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...devices.costs import ARRAYS, Costs
from ...results.limits import Limits
from ...results.pareto import nondominated
from ...spaces.space import Genotypes, UpdateSpace
from ..screens.base import AdditiveScore
from .pricing import Bools, Floats, Ints


@dataclass(frozen=True)
class Candidates:
    """N encoded policies, (N, D), with their scores, (N,), and costs."""

    rows: Genotypes
    scores: Floats
    costs: Costs

    @property
    def paid(self) -> Floats:
        """Bytes of memory and seconds of a step, (N, 2)."""
        return np.column_stack([self.costs.memory_bytes, self.costs.latency_s])

    @property
    def objectives(self) -> Floats:
        """What is to be small: the score's negative, memory and latency, (N, 3)."""
        return np.column_stack([-self.scores, self.paid])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Bools | Ints) -> "Candidates":
        return Candidates(self.rows[which], self.scores[which], _each(lambda array: array[which], self.costs))

    def joined(self, other: "Candidates") -> "Candidates":
        """These, and others behind them."""
        return Candidates(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.scores, other.scores]),
            _each(lambda *arrays: np.concatenate(arrays), self.costs, other.costs),
        )


class CandidateFront:
    """The policies within limits that no other seen so far dominates.

    Args:
        space: What they are encoded in.
        score: Their scores.
        cost: Their costs.
        limits: What one may cost.

    Attributes:
        members: The front.
        seen: How many policies were costed.
    """

    def __init__(
        self, space: UpdateSpace, score: AdditiveScore, cost: Callable[[Genotypes], Costs], limits: Limits
    ) -> None:
        self._space, self._score, self._cost, self._limits = space, score, cost, limits
        self.members = self._evaluated(np.zeros((0, len(space)), np.int64))
        self.seen = 0

    def add(self, rows: Genotypes) -> Floats:
        """Score and cost N encoded policies; what they cost, (N, 2), is returned."""
        new = self._evaluated(rows)
        self.seen += len(rows)
        both = self.members.joined(new[~self._limits.exceeded(new.costs)])
        self.members = both[nondominated(both.objectives)]
        return new.paid

    def _evaluated(self, rows: Genotypes) -> Candidates:
        return Candidates(rows, self._score(self._space.table(rows)), self._cost(rows))


def _each(change: Callable[..., Any], *costs: Costs) -> Costs:
    names = ARRAYS if costs[0].arena_bytes is None else (*ARRAYS, "arena_bytes")
    return replace(costs[0], **{name: change(*(getattr(each, name) for each in costs)) for name in names})
