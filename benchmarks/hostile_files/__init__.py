"""Made-up files that no reader may stumble over, by kind: what is wrong with them, and how each is made.

`files(folder)` yields them one by one, so that a bomb is there no longer than it is looked at. `benchmarks/hostile.py`
hands each to its reader and measures.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from .archives import archives
from .arrays import arrays
from .base import Hostile, Make, Valid, of_bytes, of_text
from .images import images
from .stores import batches, studies
from .tensors import checkpoints, deltas, safetensors
from .texts import front_texts, json_texts, places, policy_texts, yaml_texts


def files(folder: Path, valid: Valid, kinds: set[str] | None = None) -> Iterator[Hostile]:
    """Make one file after another; each is gone when the next is asked for."""
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
        yield from ((kind, name, what, of_text(text)) for what, text in json_texts(make))
        yield from ((kind, name, what, place) for what, place in places())
    for what, text in policy_texts(valid):
        yield "policy", "p.json", what, of_text(text)
    for what, text in front_texts(valid):
        yield "front", "front.json", what, of_text(text)
    for what, text in yaml_texts(valid.profile):
        yield "profile", "d.yaml", what, of_text(text)
    for what, text in yaml_texts("trials: 3\n"):
        yield "config", "c.yaml", what, of_text(text)
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
        yield "delta", "d.safetensors", what, of_bytes(data)
        yield "weights", "w.safetensors", what, of_bytes(data)
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
