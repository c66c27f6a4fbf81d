"""The trials that none is better than in everything, kept as trials come: a front then costs no look at all of them."""

from collections.abc import Sequence

import numpy as np

from .pareto import Objective, as_minimised
from .records import TrialRecord


class Contenders:
    """Complete trials that say all that a front and its hypervolume need to know.

    Those that another is better than in every objective go. Those that are only dominated stay: the hypervolume is
    summed in slices, whose number, and with it the last digit, depends on points that share a value with another.
    Adding a trial takes time in proportion to how many are left.

    Args:
        objectives: What trials trade against each other.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = tuple(objectives)
        self._trials: list[TrialRecord] = []
        self._values = np.empty((0, len(self._objectives)))

    @property
    def trials(self) -> list[TrialRecord]:
        """Those that are left, by number."""
        return sorted(self._trials, key=lambda trial: trial.number)

    def add(self, trial: TrialRecord) -> None:
        """Take in a complete trial if none is better in everything, and drop those that it is better than."""
        if trial.state != "complete":
            return
        point = as_minimised([getattr(trial, objective.name) for objective in self._objectives], self._objectives)
        if np.all(self._values < point, axis=1).any():
            return
        stays = ~np.all(self._values > point, axis=1)
        if not stays.all():
            self._trials = [known for known, keep in zip(self._trials, stays, strict=True) if keep]
        self._trials.append(trial)
        self._values = np.concatenate([self._values[stays], point[None]])
