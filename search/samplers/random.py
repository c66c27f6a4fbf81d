"""Independent draws."""

from collections.abc import Sequence

import numpy as np

from ...spaces.space import Rows
from .base import Sampler


class RandomSampler(Sampler):
    """Independent draws of `UpdateSpace.sample`: the baseline that others must beat."""

    _told = 0

    def ask(self, attempt: int = 0) -> Rows:
        """Draw a row."""
        seed = np.random.SeedSequence([self.seed, self._told, attempt]).generate_state(1)[0]
        row: Rows = self.space.sample(1, int(seed))[0]
        return row

    def tell(self, row: Rows, values: Sequence[float]) -> None:
        """Count the trial."""
        self._told += 1
