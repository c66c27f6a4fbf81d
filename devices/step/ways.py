"""How N policies run what lies below all that trains: each on the best way there is, as far down as it may go."""

from collections.abc import Mapping

import numpy as np

from ...spaces.table import UpdateTable
from ...spaces.trace import INPUT
from .columns import Bools, Ints, Mask, either
from .lines import Frozen, Stretch


class Ways:
    """The ways of N policies.

    Args:
        frozen: The ways that there are; None where the runtime knows none.
        images: Whether images are in memory where lines run from them.
        table: The policies.

    Attributes:
        stretches: Those of the ways in data-flow order, and in which policies each is run.
        above: By row, in which policies it lies above the way.
        images: In which policies the images are in memory; in the others they are asked for line by line.
    """

    def __init__(self, frozen: Frozen | None, table: UpdateTable, *, images: bool) -> None:
        order, found = table.trace.order, list(frozen.stretches.values()) if frozen else []
        self.above: dict[int, Mask] = dict.fromkeys(order, True)
        self.stretches: list[tuple[Stretch, Mask]] = []
        self.images: Mask = True
        if not found:
            return
        place = {row: number for number, row in enumerate(order)}
        ends = np.array([place[stretch.target] for stretch in found])
        #: Of each policy, how many maps lie below all that trains.
        depths = np.searchsorted(ends, _lowest_needed(table, place))
        for number, row in enumerate(order):
            self.above[row] = _mask(depths <= np.searchsorted(ends, number))
        numbers = {stretch.target: number for number, stretch in enumerate(found)}
        runs: list[Mask] = [False] * len(found)
        for depth in np.unique(depths).tolist():
            number = depth - 1
            while number >= 0:
                runs[number] = either(runs[number], _mask(depths == depth))
                number = numbers.get(found[number].source, -1)
        self.stretches = [pair for pair in zip(found, runs, strict=True) if pair[1] is not False]
        if not images:
            self.images = _mask(depths == 0)


def _lowest_needed(table: UpdateTable, place: Mapping[int, int]) -> Ints:
    """Of each policy, the place of the first row that it needs for more than the next: all below are frozen, (N,)."""
    order = np.array(table.trace.order)
    needed = (table.live | table.statistics)[:, order]
    lowest = np.where(needed.any(1), needed.argmax(1), len(order))
    for block in table.trace.blocks:
        if block.lite:  # the module reads what enters its block
            entered = place[block.input] + 1 if block.input != INPUT else 0
            lowest = np.minimum(lowest, np.where(table.present[:, block.lite[0]], entered, len(order)))
    return lowest


def _mask(array: Bools) -> Mask:
    """An array of truths, or what all of them are."""
    return array if array.any() and not array.all() else bool(array.size and array[0])
