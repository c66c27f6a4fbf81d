"""What N policies say of one row of a trace: a plain True or False where all agree, else an array.

Most policies agree on most rows (nothing trains in front of the first trained layer), so the loops of the cost models
work with plain numbers there, and with arrays of N only where policies differ.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ...spaces.table import UpdateTable

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Element = TypeVar("Element", bound=np.generic)

#: Whether something holds: for all policies, for none, or for each, (N,).
Mask = bool | Bools
#: A number of bytes: of all policies alike, or of each, (N,).
Amount = int | Ints


def masks(array: Bools) -> list[Mask]:
    """The columns of an (N, R) array, each as a mask.

    A column that equals the one before it is the same object: what is said of both is then worked out once.
    """
    rows = columns(array)
    everywhere: list[bool] = np.all(rows, axis=1).tolist()
    somewhere: list[bool] = np.any(rows, axis=1).tolist()
    found: list[Mask] = []
    before: bytes | None = None
    for row, whole in enumerate(everywhere):
        if somewhere[row] == whole:
            found.append(whole)
            before = None
        else:
            content = rows[row].tobytes()
            found.append(found[-1] if content == before else rows[row])
            before = content
    return found


def columns(array: npt.NDArray[Element]) -> npt.NDArray[Element]:
    """An (N, R) array as (R, N), each row in one piece."""
    return np.ascontiguousarray(array.T)


def both(a: Mask, b: Mask) -> Mask:
    """Where both hold."""
    if a is False or b is False:
        return False
    if a is True or a is b:
        return b
    return a if b is True else a & b


def either(a: Mask, b: Mask) -> Mask:
    """Where one holds."""
    if a is True or b is True:
        return True
    if a is False or a is b:
        return b
    return a if b is False else a | b


def without(a: Mask, b: Mask) -> Mask:
    """Where the first holds and the second does not."""
    if a is False or b is True or a is b:
        return False
    if b is False:
        return a
    return ~b if a is True else a > b


def times(mask: Mask, amount: Amount) -> Amount:
    """The amount where the mask holds, 0 elsewhere."""
    if isinstance(mask, bool) or (isinstance(amount, int) and amount == 0):
        return amount if mask is True else 0
    counts = mask.astype(np.int64)
    counts *= amount
    return counts


def larger(a: Amount, b: Amount) -> Amount:
    """The larger of two amounts."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else np.maximum(a, b)


def weighted_sum(counts: Bools | Ints, amounts: Ints | list[int]) -> Ints:
    """Sum over rows of counts, (N, R), times amounts, (R,): exact, since both are far below 2**53."""
    return np.rint(np.array(amounts, np.float64) @ counts.T).astype(np.int64)


def present_sum(table: UpdateTable, amounts: Ints | list[int]) -> Ints:
    """Sum of amounts, (R,), over the rows that each policy has, (N,): the backbone's, and those of its modules."""
    base = len(table.trace)
    return sum(amounts[:base]) + weighted_sum(table.present[:, base:], amounts[base:])
