"""A sampler: small steps from the row that was best so far."""

from collections.abc import Sequence

import numpy as np

from tinysearch.search.samplers import Sampler
from tinysearch.spaces.space import Genotype, UpdateSpace


class Walk(Sampler):
    """Steps from the best row so far, independent draws in the warm-up."""

    def __init__(self, space: UpdateSpace, seed: int, *, warm_up: int = 0, objectives: int = 3) -> None:
        super().__init__(space, seed)
        self._warm_up = warm_up
        self._told: list[tuple[float, Genotype]] = []

    def ask(self, attempt: int = 0) -> Genotype:
        """A draw, or the best row with some genes drawn anew."""
        seed = int(np.random.SeedSequence([self.seed, len(self._told), attempt]).generate_state(1)[0])
        drawn: Genotype = self.space.sample(1, seed)[0]
        if len(self._told) < self._warm_up:
            return drawn
        best = min(self._told, key=lambda pair: pair[0])[1]
        moved = np.random.default_rng(seed).random(len(drawn)) < 0.3
        return np.where(moved, drawn, best)

    def tell(self, row: Genotype, values: Sequence[float]) -> None:
        """Remember a row by its first objective."""
        self._told.append((values[0], row.copy()))
