"""Arrays are read as NumPy writes them, and nothing else is."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinysearch.search.data.npy import read_npy

KINDS = ["u1", "<i2", ">i4", "<u8", "f4", "<f8", "?"]


def npy(header: bytes, data: bytes = b"") -> io.BytesIO:
    return io.BytesIO(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data)


@given(st.sampled_from(KINDS[:-1]).flatmap(lambda kind: arrays(np.dtype(kind), array_shapes(max_dims=4, max_side=4))))
def test_what_numpy_writes_is_read(array: np.ndarray[Any, Any]) -> None:
    for each in (array, np.asfortranarray(array)):
        file = io.BytesIO()
        np.save(file, each)
        file.seek(0)
        read = read_npy(file, 10_000)
        assert read.dtype == each.dtype
        np.testing.assert_array_equal(read, each)


@pytest.mark.parametrize(
    "header",
    [
        b"(" * 900,
        b"-" * 900 + b"1",
        b"1" + b"+1" * 400,
        b"[1]",
        b"\xff\xfe",
        b"",
        b"{'descr': '|u1'}",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<U9', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<f1', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '|u1', 'fortran_order': 1, 'shape': (1,), }",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': 1, }",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (True,), }",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1), }",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }" % 2**70,
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000001,), }",
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"9" * 900 + b",), }",
    ],
)
def test_other_headers_are_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|elements|shape|bytes"):
        read_npy(npy(header, b"\0" * 8), 1_000_000)


def test_too_little_and_too_much_is_refused() -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }"
    for data, said in ((b"\0" * 3, "has 3"), (b"\0" * 5, "has more")):
        with pytest.raises(ValueError, match=said):
            read_npy(npy(header, data), 100)
    with pytest.raises(ValueError, match="a header of 65,535 bytes"):
        read_npy(io.BytesIO(b"\x93NUMPY\1\0\xff\xff"), 100)
    with pytest.raises(ValueError, match="no array"):
        read_npy(io.BytesIO(b"\x93NUMPY\x09\0\xff\xff"), 100)
