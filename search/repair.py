"""Repair: an encoded policy that breaks a limit is cut until it fits."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..devices.costs import Costs
from ..results.limits import Limits
from ..spaces.space import RATIOS, Genotype, UpdateSpace
from ..spaces.table import UpdateTable


@dataclass(frozen=True)
class Repair:
    """Cuts encoded policies of a space to its limits.

    A cut freezes some of the lowest segments and lowers the channel ratios of the rest.

    Attributes:
        space: The space.
        limits: What a policy may cost.
        cost: What the policies of a table cost: for many.
        exact: As `cost`, with the memory that a plan of each policy needs: for few.
    """

    space: UpdateSpace
    limits: Limits
    cost: Callable[[UpdateTable], Costs]
    exact: Callable[[UpdateTable], Costs]

    def __call__(self, genotype: Genotype) -> Genotype:
        """The encoded policy itself if it keeps to the limits, else its cut that does and trains most, (D,)."""
        cuts = self._cuts(genotype)
        table = self.space.table(np.stack(cuts))
        fits = np.flatnonzero(~self.limits.exceeded(self.cost(table)))
        # The policy itself, then by what they train.
        order = sorted(fits, key=lambda cut: (cut > 0, -int(table.trained_params[cut].sum())))
        for cut in order:
            if not self.limits.exceeded(self.exact(table[cut : cut + 1]))[0]:
                return cuts[cut]
        return cuts[-1]

    def _cuts(self, genotype: Genotype) -> list[Genotype]:
        """The policy itself first, and last the head alone, which was found to fit before the search began."""
        weights = [position for segment in self.space.segments for position in segment.weights]
        cuts = [genotype]
        for less in range(len(RATIOS) - 1):
            lowered = genotype.copy()
            lowered[weights] = np.maximum(np.minimum(genotype[weights], 1), genotype[weights] - less)
            for segment in self.space.segments:
                cuts.append(lowered.copy())
                lowered[list(segment.positions)] = 0
        cuts.append(np.zeros_like(genotype))
        return cuts
