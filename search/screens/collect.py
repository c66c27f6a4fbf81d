"""Values of tensors, collected into an additive score."""

import numpy as np

from ...spaces.trace import Trace
from .base import AdditiveScore, Floats
from .tensors import Part


class Values:
    """The values of a network's tensors so far; 0 of those that none was told for.

    Args:
        trace: The network.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._values: dict[Part, Floats] = {part: np.zeros(len(trace.rows)) for part in ("weight", "bias", "scale")}

    def add(self, row: int, part: Part, value: float) -> None:
        """Add to the value of a part of a row."""
        self._values[part][row] += value

    def score(self) -> AdditiveScore:
        """The score."""
        return AdditiveScore(self._trace, **self._values)
