"""Made-up files that no reader may stumble over, by kind: what is wrong with them, and how each is made.

`files(folder)` yields them one by one, so that a bomb is there no longer than it is looked at. `benchmarks/hostile.py`
hands each to its reader and measures.
"""

import bz2
import gzip
import io
import json
import os
import pickle
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Lone half of a pair of UTF-16's, as JSON can write it.
SURROGATE = "\\ud800"
#: Text that moves the cursor, ends a line, turns the direction of writing and looks like markup.
ODD_TEXT = "a\u001b[2J\n\u202e$[red]*/\\"
DIGITS = "9" * 5000


@dataclass(frozen=True)
class Hostile:
    """A file that no reader may stumble over.

    Attributes:
        kind: What it claims to be.
        what: What is wrong with it.
        path: Where it lies.
    """

    kind: str
    what: str
    path: Path


@dataclass(frozen=True)
class Valid:
    """Files as TinySearch writes them, of which the made-up ones are variants.

    Attributes:
        run: The directory of a run.
        policy: The text of a policy with a partly trained weight, norms and a lite residual module.
        profile: The text of a device's profile.
        delta: The bytes of a delta.
        results: The text of a board's results.
    """

    run: Path
    policy: str
    profile: str
    delta: bytes
    results: str


Make = Callable[[Path], object]


def files(folder: Path, valid: Valid, kinds: set[str] | None = None) -> Iterator[Hostile]:
    """Make one file after another; each is gone when the next is asked for."""
    import shutil

    for kind, name, what, make in _all(valid):
        if kinds is None or kind in kinds:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            path = folder / name
            make(path)
            yield Hostile(kind, what, path)
    shutil.rmtree(folder, ignore_errors=True)


def _all(valid: Valid) -> Iterator[tuple[str, str, str, Make]]:
    for kind, name, make in (
        ("policy", "p.json", lambda: json.loads(valid.policy)),
        ("front", "front.json", lambda: json.loads((valid.run / "front.json").read_text())),
        ("request", "request.json", lambda: json.loads((valid.run / "request.json").read_text())),
        ("environment", "environment.json", lambda: json.loads((valid.run / "environment.json").read_text())),
        ("results", "r.json", lambda: json.loads(valid.results)),
        ("manifest", "manifest.json", lambda: {"format": "tinysearch.export", "version": 1}),
    ):
        yield from ((kind, name, what, _text(text)) for what, text in json_texts(make))
        yield from ((kind, name, what, place) for what, place in places())
    for what, text in policy_texts(valid):
        yield "policy", "p.json", what, _text(text)
    for what, text in front_texts(valid):
        yield "front", "front.json", what, _text(text)
    for what, text in yaml_texts(valid.profile):
        yield "profile", "d.yaml", what, _text(text)
    for what, text in yaml_texts("trials: 3\n"):
        yield "config", "c.yaml", what, _text(text)
    for kind, name in (
        ("profile", "d.yaml"),
        ("config", "c.yaml"),
        ("delta", "d.safetensors"),
        ("weights", "w.safetensors"),
        ("weights", "w.pth"),
        ("study", "study.db"),
        ("state", "w.safetensors.state"),
        ("npz", "a.npz"),
        ("archive", "a.tar"),
        ("archive", "a.tar.gz"),
        ("archive", "a.zip"),
        ("cifar", "cifar10.npz"),
        ("cifar", "cifar-10-binary.tar.gz"),
    ):
        yield from ((kind, name, what, place) for what, place in places())
    for what, data in safetensors(valid.delta):
        yield "delta", "d.safetensors", what, _bytes(data)
        yield "weights", "w.safetensors", what, _bytes(data)
    for what, make in checkpoints():
        yield "weights", "w.pth", what, make
        yield "state", "w.safetensors.state", what, make
    for what, make in deltas(valid):
        yield "delta", "d.safetensors", what, make
    for what, make in studies(valid.run / "study.db"):
        yield "study", "study.db", what, make
    for what, make in arrays():
        yield "npz", "a.npz", what, make
    for name, what, make in archives():
        yield "archive", name, what, make
    for what, make in images():
        yield "folder", "images", what, make
    for what, make in batches():
        yield "cifar", "cifar-10-batches-py", what, make


def _text(text: str | bytes) -> Make:
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def _bytes(data: bytes) -> Make:
    return lambda path: path.write_bytes(data)


# What is no regular file, whatever its name.


def places() -> Iterator[tuple[str, Make]]:
    yield "a FIFO", os.mkfifo
    yield "a link to /dev/zero", lambda path: path.symlink_to("/dev/zero")
    yield "a link to /dev/random", lambda path: path.symlink_to("/dev/random")
    yield "a link to itself", lambda path: path.symlink_to(path)
    yield "a folder", lambda path: path.mkdir()
    yield "empty", lambda path: path.touch()
    yield "2 GiB of a hole", _hole
    yield "random bytes", lambda path: path.write_bytes(np.random.default_rng(0).bytes(4000))


def _hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2 << 30)


# Texts.


