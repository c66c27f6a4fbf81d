"""Data sets of every origin pass the suite that others are held to."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinysearch.search.data import Dataset, load_dataset
from tinysearch.testing import DatasetSuite


def digits(folder: Path) -> str:
    return "digits"


def arrays(folder: Path) -> str:
    random = np.random.default_rng(0)
    values = {f"x_{split}": random.integers(0, 256, (12, 9, 7, 3), np.uint8) for split in ("train", "test")}
    np.savez(folder / "mine.npz", **values, y_train=np.arange(12) % 3, y_test=np.arange(12) % 3)
    return str(folder / "mine.npz")


def class_folders(folder: Path) -> str:
    random = np.random.default_rng(0)
    for number in range(24):
        place = folder / f"class{number % 2}"
        place.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (11, 8, 3), np.uint8)).save(place / f"{number}.png")
    return str(folder)


class TestBuiltIn(DatasetSuite):
    @pytest.fixture(params=[digits, arrays, class_folders], ids=lambda make: make.__name__)
    def dataset(self, request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
        make: Callable[[Path], str] = request.param
        return load_dataset(make(tmp_path))
