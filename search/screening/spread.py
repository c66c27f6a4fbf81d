"""A few policies that stand for a whole front."""

import numpy as np

from .pricing import Floats, Ints
from .rounds import Screened


def spread(found: Screened, count: int) -> Ints:
    """Places of at most so many policies of a front: the best of each part of the plane of memory and time."""
    if len(found) <= count:
        return np.arange(len(found))
    parts = int(np.sqrt(2 * count))  # a front fills about half of the plane
    best: dict[tuple[int, int], int] = {}
    cells = np.column_stack([_ranks(found.memory_bytes, parts), _ranks(found.latency_s, parts)])
    for place in np.argsort(found.scores, kind="stable"):
        best[int(cells[place, 0]), int(cells[place, 1])] = int(place)
    chosen = sorted(best.values(), key=lambda place: -found.scores[place])
    return np.array(chosen[:: max(1, -(-len(chosen) // count))])


def _ranks(values: Ints | Floats, parts: int) -> Ints:
    """In which of so many equal ranges of its logarithm each value lies."""
    logs = np.log(np.asarray(values, np.float64))
    span = max(float(np.ptp(logs)), 1e-12)
    ranges: Ints = np.minimum(((logs - logs.min()) / span * parts).astype(np.int64), parts - 1)
    return ranges
