"""The file of the ground truth: what is in it, and how it is read."""

import gzip
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict

from ...core.formats import Format

#: The file, beside this module.
FILE = "table.json.gz"
FORMAT = Format("tinysearch.ground-truth", 1, "ground truth")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PolicyRecord(_Record):
    """A policy.

    Attributes:
        names: What it is called.
        policy: Its content, as a policy file has it.
    """

    names: tuple[str, ...]
    policy: dict[str, Any]


class FewShotRecord(_Record):
    """What the few-shot proxy said, a value for each policy; see `FewShot`."""

    queries: int
    accuracy: list[float]
    accuracy_se: list[float]
    loss: list[float]
    learning_rate: list[float]
    seconds: list[float]


class CellRecord(_Record):
    """A cell; see `Cell`. Its policies are numbers of the file's, its rates the file's where it states none."""

    name: str
    dataset: str
    per_class: int | None
    classes: int
    train_images: int
    test_images: int
    steps: int
    learning_rates: tuple[float, ...] | None = None
    policies: list[int]
    accuracy: list[list[list[float]]]
    held_out: list[list[float]]
    few_shot: FewShotRecord


class TableRecord(_Record):
    """The whole file; see `GroundTruth`."""

    measured: str
    missing: str
    backbone: str
    weights: str
    input_size: int
    optimizer: str
    batch: int
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    policies: list[PolicyRecord]
    cells: list[CellRecord]


def read() -> TableRecord:
    """The file that comes with the package."""
    data = (resources.files(__package__) / FILE).read_bytes()
    return FORMAT.read(TableRecord, gzip.decompress(data).decode(), FILE)