def json_texts(make: Callable[[], dict[str, Any]]) -> Iterator[tuple[str, str | bytes]]:
    def edited(key: str, value: str) -> str:
        content = make()
        content[key] = "@"
        return json.dumps(content).replace('"@"', value)

    yield "lists nested 100,000 deep", "[" * 100_000
    yield "objects nested 100,000 deep", '{"a":' * 100_000
    yield "lists nested 5,000,000 deep", "[" * 5_000_000 + "]" * 5_000_000
    keys = list(make())[2:] or ["files"]
    for key in [*keys[:4], "unknown"]:
        yield f"{key}: nested 60 deep", edited(key, "[" * 60 + "]" * 60)
        yield f"{key}: nested 900 deep", edited(key, "[" * 900 + "]" * 900)
        yield f"{key}: 5,000 digits", edited(key, DIGITS)
        yield f"{key}: 70 bits", edited(key, str(2**70))
        yield f"{key}: 1e999", edited(key, "1e999")
        yield f"{key}: NaN", edited(key, "NaN")
        yield f"{key}: half a pair", edited(key, f'"{SURROGATE}"')
        yield f"{key}: control characters", edited(key, json.dumps(ODD_TEXT * 50))
        yield f"{key}: an object with half a pair for its key", edited(key, f'{{"{SURROGATE}": 1}}')
    yield "version of 5,000 digits", edited("version", DIGITS)
    yield "version 1e308", edited("version", "1e308")
    yield "version of 62 bits", edited("version", str(2**62))
    yield "15 MB of lists", "[" + "[]," * 5_000_000 + "[]]"
    yield "15 MB of digits in one number", '{"format": ' + "9" * 15_000_000 + "}"
    yield "15 MB of a key", edited("unknown", '"' + "a" * 15_000_000 + '"')
    yield (
        "300,000 unknown keys of a newer version",
        json.dumps(make() | {"version": 99} | {f"k{n}": 0 for n in range(300_000)}),
    )
    yield "a key twice", '{"format": "x", "format": "y"}'
    yield "UTF-16", json.dumps(make()).encode("utf-16")
    yield "no UTF-8", b'{"format": "\xff"}'
    yield "a NUL", '{"format": "\0"}'
    yield "an array", "[1, 2]"
    yield "a number", "3"


def policy_texts(valid: Valid) -> Iterator[tuple[str, str]]:
    def edited(**changes: Any) -> str:
        content = json.loads(valid.policy)
        content.pop("hash", None)
        return json.dumps(content | changes)

    content = json.loads(valid.policy)
    layers, norms, lites = content["layers"], content["norms"], content["lite_residuals"]
    for shape in ([], [32], [3, 32], [3, 32, 32, 1], [3, 32, 64], [1, 32, 32], [4, 32, 32], [0, 32, 32], [3, -1, -1]):
        yield f"input shape {shape}", edited(input_shape=shape)
    yield "input shape of 100,000 pixels", edited(input_shape=[3, 100_000, 100_000])
    yield "input shape of 2**40", edited(input_shape=[3, 2**40, 2**40])
    yield "input shape of 2**62", edited(input_shape=[3, 2**62, 2**62])
    yield "input shape of floats", edited(input_shape=[3.5, 32, 32])
    yield "a layer twice", edited(layers=[*layers, layers[0]])
    yield "a layer twice, otherwise", edited(layers=[*layers, layers[0] | {"weight": "none", "bias": False}])
    yield "a norm twice", edited(norms=[*norms, norms[0]])
    yield "a lite residual twice", edited(lite_residuals=[*lites, lites[0]])
    yield "a sign mask twice", edited(sign_masks=["features.1.conv.0.2", "features.1.conv.0.2"])
    yield "a parameter twice", edited(parameters=["classifier.1.weight", "classifier.1.weight"])
    yield "the head among the layers", edited(layers=[{"name": content["head"], "weight": "none"}])
    yield "a head that is none", edited(head="features.0.0")
    yield "a lite residual of other channels", edited(lite_residuals=[lites[0] | {"in_channels": 7}])
    yield "a lite residual of other outputs", edited(lite_residuals=[lites[0] | {"out_channels": 24}])
    yield "a lite residual of other stride", edited(lite_residuals=[lites[0] | {"stride": 64}])
    yield (
        "a lite residual of 65,536 channels",
        edited(lite_residuals=[lites[0] | {"in_channels": 65_536, "out_channels": 65_536}]),
    )
    yield (
        "a channel that is none",
        edited(layers=[{"name": layers[0]["name"], "weight": {"axis": "in", "index": [10**9]}}]),
    )
    yield (
        "a million channels",
        edited(layers=[{"name": layers[0]["name"], "weight": {"axis": "in", "index": list(range(1_000_000))}}]),
    )
    yield "a layer that is none", edited(layers=[{"name": "nowhere", "weight": "all"}])
    yield "a layer with control characters", edited(layers=[{"name": ODD_TEXT, "weight": "all"}])
    yield "a norm among the layers", edited(layers=[{"name": norms[0]["name"], "weight": "all"}])
    yield "batch of 2**62", edited(training={"batch": 2**62})
    yield "steps of 2**62", edited(training={"steps": 2**62})
    yield "learning rate 1e308", edited(training={"learning_rate": 1e308})
    yield "a backbone with control characters", edited(backbone=ODD_TEXT)
    yield "a backbone of width 4e99", edited(backbone="mobilenetv2-w4000000000")
    yield "code for a backbone", edited(backbone="os:system")
    yield "200,000 layers", edited(layers=[{"name": f"l{n}", "weight": "all"} for n in range(200_000)])


def front_texts(valid: Valid) -> Iterator[tuple[str, str]]:
    content = json.loads((valid.run / "front.json").read_text())

    def member(**changes: Any) -> str:
        members = [content["members"][0] | changes]
        return json.dumps(content | {"members": members})

    yield "peak of 2**62", member(peak_bytes=2**62)
    yield "a negative peak", member(peak_bytes=-1)
    yield "accuracy 2", member(accuracy=2)
    yield "a latency of 1e308", member(latency_s=1e308)
    yield "a negative latency", member(latency_s=-1.0)
    yield "a policy outside", member(policy="../../../etc/passwd")
    yield "a hash that is none", member(hash="../x")
    yield "a method with control characters", member(method=ODD_TEXT)
    yield "a device with control characters", json.dumps(content | {"run": content["run"] | {"device": ODD_TEXT}})
    yield "60,000 members", json.dumps(content | {"members": [content["members"][0]] * 20_000})


