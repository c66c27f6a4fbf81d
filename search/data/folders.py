"""Data sets laid out as class folders, in a folder or in an archive.

`<split>/<class>/<file>` is read as it stands: `train`, and the first of `test`, `val`, `valid` and
`validation` that is there. `<class>/<file>` is split 80 : 20 within every class, by a hash of the file's
name, so the same files give the same split on every machine. One folder around all of it is ignored, and
so is what is hidden (names that start with a dot, `__MACOSX`).
"""

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...core.archives import is_archive, read_archive
from ...core.errors import InputError
from .images import Dataset, FileSplit, ImageFile

#: Endings of files that count as images.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".gif", ".tif", ".tiff")

TRAIN_NAME = "train"
TEST_NAMES = ("test", "val", "valid", "validation")
TEST_FRACTION = 0.2

#: Files and folders of a data set, folders in one another, and ways that links may lead to the same folder.
MAX_FILES = 2_000_000
MAX_LEVELS = 20
MAX_WAYS = 16


@dataclass(frozen=True)
class _Entry:
    """A file or folder by the parts of its path; `image` is None for everything but images."""

    parts: tuple[str, ...]
    is_folder: bool
    image: ImageFile | None

    def below(self, depth: int) -> "_Entry":
        return _Entry(self.parts[depth:], self.is_folder, self.image)


#: The images of each class, in the order of their paths; a class folder without images has an empty list.
_Classes = dict[str, list[_Entry]]


def read_class_folders(path: Path, name: str) -> Dataset:
    """Read a folder or an archive of class folders; the module's text says which layouts.

    Files that are no images by their ending are left out with a warning that counts and names them.

    Raises:
        InputError: The layout is another, a split or class lacks images, or there are fewer than two classes.
    """
    entries = sorted(_list_archive(path) if is_archive(path) else _list_folder(path), key=lambda e: e.parts)
    images = [entry for entry in entries if entry.image]
    if not images:
        raise InputError(f"{path} has no images in class folders (looked for {', '.join(IMAGE_SUFFIXES)})")
    depth = _wrapper_depth(images)
    wrapper = images[0].parts[:depth]
    train, test, how = _split(path, [e.below(depth) for e in entries if e.parts[:depth] == wrapper])
    _check_classes(path, train, test)
    _warn_of(path, "are no images", [e for e in entries if not e.image and not e.is_folder])
    classes = tuple(sorted(train))
    return Dataset(name, classes, _file_split(train, classes), _file_split(test, classes), f"{path} ({how})")


