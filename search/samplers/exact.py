"""The front of the screen under exact costs, taken at its word: what `auto` would be without learning."""

from collections.abc import Sequence

import numpy as np

from ...spaces.space import Genotype, UpdateSpace
from ..screening import screen, spread
from ..surrogate import Floats
from .base import Sampler, SamplerTask

#: Policies of the screen's front that may be asked for.
CANDIDATES = 300


class ExactSampler(Sampler):
    """Proposes policies of the screen's front, each as far as can be from those before in score and costs."""

    knows_better = True

    def __init__(self, space: UpdateSpace, seed: int, *, warm_up: int = 0, objectives: int = 3) -> None:
        super().__init__(space, seed, warm_up=warm_up, objectives=objectives)

    def prepare(self, task: SamplerTask) -> None:
        """Screen the space."""
        found = screen(self.space, task.score, task.cost_rows, task.limits, seed=self.seed)
        chosen = spread(found, CANDIDATES)
        points = np.log(np.column_stack([found.scores, found.memory_bytes, found.latency_s])[chosen] + 1e-12)
        self._rows = found.rows[chosen][_apart(points)]

    def ask(self, attempt: int = 0) -> Genotype:
        """The next, those that are known being passed over."""
        row: Genotype = self._rows[attempt % len(self._rows)]
        return row

    def tell(self, genotype: Genotype, values: Sequence[float]) -> None:
        """Nothing: what is worth a try does not depend on what came of the others."""


def _apart(points: Floats) -> list[int]:
    """Places of points, (N, F), from the first coordinate's largest on, each farthest from those before it."""
    points = (points - points.mean(0)) / np.maximum(points.std(0), 1e-12)
    order = [int(points[:, 0].argmax())]
    distance = np.full(len(points), np.inf)
    while len(order) < len(points):
        distance = np.minimum(distance, np.square(points - points[order[-1]]).sum(1))
        distance[order] = -1.0
        order.append(int(distance.argmax()))
    return order
