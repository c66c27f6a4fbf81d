"""Data sets by name or path.

`DATASETS` has those that have a name; a package adds its own by an entry point `tinysearch.datasets`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...core.archives import SUFFIXES, is_archive
from ...core.errors import InputError, MissingDataError
from ...core.registry import Entry, Registry
from .arrays import load_digits, read_npz
from .cifar import load_cifar10
from .folders import read_class_folders
from .images import Dataset


@dataclass(frozen=True)
class DatasetInfo:
    """A data set that has a name.

    Attributes:
        name: What `load_dataset` takes.
        summary: What it is.
        origin: How it gets here.
        load: Loads it, given the folder where data sets lie, if any, and whether it may be downloaded.
    """

    name: str
    summary: str
    origin: str
    load: Callable[[Path | None, bool], Dataset]


_FROM_ARCHIVE = "from a data folder, as an archive or folder of class folders; no download"


def _from_archive(name: str, summary: str) -> DatasetInfo:
    return DatasetInfo(name, summary, _FROM_ARCHIVE, partial(_load_named, name))


def _load_named(name: str, data_dir: Path | None, download: bool) -> Dataset:
    return _load_path(_find_named(name, data_dir), name)


_BUILT_IN = (
    DatasetInfo(
        "digits",
        "1,797 handwritten digits, 8x8 grey, 10 classes",
        "comes with scikit-learn",
        lambda data_dir, download: load_digits(),
    ),
    DatasetInfo(
        "cifar10",
        "60,000 photographs, 32x32, 10 classes",
        "from a data folder, or downloaded (170 MB)",
        lambda data_dir, download: load_cifar10(data_dir, download=download),
    ),
    _from_archive("gtsrb", "German traffic signs, 43 classes"),
    _from_archive("dtd10", "describable textures, 10 classes"),
    _from_archive("imagenette", "photographs of 10 ImageNet classes"),
)


def _check(thing: object) -> None:
    if not isinstance(thing, DatasetInfo):
        raise TypeError(f"a {type(thing).__name__}, where a DatasetInfo is needed")


#: All data sets that have a name.
DATASETS: Registry[DatasetInfo] = Registry(
    "data set", [Entry.of(info.name, info) for info in _BUILT_IN], _check, plural="datasets"
)


def list_datasets() -> tuple[DatasetInfo, ...]:
    """The data sets that are known by name.

    Example:
        >>> import tinysearch as ts
        >>> [info.name for info in ts.list_datasets()]
        ['digits', 'cifar10', 'gtsrb', 'dtd10', 'imagenette']
    """
    return tuple(DATASETS.loaded().values())


def load_dataset(name: str, data_dir: Path | None = None, *, download: bool = True) -> Dataset:
    """Load a data set, both splits, without decoding its images.

    Args:
        name: A name of `list_datasets`, or the path of a folder or archive of class folders, or of a `.npz`
            with `x_train`, `y_train`, `x_test` and `y_test`.
        data_dir: Folder where named sets are looked for.
        download: Whether a named set that is not found may be downloaded.

    Raises:
        InputError: There is no such name or path, or what is there is not laid out as it should be.
        MissingDataError: A named set is not here and was not, or could not be, downloaded.

    Example:
        >>> import tinysearch as ts
        >>> digits = ts.load_dataset("digits")
        >>> len(digits.train), len(digits.test)
        (1297, 500)
    """
    check_dataset(name, data_dir)
    if name in DATASETS:
        info = DATASETS.load(name)
        with DATASETS.blaming(name):
            return _require_dataset(info.load(data_dir, download))
    return _load_path(Path(name).expanduser(), name)


def check_dataset(name: str, data_dir: Path | None = None) -> None:
    """Refuse a data set that cannot be, by its name, without looking into it.

    Raises:
        InputError: There is no such name or path, or no such folder of data sets.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise InputError(f"the data folder {data_dir} does not exist")
    if name not in DATASETS and not (name and "\0" not in name and Path(name).expanduser().exists()):
        raise InputError(f"no data set {name!r}: give one of {', '.join(DATASETS)}, or the path of a folder or archive")


def _require_dataset(loaded: object) -> Dataset:
    if not isinstance(loaded, Dataset):
        raise TypeError(f"it gave a {type(loaded).__name__}, no Dataset")
    return loaded


def _load_path(path: Path, name: str) -> Dataset:
    if path.suffix.lower() == ".npz":
        return read_npz(path, name)
    if path.is_dir() or is_archive(path):
        return read_class_folders(path, name)
    raise InputError(f"{path} is no data set: give a folder, a .npz, or an archive ({', '.join(SUFFIXES)})")


def _find_named(name: str, data_dir: Path | None) -> Path:
    """`data_dir/<name>` or `data_dir/<name>*.tar` and the like, or the one archive in the former."""
    if data_dir is None:
        raise MissingDataError(
            f"{name} is not downloaded: name the folder that holds {name}*.tar by data_dir", "data_dir"
        )
    folder = data_dir / name
    archives = sorted(
        path
        for place, pattern in ((folder, "*"), (data_dir, f"{name}*"))
        for path in place.glob(pattern)
        if is_archive(path)
    )
    if len(archives) > 1:
        raise InputError(f"{name} could be any of {', '.join(map(str, archives))}: give the path of one")
    if archives:
        return archives[0]
    if folder.is_dir():
        return folder
    raise MissingDataError(
        f"{name} is not in {data_dir}, and is not downloaded: looked for the folder {folder} and for "
        f"{name}* ending in {', '.join(SUFFIXES)}"
    )
