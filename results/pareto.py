"""Pareto dominance and hypervolume, computed by moocore.

A point dominates another when it is at least as good in every objective and better in one. Points are rows
of an (N, M) array in which every column is to be minimised; `as_minimised` makes such rows of natural values.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic.dataclasses import dataclass

from ..core.metrics import METRICS


@dataclass(frozen=True, config={"extra": "forbid"})
class Objective:
    """Something that a search makes large or small.

    Attributes:
        name: The field of a trial and of a front member that holds its value.
        minimise: Whether small is good.
    """

    name: str
    minimise: bool = True


#: What a search optimises unless told otherwise: top-1 accuracy (0 to 1), peak training memory (B), and the
#: latency of a training step (s).
OBJECTIVES = tuple(Objective(name, METRICS[name].minimise) for name in ("accuracy", "peak_bytes", "latency_s"))


def as_minimised(values: ArrayLike, objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """Change the sign of what is to be maximised.

    Args:
        values: (N, M) or (M,) values in their natural units, a column per objective.
        objectives: The M objectives.

    Returns:
        The same shape, every column to be minimised.
    """
    return np.asarray(values, dtype=np.float64) * [1.0 if o.minimise else -1.0 for o in objectives]


def nondominated(values: ArrayLike) -> NDArray[np.bool_]:
    """Find the rows that no other row dominates.

    O(N log N) up to three objectives (Kung, Luccio and Preparata 1975). Of rows that are exactly equal the
    first is kept. A row that holds a NaN is never on the front and dominates nothing.

    Args:
        values: (N, M) array, every column to be minimised; N may be 0.

    Returns:
        (N,) mask of the front.

    Example:
        >>> nondominated([[1, 2], [2, 1], [2, 2], [1, 2]]).tolist()
        [True, True, False, False]
    """
    import moocore

    points = _rows(values)
    mask = _whole(points)
    if mask.any():
        # Ranks instead of values: the order is all that counts, and moocore 0.3 keeps equal rows that hold an
        # infinity when there are four objectives or more.
        ranks = [np.unique(column, return_inverse=True)[1] for column in points[mask].T]
        mask[mask] = moocore.is_nondominated(np.column_stack(ranks), keep_weakly=False)
    return mask


def hypervolume(values: ArrayLike, reference: ArrayLike, ideal: ArrayLike) -> float:
    """Measure the share of the box between an ideal and a reference point that some row dominates.

    Both points are fixed by the problem, not by the rows, so shares compare between runs that state the same
    two. What a row dominates outside the box does not count, nor does a row that holds a NaN. Exact.

    Args:
        values: (N, M) array, every column to be minimised; N may be 0.
        reference: (M,) worst values that count.
        ideal: (M,) best values thinkable, each below its reference.

    Returns:
        0 (nothing dominates the reference) to 1 (the ideal was reached).

    Raises:
        ValueError: The ideal is not below the reference, or the shapes disagree.

    Example:
        >>> hypervolume([[0.0, 0.5], [0.5, 0.0]], reference=[1, 1], ideal=[0, 0])
        0.75
    """
    import moocore

    points, best, worst = _rows(values), np.asarray(ideal, np.float64), np.asarray(reference, np.float64)
    if best.shape != worst.shape or best.ndim != 1 or not (best < worst).all():
        raise ValueError(f"the ideal point {best} must lie below the reference point {worst}")
    points = points[_whole(points)]
    if not len(points):
        return 0.0
    scaled = np.clip((points - best) / (worst - best), 0.0, 1.0)
    return float(moocore.hypervolume(scaled, ref=np.ones(len(best))))


def _rows(values: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] == 0:
        raise ValueError(f"values must be an (N, M) array, not one of shape {points.shape}")
    return points


def _whole(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(points).any(axis=1), dtype=np.bool_)