def yaml_texts(base: str) -> Iterator[tuple[str, str | bytes]]:
    yield "flow lists nested 100,000 deep", "a: " + "[" * 100_000
    yield "flow mappings nested 100,000 deep", "a: " + "{a: " * 100_000
    yield "block lists nested 5,000 deep", "- " * 5000
    yield "block mappings nested 1,500 deep", "".join(f"{' ' * n}a:\n" for n in range(1500))
    yield "an alias bomb", "a: &a [1,1]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(30))
    yield (
        "a billion laughs",
        "a: &a0 [x,x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
    )
    yield "merge keys", "a: &a {b: 1}\nc:\n  <<: *a\n"
    yield "a Python tag", base + 'x: !!python/object/apply:os.system ["true"]\n'
    yield "a tag of one's own", base + "x: !mine 3\n"
    yield "a date", base + "x: 2001-01-01\n"
    yield "a date that is none", base + "x: 2001-99-99\n"
    yield "a time", base + "x: 2001-01-01 10:10:10\n"
    yield "a zone of 99 hours", base + "x: 2001-01-01 10:10:10 +99:99\n"
    yield "binary", base + "x: !!binary aGk=\n"
    yield "binary that is none", base + "x: !!binary a\n"
    yield "a set", base + "x: !!set {a, b}\n"
    yield "an ordered map", base + "x: !!omap [a: 1]\n"
    yield "an integer tag on text", base + "x: !!int abc\n"
    yield "a float tag on text", base + "x: !!float abc\n"
    yield "a bool tag on text", base + "x: !!bool abc\n"
    yield "a null key", base + "~: 1\n"
    yield "a list as key", base + "? [1, 2]\n: 3\n"
    yield "a mapping as key", base + "? {a: 1}\n: 3\n"
    yield "a nested key", base + "? - - a\n: 3\n"
    yield "a key twice", base + "x: 1\nx: 2\n"
    yield "1 and '1' as keys", base + "x: {1: a, '1': b}\n"
    yield "5,000 digits", base + f"x: {DIGITS}\n"
    yield "5,000 hexadecimal digits", base + f"x: 0x{'f' * 5000}\n"
    yield "sexagesimal", base + "x: " + ":".join(["59"] * 3000) + "\n"
    yield "250 kB of a sexagesimal", base + "x: 1" + ":59" * 80_000 + "\n"
    yield "250 kB of digits", base + f"x: {'9' * 250_000}\n"
    yield "infinity", base + "x: .inf\n"
    yield "1e999", base + "x: 1.0e+999\n"
    yield "not a number", base + "x: .nan\n"
    yield "half a pair", base + f'x: "{SURROGATE}"\n'
    yield "half a pair as key", base + f'"{SURROGATE}": 1\n'
    yield "control characters", base + f"x: {json.dumps(ODD_TEXT)}\n"
    yield "control characters as key", base + f"{json.dumps(ODD_TEXT)}: 1\n"
    yield "250 kB of a flow list", base + "x: [" + "1," * 120_000 + "]\n"
    yield "15 MB of a flow list", base + "x: [" + "1," * 7_000_000 + "]\n"
    yield "250 kB of flow mappings", base + "x: [" + "{a: 1}," * 35_000 + "]\n"
    yield "250 kB of keys", base + "".join(f"k{n}: 1\n" for n in range(25_000))
    yield "15 MB of keys", base + "".join(f"k{n}: 1\n" for n in range(1_300_000))
    yield "250 kB of a question mark", base + "? " * 120_000
    yield "250 kB of colons", base + ": " * 120_000
    yield "250 kB of an anchor", base + "x: &" + "a" * 250_000 + " 1\n"
    yield "250 kB of tags", base + "x: " + "!a " * 80_000
    yield "250 kB of quotes", base + "x: [" + '"",' * 80_000 + "]\n"
    yield "15 MB of quotes", base + "x: [" + '"",' * 5_000_000 + "]\n"
    yield "15 MB of text", base + "x: " + "a " * 7_000_000 + "\n"
    yield "15 MB of a comment", base + "# " + "a " * 7_000_000 + "\n"
    yield "15 MB of blanks", base + " " * 15_000_000
    yield "15 MB of lines", base + "\n" * 15_000_000
    yield "many documents", "--- 1\n" * 40_000
    yield "two documents", base + "---\n" + base
    yield "a NUL", base + "x: \0\n"
    yield "no UTF-8", b"x: \xff\n"
    yield "UTF-16", base.encode("utf-16")
    yield "a directive", "%YAML 9.9\n---\n" + base
    yield "a tag directive", "%TAG ! tag:x,2000:\n---\n" + base
    yield "only a comment", "# nothing\n"
    yield "a list", "- 1\n- 2\n"
    yield "a number", "3\n"


# Tensors.


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


