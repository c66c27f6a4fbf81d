"""Members of tar and zip files, read in memory and bounded in size; nothing is ever written to disk."""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from ...core.errors import InputError

#: Endings of the archives that are read.
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")

#: Bytes of one member, and of a whole archive, after decompression.
MAX_MEMBER_BYTES = 50_000_000
MAX_ARCHIVE_BYTES = 2_000_000_000

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Member:
    """A file or folder, by its path in the archive; `content` is None for what was not wanted."""

    path: PurePosixPath
    is_folder: bool
    content: bytes | None


def is_archive(path: Path) -> bool:
    """Whether the name of `path` ends like that of an archive that can be read."""
    return path.name.lower().endswith(SUFFIXES)


def read_archive(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[Member]:
    """Yield the members of an archive, with the content of those files whose path is `wanted`.

    Links and devices are passed over. Absolute names are taken relative to the archive's root.

    Raises:
        InputError: The archive is damaged, encrypted, or larger than allowed, or a name climbs with `..`.
    """
    read = _read_zip if path.name.lower().endswith(".zip") else _read_tar
    total = 0
    try:
        for member in read(path, wanted):
            total += len(member.content or b"")
            _check_total(total, path)
            yield member
    except _DAMAGE as error:
        raise InputError(f"{path} cannot be read as an archive: {error}") from error


def _read_tar(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[Member]:
    with path.open("rb") as raw:
        unpacked = raw if path.name.lower().endswith(".tar") else gzip.GzipFile(fileobj=raw)
        stream = _Bounded(unpacked, path)
        # Stream mode reads front to back only, so the bound holds for headers as well as for content.
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as archive:
            for info in archive:
                member_path = _safe_path(info.name, path)
                if info.isdir():
                    yield Member(member_path, True, None)
                elif info.isfile():
                    content = None
                    if wanted(member_path):
                        _check_size(info.size, info.name, path)
                        file = archive.extractfile(info)
                        content = file.read() if file else b""
                    yield Member(member_path, False, content)
        # tarfile takes a header that is cut off for the end.
        if any(stream.last_block):
            raise tarfile.ReadError("it is cut short")


def _read_zip(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            member_path = _safe_path(info.filename, path)
            content = None
            if not info.is_dir() and wanted(member_path):
                _check_size(info.file_size, info.filename, path)
                content = archive.read(info)
            yield Member(member_path, info.is_dir(), content)


class _Bounded(io.RawIOBase):
    """A decompressed stream that ends in an error past `MAX_ARCHIVE_BYTES`."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._total = 0
        self.last_block = b""

    def read(self, size: int = -1) -> bytes:
        self._total += size
        _check_total(self._total, self._path)
        content = self._stream.read(size)
        self.last_block = (self.last_block + content)[-tarfile.BLOCKSIZE :]
        return content


def _safe_path(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.lstrip("/"))
    if ".." in path.parts:
        raise InputError(f"{archive} has a member that climbs out of the archive, {name!r}: pack it again")
    return path


def _check_size(size: int, name: str, archive: Path) -> None:
    if size > MAX_MEMBER_BYTES:
        raise InputError(f"{archive} has a file of {size:,} bytes, {name!r}; the limit is {MAX_MEMBER_BYTES:,}")


def _check_total(total: int, archive: Path) -> None:
    if total > MAX_ARCHIVE_BYTES:
        raise InputError(f"{archive} holds more than {MAX_ARCHIVE_BYTES:,} bytes: unpack it and name the folder")
