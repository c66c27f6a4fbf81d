"""A data set: stripes across, down and at a slant, made here."""

from pathlib import Path

import numpy as np

from tinysearch.search.data import Dataset, DatasetInfo
from tinysearch.search.data.images import ArraySplit


def _split(count: int, seed: int) -> ArraySplit:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    y, x = np.mgrid[:16, :16]
    phases = random.uniform(0, 2 * np.pi, count)
    waves = [np.sin((x, y, x + y)[label] + phase) for label, phase in zip(labels, phases, strict=True)]
    noise = random.normal(0, 0.3, (count, 16, 16))
    return ArraySplit(np.clip(128 + 80 * (np.array(waves) + noise), 0, 255).astype(np.uint8), labels)


def _load(data_dir: Path | None, download: bool) -> Dataset:
    return Dataset("stripes", ("across", "down", "slanted"), _split(300, 0), _split(90, 1), "acme's own formula")


STRIPES = DatasetInfo("stripes", "390 stripes, 16x16 grey, 3 classes", "made when it is loaded", _load)
