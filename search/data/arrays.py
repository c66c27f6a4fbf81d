"""Data sets that are arrays: `.npz` files, and scikit-learn's handwritten digits."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.archives import MAX_FILE_BYTES, open_zip
from ...core.errors import InputError
from ...core.files import open_bounded
from .images import MAX_PIXELS, ArraySplit, Dataset
from .npy import read_npy

KEYS = ("x_train", "y_train", "x_test", "y_test")

#: Bytes of a `.npz` after decompression: its arrays are held in memory.
MAX_NPZ_BYTES = 500_000_000
#: Classes of a data set.
MAX_CLASSES = 10_000

DIGITS_TEST_IMAGES = 500
DIGITS_SEED = 0


def read_npz(path: Path, name: str, classes: tuple[str, ...] | None = None) -> Dataset:
    """Read `x_train`, `y_train`, `x_test` and `y_test` from a `.npz`.

    Args:
        path: The file. Images are uint8, (N, H, W, 3), (N, H, W, 1) or (N, H, W); labels are integers,
            (N,) or (N, 1), from 0.
        name: Name of the data set.
        classes: Class names; by default the labels themselves.

    Raises:
        InputError: The file is damaged, holds pickled objects, or its arrays are not as said above.
    """
    arrays = _read_arrays(path)
    images, labels = {}, {}
    for split in ("train", "test"):
        images[split] = _check_images(path, f"x_{split}", arrays[f"x_{split}"])
        labels[split] = _check_labels(path, f"y_{split}", arrays[f"y_{split}"], len(images[split]))
    present = np.unique(labels["train"])
    if len(present) > MAX_CLASSES:
        raise InputError(f"{path}: y_train has {len(present):,} classes; the limit is {MAX_CLASSES:,}")
    classes = classes or tuple(str(label) for label in range(len(present)))
    if len(classes) < 2 or not np.array_equal(present, range(len(classes))):
        raise InputError(f"{path}: y_train must hold every class from 0 up, two or more, not {_some(present)}")
    if not np.array_equal(np.unique(labels["test"]), present):
        raise InputError(f"{path}: y_test must hold the same classes as y_train, {_some(present)}")
    train, test = (ArraySplit(images[split], labels[split]) for split in ("train", "test"))
    return Dataset(name, classes, train, test, source=f"{path} (its own train and test arrays)")


def load_digits() -> Dataset:
    """The 1,797 handwritten digits, 8x8 grey, that come with scikit-learn.

    They are the test part of UCI's Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998)
    and have no split of their own. Here a fixed one, stratified by class: 1,297 train, 500 test.
    """
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    train, test = train_test_split(
        np.arange(len(pixels)), test_size=DIGITS_TEST_IMAGES, stratify=digits.target, random_state=DIGITS_SEED
    )
    return Dataset(
        name="digits",
        classes=tuple(str(digit) for digit in range(10)),
        train=ArraySplit(pixels[train], digits.target[train]),
        test=ArraySplit(pixels[test], digits.target[test]),
        source=f"scikit-learn's load_digits (stratified {len(train)} : {len(test)}, seed {DIGITS_SEED})",
    )


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    with open_bounded(path, MAX_FILE_BYTES) as stream, open_zip(stream, MAX_NPZ_BYTES, str(path)) as archive:
        names = set(archive.namelist())
        if missing := [key for key in KEYS if f"{key}.npy" not in names]:
            raise InputError(f"{path} lacks {', '.join(missing)}: it needs the arrays {', '.join(KEYS)}")
        for key in KEYS:
            with archive.open(f"{key}.npy") as file:
                try:
                    arrays[key] = read_npy(file, MAX_NPZ_BYTES)
                except ValueError as error:
                    raise InputError(f"{path}: {key} cannot be read: {error}") from error
    return arrays


def _check_images(path: Path, key: str, images: NDArray[Any]) -> NDArray[np.uint8]:
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    is_image = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not is_image or 0 in images.shape:
        found = f"{images.dtype} {images.shape}"
        raise InputError(f"{path}: {key} must be uint8 of shape (N, H, W, 3) or (N, H, W), not {found}")
    if images.shape[1] * images.shape[2] > MAX_PIXELS:
        raise InputError(f"{path}: {key} has images of more than {MAX_PIXELS:,} pixels: shrink them")
    return images


def _check_labels(path: Path, key: str, labels: NDArray[Any], images: int) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu" or labels.shape not in ((images,), (images, 1)):
        raise InputError(f"{path}: {key} must be {images} integers, not {labels.dtype} {labels.shape}")
    ids: NDArray[np.int64] = labels.reshape(-1).astype(np.int64)
    if (ids != labels.reshape(-1)).any():
        raise InputError(f"{path}: {key} has labels that are too large")
    return ids


def _some(labels: NDArray[np.int64]) -> str:
    return ", ".join(map(str, labels[:12])) + (", ..." if len(labels) > 12 else "")
