"""CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images, 32x32, 10 classes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...core.archives import read_archive
from ...core.errors import InputError, MissingDataError
from ...core.files import cache_folder, read_bytes
from .arrays import read_npz
from .cifar_batch import read_binary_batch, read_python_batch
from .download import RemoteFile, fetch
from .images import ArraySplit, Dataset

NAME = "cifar10"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

#: The original binary layout.
OFFICIAL = RemoteFile("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530")

#: Bytes of a batch; those of both layouts have 31 million.
MAX_BATCH_BYTES = 40_000_000

_Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class Layout:
    """One of the two original layouts: how its files are called and read."""

    folder: str
    archive: str
    suffix: str
    read: Callable[[bytes, str], _Batch]

    def batches(self, split: str) -> list[str]:
        """File names of a split, in order."""
        names = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
        return [name + self.suffix for name in names]


LAYOUTS = (
    Layout("cifar-10-batches-bin", "cifar-10-binary.tar.gz", ".bin", read_binary_batch),
    Layout("cifar-10-batches-py", "cifar-10-python.tar.gz", "", read_python_batch),
)
NPZ = "cifar10.npz"


def load_cifar10(data_dir: Path | None, *, download: bool) -> Dataset:
    """Find CIFAR-10 and read it; its own split is kept.

    Looked for in `data_dir`, `data_dir/cifar10` and the cache, in this order: the folders of the original
    binary and python layouts, their `.tar.gz`, and `cifar10.npz` (see `read_npz`).

    Raises:
        InputError: What was found is damaged or incomplete.
        MissingDataError: Nothing was found, and nothing could or should be downloaded.
    """
    places = [data_dir, data_dir / NAME] if data_dir else []
    places.append(cache_folder())
    for place in places:
        if found := _find(place):
            return found
    looked_for = ", ".join([*(name for layout in LAYOUTS for name in (layout.folder, layout.archive)), NPZ])
    where = ", ".join(map(str, places))
    way_out = "put one of them in a folder and name that by data_dir"
    if not download:
        raise MissingDataError(f"cifar10 is not here: looked for {looked_for} in {where}; {way_out}", "data_dir")
    try:
        archive = fetch(OFFICIAL)
    except MissingDataError as error:
        raise MissingDataError(f"{error}; looked for {looked_for} in {where}; {way_out}", "data_dir") from error
    return _read(LAYOUTS[0], archive, _members(archive))


def _find(place: Path) -> Dataset | None:
    for layout in LAYOUTS:
        for folder in (place / layout.folder, place):
            if (folder / layout.batches("train")[0]).is_file():
                names = (name for split in ("train", "test") for name in layout.batches(split))
                files = {name: folder / name for name in names if (folder / name).exists()}
                contents = {name: read_bytes(file, MAX_BATCH_BYTES) for name, file in files.items()}
                return _read(layout, folder, contents)
    for layout in LAYOUTS:
        if (archive := place / layout.archive).is_file():
            return _read(layout, archive, _members(archive))
    if (npz := place / NPZ).is_file():
        return read_npz(npz, NAME, CLASSES)
    return None


def _members(archive: Path) -> dict[str, bytes]:
    names = {name for layout in LAYOUTS for split in ("train", "test") for name in layout.batches(split)}
    members = read_archive(archive, lambda path: path.name in names)
    return {member.path.name: member.content for member in members if member.content is not None}


def _read(layout: Layout, origin: Path, files: dict[str, bytes]) -> Dataset:
    train, test = (_read_split(layout, origin, files, split) for split in ("train", "test"))
    return Dataset(NAME, CLASSES, train, test, source=f"{origin} (its own train and test batches)")


def _read_split(layout: Layout, origin: Path, files: dict[str, bytes], split: str) -> ArraySplit:
    names = layout.batches(split)
    if missing := [name for name in names if name not in files]:
        raise InputError(f"{origin} lacks {', '.join(missing)}: fetch it again, or remove it to have it downloaded")
    images, labels = zip(*(layout.read(files[name], f"{origin}/{name}") for name in names), strict=True)
    ids = np.concatenate(labels)
    if not np.array_equal(np.unique(ids), range(len(CLASSES))):
        raise InputError(f"{origin} holds labels that are not those of CIFAR-10's ten classes: fetch it again")
    return ArraySplit(np.concatenate(images), ids)
