"""Safetensors are read as the library reads them, and refused by what their header says."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from tinysearch.core.errors import InputError
from tinysearch.spaces.tensor_files import TYPES, read_safetensors, read_torch


def of(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(kind: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"a": {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}}


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    tensors = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in TYPES}
    tensors |= {"scalar": torch.tensor(2.5), "nothing": torch.zeros(0, 3)}
    path = tmp_path / "w.safetensors"
    path.write_bytes(save(tensors, {"said": "words"}))
    for source in (path, path.read_bytes()):
        read, words = read_safetensors(source, 1 << 20, "w")
        assert words == {"said": "words"}
        assert read.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert read[name].dtype == tensor.dtype
            assert torch.equal(read[name], tensor), name


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "a header of 0 bytes"),
        (struct.pack("<Q", 2**63) + b"{}", "a header of"),
        (of(b"\xff\xfe"), "no text"),
        (of(b"[" * 1000), "nested too deep"),
        (of([1]), "no object"),
        (of(b'{"a": 1, "a": 2}'), "is given twice"),
        (of({"__metadata__": {"a": 1}}), "damaged"),
        (of(one("F8_E4M3", [4], 0, 4), b"\0" * 4), "a is of type F8_E4M3"),
        (of(one("F32", [2**39, 2**39], 0, 4), b"\0" * 4), "lies not where"),
        (of(one("F32", [-1], 0, 4), b"\0" * 4), "damaged"),
        (of(one("F32", [1] * 9, 0, 4), b"\0" * 4), "damaged"),
        (of(one("F32", [1], 8, 12), b"\0" * 12), "lies not where"),
        (of(one("F32", [1], 0, 4), b"\0" * 8), "8 bytes of tensors, where 4 should be"),
        (of(one("F32", [2], 0, 8), b"\0" * 4), "4 bytes of tensors, where 8 should be"),
        (of(one("F32", [1.0], 0, 4), b"\0" * 4), "damaged"),  # type: ignore[list-item]
    ],
)
def test_other_headers_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_safetensors(data, 1 << 20, "w")


def test_what_torch_saves_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(1000)}, path)
    assert read_torch(path, 10_000)["a"].shape == (1000,)
    with pytest.raises(InputError, match="bytes is more than the 3000"):
        read_torch(path, 3000)
