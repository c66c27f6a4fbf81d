"""Stores of trials, and CIFAR batches."""

import json
import pickle
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .base import DIGITS, ODD_TEXT, SURROGATE, Make, Runs, of_bytes
from .texts import nested, places

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
    return of_bytes(bytes(changed))


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

    yield "a pickle that runs something", folder(pickle.dumps(Runs()))
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
        ("labels nested 60 deep", pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": nested(60)}, 2)),
        ("ragged labels", pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [0, [1], 2, 3]}, 2)),
        ("no data", pickle.dumps({"labels": [0]}, 2)),
        ("half a pair", pickle.dumps({"\ud800": 1}, 2)),
        ("50 MB of zeros", b"\0" * 50_000_000),
        ("a text of 50 MB", b"\x80\x02X" + struct.pack("<I", 50_000_000) + b"a" * 50_000_000 + b"."),
    ):
        yield what, folder(data)
    for what, place in places():
        yield f"a batch that is {what}", member(place)
