"""Independent draws."""

from collections.abc import Sequence

import numpy as np

from ...spaces.space import Genotype
from .base import Sampler


class RandomSampler(Sampler):
    """Independent draws of `UpdateSpace.sample`: the baseline that others must beat."""

    _told = 0

    def ask(self, attempt: int = 0) -> Genotype:
        """Draw an encoded policy."""
        seed = np.random.SeedSequence([self.seed, self._told, attempt]).generate_state(1)[0]
        genotype: Genotype = self.space.sample(1, int(seed))[0]
        return genotype

    def tell(self, genotype: Genotype, values: Sequence[float]) -> None:
        """Count what is told."""
        self._told += 1
