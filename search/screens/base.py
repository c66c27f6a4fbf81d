"""Additive scores: a value for every tensor that may train, from which those of all policies are summed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...spaces.table import SCALED, UpdateTable
from ...spaces.trace import Trace

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AdditiveScore:
    """What it is worth to train each tensor of a network; arrays are (R,), over `trace.rows`.

    score(policy) = sum over rows of sqrt(trained share of the weight) * weight + bias, if it trains, + scale likewise.

    Scores order policies and have no unit: they say nothing of accuracy, and more always scores higher.

    Attributes:
        trace: The network.
        weight: Of a whole weight; of part of it, its share's square root as much.
        bias: Of a bias, or a norm's shift.
        scale: Of a norm's scale, or a parameter by itself.
    """

    trace: Trace
    weight: Floats
    bias: Floats
    scale: Floats

    def __call__(self, table: UpdateTable) -> Floats:
        """The scores of N policies, (N,)."""
        whole = np.array([max(1, layer.weights) for layer in self.trace.rows], np.float64)
        scaled = np.array([layer.kind in SCALED for layer in self.trace.rows])
        shares = np.sqrt(np.where(scaled, 0, table.trained_weights) / whole)
        scores: Floats = shares @ self.weight + table.bias @ self.bias + table.scale @ self.scale
        return scores
