"""What N policies say of one row of a trace: a plain True or False where all agree, else an array.

Most policies agree on most rows (nothing trains in front of the first trained layer), so the loops of the cost models
work with plain numbers there, and with arrays of N only where policies differ.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Element = TypeVar("Element", bound=np.generic)

#: Whether something holds: for all policies, for none, or for each, (N,).
Mask = bool | Bools
#: A number of bytes: of all policies alike, or of each, (N,).
Amount = int | Ints


class Columns:
    """The columns of an (N, R) array of booleans, each as a mask."""

    def __init__(self, array: Bools) -> None:
        self._rows = columns(array)
        self._all: list[bool] = np.all(self._rows, axis=1).tolist()
        self._any: list[bool] = np.any(self._rows, axis=1).tolist()

    def __getitem__(self, row: int) -> Mask:
        return self._rows[row] if self._any[row] != self._all[row] else bool(self._all[row])


def columns(array: npt.NDArray[Element]) -> npt.NDArray[Element]:
    """An (N, R) array as (R, N), each row in one piece."""
    return np.ascontiguousarray(array.T)


def both(a: Mask, b: Mask) -> Mask:
    """Where both hold."""
    if a is False or b is False:
        return False
    if a is True:
        return b
    return a if b is True else a & b


def either(a: Mask, b: Mask) -> Mask:
    """Where one holds."""
    if a is True or b is True:
        return True
    if a is False:
        return b
    return a if b is False else a | b


def without(a: Mask, b: Mask) -> Mask:
    """Where the first holds and the second does not."""
    if a is False or b is True:
        return False
    if b is False:
        return a
    return ~b if a is True else a > b


def times(mask: Mask, amount: Amount) -> Amount:
    """The amount where the mask holds, 0 elsewhere."""
    if isinstance(mask, bool):
        return amount if mask else 0
    counts = mask.astype(np.int64)
    counts *= amount
    return counts


def larger(a: Amount, b: Amount) -> Amount:
    """The larger of two amounts."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else np.maximum(a, b)
