"""Tensors on disk: safetensors files, deltas, and what torch.save writes."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .base import DIGITS, ODD_TEXT, Make, Runs, Valid
from .zips import zip_bomb, zip_lies


def _safetensors(header: bytes, data: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def safetensors(delta: bytes) -> Iterator[tuple[str, bytes]]:
    def one(kind: str, shape: list[int], end: int, data: bytes, start: int = 0) -> bytes:
        return _safetensors(
            json.dumps({"a": {"dtype": kind, "shape": shape, "data_offsets": [start, end]}}).encode(), data
        )

    yield "a header of 2**63 bytes", _safetensors(b"{}", size=2**63)
    yield "a header of 90 MB of blanks", _safetensors(b"{" + b" " * 90_000_000 + b"}")
    yield "a header nested 100,000 deep", _safetensors(b'{"a":' + b"[" * 100_000)
    yield "a header that is no text", _safetensors(b"\xff\xfe")
    yield "no tensors", _safetensors(b"{}")
    yield "float8", one("F8_E4M3", [4], 4, b"\0" * 4)
    yield "float4", one("F4", [8], 4, b"\0" * 4)
    yield "bool", one("BOOL", [4], 4, b"\2" * 4)
    yield "complex", one("C64", [1], 8, b"\0" * 8)
    yield "an unknown type", one("X9", [4], 4, b"\0" * 4)
    yield "a shape of 2**62", one("F32", [2**62], 4, b"\0" * 4)
    yield "a negative shape", one("F32", [-1], 4, b"\0" * 4)
    yield "a shape of 10,000 dimensions", one("F32", [1] * 10_000, 4, b"\0" * 4)
    yield "a shape of no elements", one("F32", [2**40, 0], 0, b"")
    yield (
        "overlapping",
        _safetensors(
            json.dumps({n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}).encode(), b"\0" * 4
        ),
    )
    yield "a hole", one("F32", [1], 12, b"\0" * 12, 8)
    yield (
        "a tensor twice",
        _safetensors(
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
            b"\0" * 8,
        ),
    )
    yield "metadata of numbers", _safetensors(b'{"__metadata__":{"tinysearch.delta":3}}')
    yield (
        "metadata nested 100,000 deep",
        _safetensors(
            json.dumps(
                {"__metadata__": {"tinysearch.delta": "[" * 100_000, "tinysearch.weights": "[" * 100_000}}
            ).encode()
        ),
    )
    yield (
        "a name of 10 MB",
        _safetensors(
            json.dumps({"a" * 10_000_000: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode(), b"\0" * 4
        ),
    )
    yield (
        "control characters for a name",
        _safetensors(
            json.dumps({ODD_TEXT: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode(), b"\0" * 4
        ),
    )
    many = {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(500_000)}
    yield "500,000 tensors", _safetensors(json.dumps(many).encode())
    yield "cut short", delta[: len(delta) // 2]


def deltas(valid: Valid) -> Iterator[tuple[str, Make]]:
    from safetensors.numpy import load, save

    size = int.from_bytes(valid.delta[:8], "little")
    header = json.loads(valid.delta[8 : 8 + size])["__metadata__"]["tinysearch.delta"]
    tensors = load(valid.delta)

    def written(changes: dict[str, Any] | str, more: dict[str, Any] | None = None) -> Make:
        said = changes if isinstance(changes, str) else json.dumps(json.loads(header) | changes)
        return lambda path: path.write_bytes(save({**tensors, **(more or {})}, {"tinysearch.delta": said}))

    policy = json.loads(header)["policy"]
    policy.pop("hash")
    lite = json.loads(valid.policy)["lite_residuals"][0]
    yield "classes of 2**62", written({"classes": 2**62})
    yield "another base", written({"base_sha256": "0" * 64})
    yield "a policy that is a list", written({"policy": [1]})
    yield "a layer twice", written({"policy": policy | {"layers": [{"name": "features.0.0", "bias": True}] * 2}})
    yield "a lite residual twice", written({"policy": policy | {"lite_residuals": [lite] * 2}})
    yield (
        "a lite residual of 65,536 channels",
        written({"policy": policy | {"lite_residuals": [lite | {"in_channels": 65_536, "out_channels": 65_536}]}}),
    )
    for shape in ([], [32], [3, 32, 64], [1, 32, 32], [3, 2**31, 2**31], [3, 50_000, 50_000]):
        yield f"input shape {shape}", written({"policy": policy | {"input_shape": shape}})
    yield "a tensor too many", written({}, {"nowhere": np.zeros(3, np.float32)})
    yield "a head of three dimensions", written({}, {"classifier.1.weight": np.zeros((10, 1280, 1), np.float32)})
    yield "a head of int8", written({}, {"classifier.1.weight": np.zeros((10, 1280), np.int8)})
    yield "a head with infinity", written({}, {"classifier.1.weight": np.full((10, 1280), np.inf, np.float32)})
    yield "a header nested 100,000 deep", written("[" * 100_000)
    yield "a header with 5,000 digits", written('{"format": ' + DIGITS + "}")
    yield "a header of another format", written('{"format": "x", "version": 1}')


def checkpoints() -> Iterator[tuple[str, Make]]:
    import torch

    def saved(content: Any, **how: Any) -> Make:
        return lambda path: torch.save(content, path, **how)

    yield "a pickle that runs something", lambda path: path.write_bytes(pickle.dumps(Runs()))
    yield "a checkpoint that runs something", saved({"a": Runs()})
    yield (
        "a pickle nested 100,000 deep",
        lambda path: path.write_bytes(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    )
    yield "a list", saved([torch.zeros(3)])
    yield "a number", saved(3)
    yield "nothing in it", saved({})
    yield "numbers for names", saved({3: torch.zeros(3)})
    yield "lists for tensors", saved({"a": [1, 2]})
    yield "a sparse tensor", saved({"a": torch.eye(3).to_sparse()})
    yield "a meta tensor", saved({"a": torch.empty(2**40, device="meta")})
    yield "a tensor of stride 0", saved({"a": torch.zeros(1).expand(2**40)})
    yield (
        "a tensor of stride 0 under a name of the network",
        saved({"features.0.0.weight": torch.zeros(1).expand(16, 3, 3, 2**36)}),
    )
    yield "float8", saved({"features.0.0.weight": torch.zeros(16, 3, 3, 3).to(torch.float8_e4m3fn)})
    yield "quantised", saved({"a": torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)})
    yield "complex", saved({"features.0.0.weight": torch.zeros(16, 3, 3, 3, dtype=torch.complex64)})
    yield "control characters for a name", saved({ODD_TEXT: torch.zeros(3)})
    yield "wrapped three times", saved({"state_dict": {"model": {"state_dict": {"model": {"a": torch.zeros(3)}}}}})
    yield "one in itself", _recursive
    yield "the old layout", saved({"a": torch.zeros(3)}, _use_new_zipfile_serialization=False)
    yield "the old layout with a wrong count", _old_layout
    yield "a zip bomb of 4 GB", zip_bomb(["archive/data.pkl", "archive/data/0"], 2_000_000_000)
    yield "a zip bomb of 900 MB", zip_bomb(["archive/data.pkl", "archive/data/0"], 450_000_000)
    yield "a zip whose sizes lie", zip_lies(["archive/data.pkl", "archive/data/0"], 3_000_000_000)
    yield "a pickle that asks for a tensor of 8 GB", _rebuilt
    yield "a pickle of a text of 2**31", lambda path: path.write_bytes(b"\x80\x02X\xff\xff\xff\x7f.")
    yield (
        "a pickle of a million memos",
        lambda path: path.write_bytes(b"\x80\x02]" + b"r\xff\xff\xff\x7f" * 300_000 + b"."),
    )
    yield "a pickle that doubles a list", _doubling


def _recursive(path: Path) -> None:
    import torch

    content: dict[str, Any] = {}
    content["state_dict"] = content
    torch.save(content, path)


def _old_layout(path: Path) -> None:
    import torch

    stream = io.BytesIO()
    torch.save({"a": torch.zeros(8)}, stream, _use_new_zipfile_serialization=False)
    path.write_bytes(stream.getvalue().replace(struct.pack("<q", 8), struct.pack("<q", 2**40)))


def _doubling(path: Path) -> None:
    # A tuple of two of the one before, 40 times: 2**40 where it is walked or copied.
    path.write_bytes(b"\x80\x02)q\x00" + b"0h\x00h\x00\x86q\x00" * 40 + b".")


def _rebuilt(path: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(4)}, path)
    data = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(data, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            if info.filename.endswith("data.pkl"):
                content = content.replace(b"K\x04", b"J\xff\xff\xff\x7f", 2)
            new.writestr(info.filename, content)
    path.write_bytes(data.getvalue())