def _is_hidden(parts: Sequence[str]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _is_image(path: PurePosixPath) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not _is_hidden(path.parts)


def _list_archive(path: Path) -> Iterator[_Entry]:
    # A later member replaces an earlier one of the same name, as it would when unpacked.
    members = {member.path: member for member in read_archive(path, _is_image)}
    for inside, member in members.items():
        if not _is_hidden(inside.parts):
            image = None if member.content is None else ImageFile(f"{path}:{inside}", member.content)
            yield _Entry(inside.parts, member.is_folder, image)


def _list_folder(root: Path) -> Iterator[_Entry]:
    count = 0
    for inside, folder, files in _walk(root):
        yield _Entry(inside, True, None)
        count += 1 + len(files)
        if count > MAX_FILES:
            raise InputError(f"{root} has more than {MAX_FILES:,} files and folders: name a smaller one")
        for file in files:
            path = folder / file
            yield _Entry((*inside, file), False, ImageFile(str(path), path) if _is_image(PurePosixPath(file)) else None)


def _walk(root: Path) -> Iterator[tuple[tuple[str, ...], Path, list[str]]]:
    """Every folder, by its path in the root, with the names of its files; links are followed, but in no circle."""
    seen: Counter[tuple[int, int]] = Counter()
    # What is yet to be looked at: where, as a path in the root, and the folders above by their identity.
    waiting: list[tuple[Path, tuple[str, ...], frozenset[tuple[int, int]]]] = [(root, (), frozenset())]
    while waiting:
        folder, inside, above = waiting.pop()
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            continue  # a link to a folder above
        seen[identity] += 1
        if seen[identity] > MAX_WAYS or len(inside) > MAX_LEVELS:
            way = f"lies more than {MAX_LEVELS} folders deep" if len(inside) > MAX_LEVELS else "is linked to too often"
            raise InputError(f"{folder} {way}: name a folder of class folders")
        files = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_hidden([entry.name]):
                    continue
                if entry.is_dir():
                    waiting.append((folder / entry.name, (*inside, entry.name), above | {identity}))
                else:
                    files.append(entry.name)
        yield inside, folder, files


def _wrapper_depth(images: Sequence[_Entry]) -> int:
    """1 where a single folder, which is no split, holds all splits or classes; else 0."""
    first = {entry.parts[0] for entry in images}
    is_split = first <= {TRAIN_NAME, *TEST_NAMES}
    return int(len(first) == 1 and not is_split and all(len(entry.parts) > 2 for entry in images))


def _split(path: Path, entries: Sequence[_Entry]) -> tuple[_Classes, _Classes, str]:
    """Train and test classes, and how they were told apart."""
    splits = {e.parts[0] for e in entries if e.image and len(e.parts) > 2} & {TRAIN_NAME, *TEST_NAMES}
    if not splits:
        train, test = _split_by_hash(path, _by_class(path, entries))
        return train, test, "no splits of its own: 80 : 20 within every class by the hash of the file name"
    test_name = next((name for name in TEST_NAMES if name in splits), None)
    if TRAIN_NAME not in splits or test_name is None:
        raise InputError(
            f"{path} has images of the split {min(splits)!r} only: it needs {TRAIN_NAME!r} and one of "
            f"{', '.join(TEST_NAMES)}, or class folders and no splits"
        )
    used = (TRAIN_NAME, test_name)
    _warn_of(path, "are in neither split", [e for e in entries if e.image and e.parts[0] not in used])
    train, test = (_by_class(path, [e.below(1) for e in entries if e.parts[:1] == (name,)]) for name in used)
    return train, test, f"its own {TRAIN_NAME} and {test_name} splits"


def _by_class(path: Path, entries: Sequence[_Entry]) -> _Classes:
    classes: _Classes = {}
    for entry in entries:
        if len(entry.parts) > 1 or (entry.parts and entry.is_folder):
            files = classes.setdefault(entry.parts[0], [])
            if entry.image:
                files.append(entry.below(1))
    _warn_of(path, "are in no class folder", [e for e in entries if e.image and len(e.parts) == 1])
    return classes


def _split_by_hash(path: Path, classes: _Classes) -> tuple[_Classes, _Classes]:
    train: _Classes = {}
    test: _Classes = {}
    for name, files in classes.items():
        if len(files) == 1:
            raise InputError(f"class {name!r} of {path} has one image: it needs two, to train and to test")
        ranked = sorted(files, key=_name_hash)
        held_out = max(1, round(TEST_FRACTION * len(files))) if files else 0
        test[name], train[name] = ranked[:held_out], ranked[held_out:]
    return train, test


def _name_hash(entry: _Entry) -> bytes:
    # surrogateescape: file names need not be valid text.
    return hashlib.sha256("/".join(entry.parts).encode(errors="surrogateescape")).digest()


def _check_classes(path: Path, train: _Classes, test: _Classes) -> None:
    for split, classes, other in (("test", test, train), ("train", train, test)):
        for name in sorted(other.keys() | classes.keys()):
            if name not in classes:
                raise InputError(f"class {name!r} of {path} has no {split} folder: every split needs every class")
            if not classes[name]:
                raise InputError(f"class {name!r} of {path} has no {split} images: add some or remove the folder")
    if not train:
        raise InputError(f"{path} has images, but no class folders: put those of each class into a folder of its name")
    if len(train) < 2:
        raise InputError(f"{path} has one class, {next(iter(train))!r}: a classifier needs two or more")


def _warn_of(path: Path, what: str, entries: Sequence[_Entry]) -> None:
    if entries:
        names = ", ".join(repr("/".join(entry.parts)) for entry in entries[:3])
        more = ", ..." if len(entries) > 3 else ""
        warnings.warn(f"{path}: {len(entries)} files {what} and are left out: {names}{more}", stacklevel=3)


def _file_split(by_class: _Classes, classes: tuple[str, ...]) -> FileSplit:
    files = [entry.image for name in classes for entry in by_class[name] if entry.image]
    return FileSplit(files, [label for label, name in enumerate(classes) for _ in by_class[name]])
