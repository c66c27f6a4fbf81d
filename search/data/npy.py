"""Arrays of a `.npz`, read without NumPy's own reader: that one evaluates the header and takes memory as it says."""

import ast
import re
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

#: What an array's file begins with, and bytes of the header: NumPy writes some 120.
_MAGIC, MAX_HEADER = b"\x93NUMPY", 1024
#: Bytes that say how long the header is, by version of the format.
_LENGTHS = {1: 2, 2: 4, 3: 4}
MAX_DIMENSIONS = 4
#: Truth values, integers and floats; no objects, texts or records.
_TYPE = re.compile(r"[<>|=]?[biuf][1248]")


def read_npy(stream: IO[bytes], most: int) -> NDArray[Any]:
    """Read one array.

    Args:
        stream: The file.
        most: Bytes that the array may have.

    Raises:
        ValueError: It is none, of another type or rank, larger than allowed, or not as long as it says.

    Example:
        >>> import io, numpy as np
        >>> file = io.BytesIO()
        >>> np.save(file, np.arange(3))
        >>> _ = file.seek(0)
        >>> read_npy(file, 1000)
        array([0, 1, 2])
    """
    kind, shape, columns_first = _header(stream)
    size = prod(shape) * kind.itemsize
    if size > most:
        raise ValueError(f"an array of {size:,} bytes; the limit is {most:,}")
    data = stream.read(size + 1)
    if len(data) != size:
        raise ValueError(f"an array of {size:,} bytes has {'more' if len(data) > size else f'{len(data):,}'}")
    return np.frombuffer(data, kind).reshape(shape, order="F" if columns_first else "C")


def _header(stream: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    start = stream.read(len(_MAGIC) + 2)
    if len(start) < len(_MAGIC) + 2 or not start.startswith(_MAGIC) or start[6] not in _LENGTHS:
        raise ValueError("no array of NumPy's")
    length = int.from_bytes(stream.read(_LENGTHS[start[6]]), "little")
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    try:
        said = ast.literal_eval(stream.read(length).decode("latin-1").strip())
    # What literal_eval raises on a short text; a long one it must not be given.
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError("a header that cannot be read") from error
    if not isinstance(said, dict) or said.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError("a header that says other things than type, order and shape")
    kind, order, shape = said["descr"], said["fortran_order"], said["shape"]
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        raise ValueError(f"elements of type {kind!s:.40}")
    whole = isinstance(shape, tuple) and all(type(length) is int and 0 <= length < 1 << 40 for length in shape)
    if not isinstance(order, bool) or not whole or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"a shape {shape!s:.40}")
    try:
        return np.dtype(kind), shape, order
    except TypeError as error:
        raise ValueError(f"elements of type {kind}") from error