class _Runs:
    """Would make a folder, were it unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/tmp/tinysearch-was-run",)


def checkpoints() -> Iterator[tuple[str, Make]]:
    import torch

    def saved(content: Any, **how: Any) -> Make:
        return lambda path: torch.save(content, path, **how)

    yield "a pickle that runs something", lambda path: path.write_bytes(pickle.dumps(_Runs()))
    yield "a checkpoint that runs something", saved({"a": _Runs()})
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
    yield "a zip bomb of 4 GB", _zip_bomb(["archive/data.pkl", "archive/data/0"], 2_000_000_000)
    yield "a zip bomb of 900 MB", _zip_bomb(["archive/data.pkl", "archive/data/0"], 450_000_000)
    yield "a zip whose sizes lie", _zip_lies(["archive/data.pkl", "archive/data/0"], 3_000_000_000)
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


# Archives.


def _zip_bomb(names: list[str], size: int) -> Make:
    def make(path: Path) -> None:
        block = b"\0" * 1_000_000
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name in names:
                with archive.open(name, "w", force_zip64=True) as file:
                    for _ in range(size // len(block)):
                        file.write(block)

    return make


def _zip_lies(names: list[str], size: int) -> Make:
    """A zip whose directory says that everything in it is small."""

    def make(path: Path) -> None:
        _zip_bomb(names, size)(path)
        data = bytearray(path.read_bytes())
        place = 0
        while (place := data.find(b"PK\1\2", place)) >= 0:
            struct.pack_into("<I", data, place + 24, 1000)
            place += 4
        path.write_bytes(data)

    return make


def _npy(
    shape: object, descr: str = "'|u1'", data: bytes = b"", order: str = "False", version: bytes = b"\1\0"
) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    return _npy_header(header.encode("latin-1") + b"\n", version) + data


def _npy_header(header: bytes, version: bytes = b"\1\0") -> bytes:
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header


def _npz(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Make:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return make


def _patched(make: Make, place: int, local: int, value: bytes) -> Make:
    """A zip with a field changed in its directory, at `place`, and in its local headers, at `local`."""

    def patched(path: Path) -> None:
        make(path)
        data = bytearray(path.read_bytes())
        for mark, offset in ((b"PK\1\2", place), (b"PK\3\4", local)):
            at = 0
            while offset >= 0 and (at := data.find(mark, at)) >= 0:
                data[at + offset : at + offset + len(value)] = value
                at += 4
        path.write_bytes(data)

    return patched


def arrays() -> Iterator[tuple[str, Make]]:
    labels = _npy("(4,)", data=b"\0\1\0\1")
    pixels = _npy("(4, 8, 8)", data=b"\7" * 256)
    good = {"x_train.npy": pixels, "y_train.npy": labels, "x_test.npy": pixels, "y_test.npy": labels}

    def with_(x_train: bytes) -> Make:
        return _npz(good | {"x_train.npy": x_train})

    for what, header in (
        ("nested 10,000 deep", b"(" * 10_000),
        ("nested 200 deep", b"{'descr': " + b"[" * 200),
        ("no dictionary", b"[1]\n"),
        ("a call", b"__import__('os').mkdir('/tmp/tinysearch-was-run')\n"),
        ("no text", b"\xff\xfe\n"),
        ("a NUL", b"{'descr': '\0'}\n"),
        ("empty", b""),
        ("5,000 digits", b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + DIGITS.encode() + b",), }\n"),
        ("60,000 bytes of minus signs", b"-" * 60_000 + b"1\n"),
        ("9,000 bytes of additions", b"1" + b"+1" * 4500 + b"\n"),
        ("missing keys", b"{'descr': '|u1'}\n"),
    ):
        yield f"header: {what}", with_(_npy_header(header))
    yield "header of 16 MB in version 2", with_(_npy_header(b" " * 16_000_000 + b"\n", b"\2\0"))
    yield "header of 2**32 bytes", with_(b"\x93NUMPY\2\0\xff\xff\xff\xff")
    yield "version 9", with_(_npy("(4, 8, 8)", version=b"\t\0"))
    for shape in ("(2**62,)", f"({2**62},)", f"({2**70},)", f"({2**32}, {2**32})", "(-1, 8, 8)", "(True, 8, 8)", "4"):
        yield f"shape {shape}", with_(_npy(shape, data=b"\0" * 256))
    yield "shape of a billion pixels without data", with_(_npy("(1000, 1000, 1000)"))
    yield "shape of 40 dimensions", with_(_npy("(1,) * 40", data=b"\0"))
    yield "shape of 40 dimensions, written out", with_(_npy(f"({'1, ' * 40})", data=b"\0"))
    yield "an empty image", with_(_npy("(4, 0, 8)"))
    yield "2 channels", with_(_npy("(4, 8, 8, 2)", data=b"\0" * 512))
    yield "channels first", with_(_npy("(4, 3, 8, 8)", data=b"\0" * 768))
    yield "one dimension", with_(_npy("(256,)", data=b"\0" * 256))
    yield "floats", with_(_npy("(4, 8, 8)", "'<f4'", b"\0" * 1024))
    yield "an oblong image a million wide", with_(_npy("(4, 1, 1000000)", data=b"\0" * 4_000_000))
    for descr in ("'|O'", "'<U1000000000'", "'|V99999999999'", "[('a', '|u1')]", "'nonsense'", "3", "None", "'<M8[D]'"):
        yield f"type {descr[:20]}", with_(_npy("(4, 8, 8)", descr, b"\0" * 256))
    yield "a type nested deep", with_(_npy("(4,)", "[('a', " * 60 + "'|u1'" + ")]" * 60, b"\0" * 4))
    yield "data cut short", with_(pixels[:-100])
    yield "data left over", with_(pixels + b"\0" * 1000)
    yield "a pickle", with_(_npy("(1,)", "'|O'", pickle.dumps([_Runs()])))
    for value in ("'<i8'",):
        yield "labels of 2**62", _npz(good | {"y_train.npy": _npy("(4,)", value, struct.pack("<4q", 0, 1, 2**62, 0))})
    yield "labels below 0", _npz(good | {"y_train.npy": _npy("(4,)", "'|i1'", b"\xff\0\1\0")})
    yield "labels of uint64", _npz(good | {"y_train.npy": _npy("(4,)", "'<u8'", struct.pack("<4Q", 0, 1, 2**63, 0))})
    yield "too few labels", _npz(good | {"y_train.npy": _npy("(3,)", data=b"\0\1\0")})
    yield "one class", _npz(good | {"y_train.npy": _npy("(4,)", data=b"\0" * 4)})
    yield (
        "a million classes",
        _npz(
            {
                f"{key}_{split}.npy": value
                for split in ("train", "test")
                for key, value in (
                    ("x", _npy("(1000000, 1, 1)", data=b"\0" * 1_000_000)),
                    ("y", _npy("(1000000,)", "'<i4'", np.arange(1_000_000, dtype="<i4").tobytes())),
                )
            }
        ),
    )
    yield "lacks an array", _npz({"x_train.npy": pixels})
    yield "arrays named otherwise", _npz({key.removesuffix(".npy"): value for key, value in good.items()})
    yield "encrypted", _patched(_npz(good), 8, 6, b"\1\0")
    yield "method 99", _patched(_npz(good), 10, 8, b"\x63\0")
    yield "lzma", _npz(good, zipfile.ZIP_LZMA)
    yield "lzma, damaged", _patched(_npz(good, zipfile.ZIP_LZMA), -1, 45, b"\xff" * 8)
    yield "bzip2", _npz(good, zipfile.ZIP_BZIP2)
    yield "sizes of 2**32 - 1", _patched(_npz(good), 20, 18, b"\xff" * 8)
    yield "an offset of 2**32 - 1", _patched(_npz(good), 42, -1, b"\xff" * 4)
    yield "a name of 65,535 bytes", _patched(_npz(good), 28, 26, b"\xff\xff")
    yield "a checksum that is wrong", _patched(_npz(good), 16, 14, b"\0" * 4)
    yield "an array twice", _twice(good)
    yield "a bomb of 3 GB of pixels", _npz_bomb(3_000_000_000)
    yield "a bomb of 700 MB of pixels", _npz_bomb(700_000_000)
    yield "a bomb of one image of 300 megapixels", _npz_bomb(600_000_000, count=2)
    yield "a bomb whose sizes lie", _npz_bomb(3_000_000_000, lies=True)
    yield "200,000 members", _many_members
    yield "a bomb of 1 GB in a member of its own", _npz_and_bomb(good)
    yield "a zip within a comment", lambda path: (_npz(good)(path), path.open("ab").write(b"PK\5\6" + b"\0" * 18))
    yield "no zip", _bytes(b"PK\3\4" + b"\0" * 100)


def _twice(good: dict[str, bytes]) -> Make:
    import warnings

    def make(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in [*good.items(), ("x_train.npy", b"junk")]:
                    archive.writestr(name, data)

    return make


def _npz_bomb(size: int, count: int = 1000, lies: bool = False) -> Make:
    side = size // count
    header = _npy(f"({count}, {side // 1000}, 1000)")
    labels = _npy(f"({count},)", data=bytes(n % 2 for n in range(count)))
    small = _npy("(2, 8, 8)", data=b"\0" * 128)

    def make(path: Path) -> None:
        block = b"\0" * 1_000_000
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            with archive.open("x_train.npy", "w", force_zip64=True) as file:
                file.write(header)
                for _ in range(size // len(block)):
                    file.write(block)
            archive.writestr("y_train.npy", labels)
            archive.writestr("x_test.npy", small)
            archive.writestr("y_test.npy", _npy("(2,)", data=b"\0\1"))

    return _patched(make, 24, -1, struct.pack("<I", 1000)) if lies else make


def _npz_and_bomb(good: dict[str, bytes]) -> Make:
    def make(path: Path) -> None:
        block = b"\0" * 1_000_000
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, data in good.items():
                archive.writestr(name, data)
            with archive.open("more.npy", "w", force_zip64=True) as file:
                for _ in range(1000):
                    file.write(block)

    return make


def _many_members(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(200_000):
            archive.writestr(f"{number}", b"")


def _png(width: int, height: int, rows: bytes | None = None, extra: bytes = b"", kind: int = 2) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = zlib.compress(rows if rows is not None else (b"\0" + b"\7" * 3 * width) * height, 9)
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _big_png(width: int, height: int) -> bytes:
    """As `_png`, grey, without holding its pixels."""
    packer = zlib.compressobj(9)
    row = b"\0" + b"\7" * width
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


SMALL = _png(8, 8)


def _text_bomb() -> bytes:
    data = b"a\0\0" + zlib.compress(b"\0" * 500_000_000, 9)
    return struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))


def archives() -> Iterator[tuple[str, str, Make]]:
    good = {f"{c}/{n}.png": SMALL for c in "ab" for n in range(3)}

    def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Make:
        return _npz(members, method)

    def tarred(edit: Callable[[tarfile.TarInfo], object] = lambda info: None, mode: str = "w", **more: Any) -> Make:
        def make(path: Path) -> None:
            with tarfile.open(path, mode, **more) as archive:
                for name, data in good.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    edit(info)
                    archive.addfile(info, io.BytesIO(data))

        return make

    def renamed(name: str) -> Make:
        return tarred(lambda info: setattr(info, "name", name))

    for ending, packed in (("a.zip", zipped), ("a.tar", None)):
        for name in (
            "../x.png",
            "/etc/x.png",
            "a/../../x.png",
            "x.png",
            "a/" * 2000 + "x.png",
            "a/\0.png",
            ODD_TEXT + "/x.png",
        ):
            make = zipped({name: SMALL}) if packed else renamed(name)
            yield ending, f"a member named {ascii(name)[:30]}", make
    yield "a.zip", "encrypted", _patched(zipped(good), 8, 6, b"\1\0")
    yield "a.zip", "method 99", _patched(zipped(good), 10, 8, b"\x63\0")
    yield "a.zip", "sizes of 2**32 - 1", _patched(zipped(good), 20, 18, b"\xff" * 8)
    yield "a.zip", "an offset of 2**32 - 1", _patched(zipped(good), 42, -1, b"\xff" * 4)
    yield "a.zip", "lzma, damaged", _patched(zipped(good, zipfile.ZIP_LZMA), -1, 45, b"\xff" * 8)
    yield (
        "a.zip",
        "a bomb of 60 members of 45 MB",
        _zip_bomb([f"{c}/{n}.png" for c in "ab" for n in range(30)], 45_000_000),
    )
    yield (
        "a.zip",
        "a bomb of 20 members of 45 MB",
        _zip_bomb([f"{c}/{n}.png" for c in "ab" for n in range(10)], 45_000_000),
    )
    yield "a.zip", "a member of 3 GB", _zip_bomb(["a/0.png"], 3_000_000_000)
    yield "a.zip", "a member of 3 GB whose size lies", _zip_lies(["a/0.png", "b/0.png"], 3_000_000_000)
    yield "a.zip", "200,000 members", _many_members
    yield "a.zip", "200,000 images", _many_images
    yield "a.zip", "overlapping members", _overlapping
    yield "a.zip", "links", _zip_links
    yield (
        "a.tar",
        "links",
        tarred(lambda info: (setattr(info, "type", tarfile.SYMTYPE), setattr(info, "linkname", "/dev/zero"))),
    )
    yield (
        "a.tar",
        "hard links",
        tarred(lambda info: (setattr(info, "type", tarfile.LNKTYPE), setattr(info, "linkname", info.name))),
    )
    yield "a.tar", "devices", tarred(lambda info: setattr(info, "type", tarfile.CHRTYPE))
    yield "a.tar", "FIFOs", tarred(lambda info: setattr(info, "type", tarfile.FIFOTYPE))
    yield "a.tar", "a size of 2**60", _tar_size(2**60)
    yield "a.tar", "a negative size", _tar_size(-1000)
    yield "a.tar", "a long name of 1 GB", _long_name
    yield "a.tar", "PAX headers of 5,000 digits", tarred(format=tarfile.PAX_FORMAT, pax_headers={"size": DIGITS})
    yield (
        "a.tar",
        "PAX headers of nonsense",
        tarred(format=tarfile.PAX_FORMAT, pax_headers={"path": "\ud800" if False else "x/y.png", "mtime": "nan"}),
    )
    yield "a.tar", "sparse", _sparse
    yield "a.tar", "cut short", _cut(tarred())
    yield "a.tar.gz", "cut short", _cut(tarred(mode="w:gz"))
    yield "a.tar.gz", "a bomb of 3 GB", _tar_bomb(3_000_000_000)
    yield "a.tar.gz", "a bomb of 900 MB", _tar_bomb(900_000_000)
    yield "a.tar.gz", "10 GB of zeros behind the end", _gzip_zeros
    yield "a.tar.gz", "bzip2", lambda path: path.write_bytes(bz2.compress(b"\0" * 10_240))
    yield "a.tar.gz", "400,000 empty members", _many_tar


def _many_images(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(200_000):
            archive.writestr(f"{number % 2}/{number}.png", b"")


def _overlapping(path: Path) -> None:
    """A zip whose directory names one member 20,000 times."""
    inner = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = b"\0" * 1_000_000
    data = inner.compress(content) + inner.flush()
    check = zlib.crc32(content)
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, check, len(data), len(content), 7, 0) + b"a/0.png"
    directory = b""
    for number in range(20_000):
        name = f"{'ab'[number % 2]}/{number}.png".encode()
        fields = (0x02014B50, 20, 20, 0, 8, 0, 0, check, len(data), len(content), len(name), 0, 0, 0, 0, 0, 0)
        directory += struct.pack("<IHHHHHHIIIHHHHHII", *fields) + name
    start = len(local) + len(data)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 20_000, 20_000, len(directory), start, 0)
    path.write_bytes(local + data + directory + end)


def _zip_links(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/0.png", "b/0.png", "a/1.png", "b/1.png"):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/dev/zero")


def _tar_size(size: int) -> Make:
    def make(path: Path) -> None:
        info = tarfile.TarInfo("a/0.png")
        info.size = size
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048)

    return make


def _long_name(path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1_000_000_000
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1_000_001_024)


def _sparse(path: Path) -> None:
    info = tarfile.TarInfo("a/0.png")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    data = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    data[386:398], data[398:410] = b"00000000000\0", b"00000001000\0"
    data[482:483] = b"\1"
    data[483:495] = b"77777777777\0"
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    # The extended map points to itself without end.
    path.write_bytes(bytes(data) + (b"00000000000\0" * 42 + b"\1" + b"\0" * 7) * 2000)


def _cut(make: Make) -> Make:
    def cut(path: Path) -> None:
        make(path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    return cut


def _tar_bomb(size: int) -> Make:
    def make(path: Path) -> None:
        block = b"\0" * 1_000_000
        with gzip.open(path, "wb", 9) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
            for number in range(size // 45_000_000):
                info = tarfile.TarInfo(f"{'ab'[number % 2]}/{number}.png")
                info.size = 45_000_000
                archive.addfile(info, _Blocks(block))

    return make


class _Blocks(io.RawIOBase):
    def __init__(self, block: bytes) -> None:
        self._block = block

    def read(self, size: int = -1) -> bytes:
        return self._block[:size]


def _gzip_zeros(path: Path) -> None:
    block = b"\0" * 10_000_000
    with gzip.open(path, "wb", 9) as file:
        with tarfile.open(fileobj=file, mode="w|") as archive:
            for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
                info = tarfile.TarInfo(name)
                info.size = len(SMALL)
                archive.addfile(info, io.BytesIO(SMALL))
        for _ in range(300):
            file.write(block)


def _many_tar(path: Path) -> None:
    with gzip.open(path, "wb", 1) as file:
        for number in range(400_000):
            file.write(_named(number))
        file.write(b"\0" * 1024)


_HEADER = bytearray(tarfile.TarInfo("a/0000000.png").tobuf(tarfile.USTAR_FORMAT))


def _named(number: int) -> bytes:
    header = bytearray(_HEADER)
    header[2:9] = f"{number:07}".encode()
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)


# Images.


def images() -> Iterator[tuple[str, Make]]:
    def folder(content: bytes | Make, name: str = "0.png") -> Make:
        def make(path: Path) -> None:
            for group in "ab":
                (path / group).mkdir(parents=True)
                for number in range(3):
                    (path / group / f"{number}.png").write_bytes(SMALL)
            odd = path / "a" / name
            odd.unlink(missing_ok=True)
            if isinstance(content, bytes):
                odd.write_bytes(content)
            else:
                content(odd)

        return make

    for what, place in places():
        if what != "a folder":
            yield f"an image that is {what}", folder(place)
    for width, height in ((8000, 8000), (2**31 - 1, 1), (30_000, 30_000), (60_000_000, 1)):
        yield f"{width} x {height} pixels, no data", folder(_png(width, height, b""))
    yield "64 megapixels of one colour", folder(lambda path: path.write_bytes(_big_png(8000, 8000)))
    yield "64 megapixels, wide", folder(lambda path: path.write_bytes(_big_png(64_000_000, 1)))
    yield "24 megapixels of one colour", folder(lambda path: path.write_bytes(_big_png(6000, 4000)))
    yield "a compressed text of 500 MB", folder(lambda path: path.write_bytes(_png(8, 8, extra=_text_bomb())))
    yield "a JPEG that is none", folder(b"\xff\xd8\xff\xe0" + b"\0" * 1000, "0.jpg")
    yield "an EPS", folder(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "0.png")
    yield "a PPM of 2**31 pixels", folder(b"P6 99999 99999 255\n" + b"\0" * 100, "0.ppm")
    yield "a PPM of 5,000 digits", folder(b"P6 " + DIGITS.encode() + b" 1 255\n", "0.ppm")
    yield "a PPM of comments", folder(b"P6 " + b"#\n" * 5_000_000, "0.ppm")
    yield "a PPM of 16 bits", folder(b"P6 8 8 65535\n" + b"\0" * 384, "0.ppm")
    yield (
        "a BMP of -1 pixels",
        folder(b"BM" + struct.pack("<IHHIIiiHHIIIIII", 100, 0, 0, 54, 40, -1, -1, 1, 24, 0, 0, 0, 0, 0, 0), "0.bmp"),
    )
    yield (
        "a TIFF of 65,535 entries",
        folder(b"II*\0\x08\0\0\0\xff\xff" + b"\0\1\4\0\xff\xff\xff\x7f\0\0\0\0" * 65_535, "0.tif"),
    )
    yield "a TIFF whose pages are a circle", folder(b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "0.tif")
    yield (
        "a GIF of 65,535 x 65,535",
        folder(b"GIF89a\xff\xff\xff\xff\x80\0\0" + b"\0" * 6 + b",\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;", "0.gif"),
    )
    yield (
        "a GIF of many frames",
        folder(
            b"GIF89a\x08\0\x08\0\x80\0\0" + b"\0" * 6 + b",\0\0\0\0\x08\0\x08\0\0\2\2L\1\0" * 50_000 + b";", "0.gif"
        ),
    )
    yield (
        "EXIF of nonsense",
        folder(_png(8, 8, extra=struct.pack(">I", 12) + b"eXIfII*\0\x08\0\0\0\xff\xff\xff\xff" + b"\0" * 4)),
    )
    yield "no class folders", lambda path: (path.mkdir(), [(path / f"{n}.png").write_bytes(SMALL) for n in range(4)])
    yield "class folders and loose images", lambda path: (folder(SMALL)(path), (path / "loose.png").write_bytes(SMALL))
    yield "nothing in it", lambda path: path.mkdir()
    yield (
        "links in a circle",
        lambda path: (folder(SMALL)(path), (path / "a" / "up").symlink_to(path), (path / "b" / "up").symlink_to(path)),
    )
    yield "two folders that link to each other", _crossed
    yield "20 links to the folder above each in the next", _link_bomb
    yield "folders nested 400 deep", _deep
    yield "names that are no text", _odd_names
    yield (
        "names with control characters",
        lambda path: (
            folder(SMALL)(path),
            (path / "a\x1b[2J\n[red]").mkdir(),
            [(path / "a\x1b[2J\n[red]" / f"{n}\n.png").write_bytes(b"junk") for n in range(3)],
        ),
    )
    yield "a class folder that is a link to /dev", lambda path: (folder(SMALL)(path), (path / "c").symlink_to("/dev"))
    yield "a class folder that is a link to /", lambda path: (folder(SMALL)(path), (path / "c").symlink_to("/"))
    yield (
        "one class",
        lambda path: (
            path.mkdir(),
            (path / "a").mkdir(),
            [(path / "a" / f"{n}.png").write_bytes(SMALL) for n in range(4)],
        ),
    )


def _crossed(path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (path / name).mkdir(parents=True)
        (path / name / "0.png").write_bytes(SMALL)
        (path / name / "1.png").write_bytes(SMALL)
        (path / name / "other").symlink_to(path / other)


def _link_bomb(path: Path) -> None:
    """Two links in each of 20 folders to the next: a million ways to the last."""
    for level in range(20):
        (path / f"a{level}").mkdir(parents=True)
    for level in range(19):
        for name in "xy":
            (path / f"a{level}" / name).symlink_to(path / f"a{level + 1}")
    for number in range(2):
        (path / "a19" / f"{number}.png").write_bytes(SMALL)


def _deep(path: Path) -> None:
    inner = path
    path.mkdir()
    for _ in range(400):
        inner = inner / "aaaa"
    inner.mkdir(parents=True)
    (inner / "0.png").write_bytes(SMALL)


def _odd_names(path: Path) -> None:
    for group in (b"a", b"\xff\xfe"):
        folder = path / os.fsdecode(group)
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / os.fsdecode(b"\xfe%d.png" % number)).write_bytes(b"junk")


# A run's trials.


def studies(path: Path) -> Iterator[tuple[str, Make]]:
    def told(*statements: tuple[str, *tuple[Any, ...]]) -> Make:
        def make(target: Path) -> None:
            target.write_bytes(path.read_bytes())
            with sqlite3.connect(target) as database:
                for statement, *values in statements:
                    database.execute(statement, values)
            database.close()

        return make

    value = "UPDATE trial_user_attributes SET value_json = ? WHERE key = ?"
    study = "UPDATE study_user_attributes SET value_json = ? WHERE key = ?"
    for what, text in (
        ("nested 100,000 deep", "[" * 100_000),
        ("5,000 digits", DIGITS),
        ("1e999", "1e999"),
        ("NaN", "NaN"),
        ("half a pair", f'"{SURROGATE}"'),
        ("no JSON", "nonsense"),
        ("2**62", str(2**62)),
        ("a text", '"abc"'),
        ("control characters", json.dumps(ODD_TEXT)),
    ):
        for key in ("number", "policy", "peak_bytes", "accuracy", "row"):
            yield f"a trial's {key}: {what}", told((value, text, key))
        for key in ("genes", "objectives"):
            yield f"the study's {key}: {what}", told((study, text, key))
    yield "a blob for a text", told((value, b"\xff\xfe", "policy"))
    yield "no trials", told(("DELETE FROM trials",))
    yield "no study", told(("DELETE FROM studies",))
    yield "no attributes", told(("DELETE FROM study_user_attributes",))
    yield "no values", told(("DELETE FROM trial_values",))
    yield "a value of infinity", told(("UPDATE trial_values SET value_type = 'INF_POS'",))
    yield "a state that is none", told(("UPDATE trials SET state = 'ODD'",))
    yield "a date that is none", told(("UPDATE trials SET datetime_start = 'abc'",))
    yield "a table that is gone", told(("DROP TABLE trial_values",))
    yield (
        "a view without end in a table's place",
        told(
            ("DROP TABLE trial_user_attributes",),
            (
                "CREATE VIEW trial_user_attributes AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
                "SELECT x AS trial_user_attribute_id, 1 AS trial_id, 'k' || x AS key, '1' AS value_json FROM c",
            ),
        ),
    )
    yield "a newer version", told(("UPDATE version_info SET schema_version = 99",))
    yield "a trial of 100 MB", told((value, json.dumps("a" * 100_000_000), "policy"))
    yield "cut short", lambda target: target.write_bytes(path.read_bytes()[:50_000])
    data = path.read_bytes()
    for seed in range(10):
        yield f"200 bytes changed, {seed}", _flipped(data, seed)


def _flipped(data: bytes, seed: int) -> Make:
    rng = np.random.default_rng(seed)
    changed = bytearray(data)
    for place in rng.integers(0, len(data), 200):
        changed[place] = rng.integers(256)
    return _bytes(bytes(changed))


# CIFAR's batches.


def batches() -> Iterator[tuple[str, Make]]:
    def folder(content: bytes) -> Make:
        def make(path: Path) -> None:
            path.mkdir()
            for name in [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]:
                (path / name).write_bytes(content)

        return make

    def member(make: Make) -> Make:
        def made(path: Path) -> None:
            folder(pickle.dumps({"data": [], "labels": []}))(path)
            (path / "data_batch_3").unlink()
            make(path / "data_batch_3")

        return made

    yield "a pickle that runs something", folder(pickle.dumps(_Runs()))
    for what, data in (
        ("lists nested 100,000 deep", b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
        ("marks without end", b"\x80\x02" + b"(" * 1_000_000 + b"."),
        ("a text of 2**31", b"\x80\x02X\xff\xff\xff\x7f."),
        ("a long of 2**31 bytes", b"\x80\x02\x8b\xff\xff\xff\x7f."),
        ("a long of 5,000 digits", b"L" + DIGITS.encode() + b"L\n."),
        ("tuples that double", b"\x80\x02)q\x00" + b"0h\x00h\x00\x86q\x00" * 60 + b"."),
        ("a list in itself", b"\x80\x02]q\x00h\x00a."),
        ("data that is a list in itself", b"\x80\x02}(U\x04data]q\x00h\x00aU\x06labels]u."),
        ("data of lists that double", b"\x80\x02}(U\x04data]q\x00" + b"](h\x00h\x00eq\x00" * 30 + b"U\x06labels]u."),
        ("lists that are extended by themselves", b"\x80\x02]q\x00(h\x00h\x00e" * 40 + b"."),
        ("memos of 2**31", b"\x80\x02]" + b"r\xff\xff\xff\x7f" * 300_000 + b"."),
        ("a million empty lists", b"\x80\x02" + b"]" * 10_000_000 + b"."),
        ("bytes without a stop", b"\x80\x02]"),
        ("labels that are texts", pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": list("abcd")}, 2)),
        ("labels of floats", pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [0.5] * 4}, 2)),
        ("labels of 2**62", pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [2**62] * 4}, 2)),
        ("labels of 2**70", pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [2**70] * 4}, 2)),
        ("labels nested", pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [[0]] * 4}, 2)),
        ("labels nested 60 deep", pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": _nested(60)}, 2)),
        ("ragged labels", pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [0, [1], 2, 3]}, 2)),
        ("no data", pickle.dumps({"labels": [0]}, 2)),
        ("half a pair", pickle.dumps({"\ud800": 1}, 2)),
        ("50 MB of zeros", b"\0" * 50_000_000),
        ("a text of 50 MB", b"\x80\x02X" + struct.pack("<I", 50_000_000) + b"a" * 50_000_000 + b"."),
    ):
        yield what, folder(data)
    for what, place in places():
        yield f"a batch that is {what}", member(place)


def _nested(depth: int) -> list[Any]:
    inner: list[Any] = [0]
    for _ in range(depth):
        inner = [inner]
    return inner
