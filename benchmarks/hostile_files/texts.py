"""JSON and YAML that no reader may stumble over, and what may lie in the place of a file."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .base import DIGITS, ODD_TEXT, SURROGATE, Make, Valid


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


def nested(depth: int) -> list[Any]:
    inner: list[Any] = [0]
    for _ in range(depth):
        inner = [inner]
    return inner
