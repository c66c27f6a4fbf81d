"""The default sampler: screen all policies, then fine-tune where the front is expected to gain most."""

from collections.abc import Sequence

import numpy as np

from ...results.pareto import OBJECTIVES, as_minimised, hypervolume
from ...results.records import TrialRecord
from ...spaces.space import Genotype, UpdateSpace
from ..beliefs import Belief, joined
from ..judgement import believe, evidence_of, trial_features
from ..screening import screen, spread
from ..surrogate import Floats, Surrogate, features
from .base import Sampler, SamplerTask

#: Policies of the screen's front among which the next is chosen.
CANDIDATES = 300
#: Quantiles of a normal distribution, each of an equal share: what a candidate's accuracy may turn out as.
DRAWS = np.array([-1.28, -0.52, 0.0, 0.52, 1.28])
#: Fewest fine-tunings before the search may end.
FEWEST = 8
#: With several networks, fine-tunings of each before they go to what promises most; of all but one, these come on top.
OPENING = 2
#: The search ends where no candidate is expected to add this share of what the front's hypervolume is uncertain by.
WORTH = 0.25
#: Draws of the accuracies of the front, to see how uncertain its hypervolume is.
FRONTS = 64


class AutoSampler(Sampler):
    """Proposes the policy of the screen's front that promises the largest expected gain of hypervolume.

    Costs are known exactly; accuracies are believed as the surrogate says (Emmerich, Giannakoglou and Naujoks 2006 for
    the expected gain). Policies of one round are chosen one after another, each as if those before had given what is
    expected of them (Ginsbourger, Le Riche and Carraro 2010).

    Attributes:
        rivals: Samplers of other networks: the front is of all of them, and so are its gains and its uncertainty.
    """

    knows_better = True

    def __init__(self, space: UpdateSpace, seed: int, *, warm_up: int = 0, objectives: int = 3) -> None:
        super().__init__(space, seed, warm_up=warm_up, objectives=objectives)
        self._trials: list[TrialRecord] = []
        self._order: list[int] = []
        self._gain = np.inf
        self._belief: Belief | None = None
        self.rivals: Sequence[AutoSampler] = ()

    def prepare(self, task: SamplerTask) -> None:
        """Screen the space."""
        self._task = task
        found = screen(self.space, task.score, task.cost_rows, task.limits, seed=self.seed)
        chosen = spread(found, CANDIDATES)
        self._rows = found.rows[chosen]
        self._costs = np.column_stack([found.memory_bytes[chosen], found.latency_s[chosen]]).astype(np.float64)
        self._points = features(self.space.table(self._rows), found.scores[chosen], found.memory_bytes[chosen])
        self._worst, self._best = (
            as_minimised([point[objective.name] for objective in OBJECTIVES], OBJECTIVES)
            for point in (task.reference_point, task.ideal_point)
        )

    def ask(self, attempt: int = 0) -> Genotype:
        """The candidates in the order of what they promise."""
        if not self._order:
            self._order = self._ranked() if self._trials else _bisected(self._points[:, 0])
        row: Genotype = self._rows[self._order[attempt % len(self._order)]]
        return row

    def learn(self, trial: TrialRecord) -> None:
        """Take a fine-tuning as evidence."""
        self._trials.append(trial)
        self._belief = None
        for sampler in (self, *self.rivals):
            sampler._order = []

    def tell(self, genotype: Genotype, values: Sequence[float]) -> None:
        """Nothing that `learn` has not said."""

    def enough(self) -> str:
        """Whether what the best candidate promises is lost in the uncertainty of the front."""
        if not self._trials:
            return ""
        if sum(len(sampler._trials) for sampler in (self, *self.rivals)) < FEWEST + OPENING * len(self.rivals):
            return ""
        if self.promise() >= WORTH * self._uncertainty:
            return ""
        return (
            f"another fine-tuning is expected to add {self._gain:.1e} to the hypervolume, which is uncertain by "
            f"{self._uncertainty:.1e}"
        )

    def promise(self) -> float:
        """Expected gain of hypervolume by the best candidate; -inf as long as no fine-tuning is known."""
        if not self._trials:
            return -np.inf
        if not self._order:
            self._order = self._ranked()
        return self._gain

    def _believed(self) -> Belief:
        if self._belief is None:
            self._belief = believe(self._task, self._trials)
        return self._belief

    def _paid(self) -> Floats:
        return np.array([[trial.peak_bytes, trial.latency_s] for trial in self._trials], np.float64)

    def _ranked(self) -> list[int]:
        evidence, known = evidence_of(self._trials), trial_features(self._task, self._trials)
        costs = self._paid()
        rivals = [rival for rival in self.rivals if rival._trials]
        together = [sampler._believed() for sampler in (self, *rivals)]
        every = np.concatenate([costs, *(rival._paid() for rival in rivals)])
        self._uncertainty = self._spread_of_front(*joined(together), every)
        theirs = [_minimised(rival._believed().mean, rival._paid()) for rival in rivals]
        tried = {trial.row for trial in self._trials}
        known_already = [place for place, row in enumerate(self._rows) if tuple(row.tolist()) in tried]
        order: list[int] = []
        for number in range(min(4, len(self._rows))):
            surrogate = Surrogate(known, evidence)
            front = np.concatenate([_minimised(surrogate.predict(known)[0], costs), *theirs])
            mean, covariance = surrogate.predict(self._points)
            gains = self._gains(front, mean, np.sqrt(np.maximum(np.diag(covariance), 0)))
            gains[[*known_already, *order]] = -1.0
            best = int(gains.argmax())
            if number == 0:
                self._gain = float(gains[best])
            order.append(best)
            known = np.concatenate([known, self._points[best : best + 1]])
            costs = np.concatenate([costs, self._costs[best : best + 1]])
            evidence = evidence.believing(float(mean[best]))
        rest = np.argsort(-gains, kind="stable")
        return [*order, *(int(place) for place in rest if place not in order)]

    def _gains(self, front: Floats, mean: Floats, sd: Floats) -> Floats:
        """Expected gain of hypervolume by each candidate, (N,)."""
        now = self._volume(front)
        gains = np.zeros(len(mean))
        for draw in DRAWS:
            points = _minimised(mean + draw * sd, self._costs)
            gains += [self._volume(np.concatenate([front, point[None]])) - now for point in points]
        return gains / len(DRAWS)

    def _spread_of_front(self, mean: Floats, covariance: Floats, costs: Floats) -> float:
        rng = np.random.default_rng(self.seed)
        root = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(mean)))
        draws = mean + rng.standard_normal((FRONTS, len(mean))) @ root.T
        return float(np.std([self._volume(_minimised(draw, costs)) for draw in draws]))

    def _volume(self, points: Floats) -> float:
        return hypervolume(points, self._worst, self._best)


def _bisected(score: Floats) -> list[int]:
    """Places from the highest score on, each in the middle of what is left: a first look at the whole range."""
    order = np.argsort(-score, kind="stable")
    places = [0, len(order) // 2, len(order) // 4, 3 * len(order) // 4, len(order) // 8]
    first = [int(order[min(place, len(order) - 1)]) for place in places]
    return list(dict.fromkeys([*first, *map(int, order)]))


def _minimised(accuracy: Floats, costs: Floats) -> Floats:
    """Points of (accuracy, memory, time) of which all is to be small, (N, 3)."""
    return as_minimised(np.column_stack([accuracy, costs]), OBJECTIVES)
