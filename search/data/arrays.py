"""Data sets that are arrays: `.npz` files, and scikit-learn's handwritten digits."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core.errors import InputError
from .images import ArraySplit, Dataset

KEYS = ("x_train", "y_train", "x_test", "y_test")

#: Bytes of a `.npz` after decompression.
MAX_NPZ_BYTES = 8_000_000_000

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
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > MAX_NPZ_BYTES:
            raise InputError(f"{path} unpacks to {size:,} bytes; the limit is {MAX_NPZ_BYTES:,}")
        with np.load(path, allow_pickle=False) as archive:
            if missing := [key for key in KEYS if key not in archive]:
                raise InputError(f"{path} lacks {', '.join(missing)}: it needs the arrays {', '.join(KEYS)}")
            return {key: archive[key] for key in KEYS}
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as .npz arrays: {error}") from error


def _check_images(path: Path, key: str, images: NDArray[Any]) -> NDArray[np.uint8]:
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    is_image = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not is_image or 0 in images.shape:
        found = f"{images.dtype} {images.shape}"
        raise InputError(f"{path}: {key} must be uint8 of shape (N, H, W, 3) or (N, H, W), not {found}")
    return images


def _check_labels(path: Path, key: str, labels: NDArray[Any], images: int) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu" or labels.shape not in ((images,), (images, 1)):
        raise InputError(f"{path}: {key} must be {images} integers, not {labels.dtype} {labels.shape}")
    return labels.reshape(-1).astype(np.int64)


def _some(labels: NDArray[np.int64]) -> str:
    return ", ".join(map(str, labels[:12])) + (", ..." if len(labels) > 12 else "")
