"""Changes of files that keep their outer shape, so that what is within is reached: JSON, safetensors and zip files."""

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

#: Changes bytes, to at most so many.
Mutate = Callable[[bytes, int], bytes]

#: Values that stand for any other.
VALUES = (
    *(None, True, 0, -1, 1, 2**31, 2**62, 2**70, 1e308, -0.0, 0.5, "", "a", "\ud800", "\x1b[2J\n", "../x", "a" * 300),
    *([], {}, [[]], [1, 2, 3], {"a": 1}, "all", "none", "in", "out", ["a", "a"], [3, 32, 64], "inf", "nan"),
)


def json_text(data: bytes, seed: int, mutate: Mutate) -> bytes:
    """JSON with a value changed, taken away, doubled, or moved to another place."""
    rng = random.Random(seed)
    try:
        content = json.loads(data)
        places = list(_places(content, 0))
    except (ValueError, RecursionError):
        return mutate(data, len(data) + 100)
    if not places:
        return mutate(data, len(data) + 100)
    for _ in range(rng.randint(1, 3)):
        holder, key = rng.choice(places)
        if (isinstance(holder, list) and key >= len(holder)) or (isinstance(holder, dict) and key not in holder):
            continue
        change = rng.randrange(5)
        if change == 0:
            del holder[key]
        elif change == 1:
            holder[key] = rng.choice(VALUES)
        elif change == 2:
            other, name = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[name])) if _has(other, name) else None
        elif isinstance(holder, list):
            holder.insert(key, json.loads(json.dumps(holder[key])))
        elif change == 3:
            holder[rng.choice(["x", "format", "name", ""])] = rng.choice(VALUES)
        else:
            holder[key] = _near(holder[key], rng)
    return json.dumps(content).encode()


def safetensors(data: bytes, seed: int, mutate: Mutate) -> bytes:
    """A safetensors file with a changed header, also in a text of its metadata that is JSON itself."""
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length]
    try:
        content = json.loads(header)
        words = content["__metadata__"]
        name = next(iter(words))
        if seed % 2:
            words[name] = json_text(words[name].encode(), seed, mutate).decode("utf-8", "replace")
            header = json.dumps(content).encode()
        else:
            header = json_text(header, seed, mutate)
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, RecursionError):
        header = json_text(header, seed, mutate)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def zipped(data: bytes, seed: int, mutate: Mutate) -> bytes:
    """A zip file with a member changed, its checksum right."""
    rng = random.Random(seed)
    stream = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
            members = old.infolist()[:50]
            chosen = rng.choice(members)
            for info in members:
                content = old.read(info) if info.file_size < 1_000_000 else b""
                new.writestr(info.filename, mutate(content, len(content) + 50) if info is chosen else content)
    except Exception:  # whatever damage leads to
        return mutate(data, len(data) + 100)
    return stream.getvalue()


def _places(content: Any, depth: int) -> Any:
    if depth < 20 and isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield content, key
            yield from _places(value, depth + 1)


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _near(value: Any, rng: random.Random) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return rng.choice(VALUES)
    return value + rng.choice([-1, 1, 2**20]) if rng.random() < 0.5 else value * rng.choice([-1, 0, 2, 1000])
