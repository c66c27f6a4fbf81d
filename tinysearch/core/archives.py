"""Tar and zip files from anyone, read in memory and within bounds; nothing is ever written to disk.

A zip file's directory is checked before anything is unpacked (`check_zip`, `open_zip`); a tar file is read in one go.
"""

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from .errors import InputError
from .files import open_bounded

#: Endings of the archives that are read.
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")

#: Bytes of a file that is an archive.
MAX_FILE_BYTES = 8_000_000_000
#: Bytes of one member, and of a whole archive, after decompression: they are held in memory.
MAX_MEMBER_BYTES = 50_000_000
MAX_ARCHIVE_BYTES = 500_000_000
#: How many times its own size, besides `MAX_BESIDES`, a file may unpack to: images and weights hardly shrink.
MAX_TIMES, MAX_BESIDES = 100, 10_000_000
#: Members of an archive, and bytes of a zip file's directory.
MAX_MEMBERS = 100_000
MAX_DIRECTORY_BYTES = 16_000_000
#: Characters of a member's name, folders in it, and bytes of a header of a tar file that holds long names.
MAX_NAME, MAX_PARTS, MAX_HEADER = 1000, 50, 100_000

#: What tarfile and zipfile raise on damaged files.
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(RuntimeError, ValueError, OverflowError, NotImplementedError, LookupError, TypeError, AttributeError),
)

#: The end of a zip file's directory: its mark and what follows it. A comment of at most 65,535 bytes may come behind.
_END = b"PK\5\6"
_END_FIELDS = struct.Struct("<4s4H2LH")
#: Bytes of the two records that a file of the 64-bit kind has in front of that.
_END_64, _LOCATOR_64 = 56, 20
#: The methods that are read, by number: others are rare, and their readers take memory as the file says.
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
_ENCRYPTED = 1
#: Types of a tar file's members that have no content, whatever their size says.
_EMPTY = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)


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
    for number, member in enumerate(read(path, wanted), 1):
        total += len(member.content or b"")
        _check_total(total, path, MAX_ARCHIVE_BYTES)
        if number > MAX_MEMBERS:
            raise InputError(f"{path} has more than {MAX_MEMBERS:,} members: unpack it and name the folder")
        yield member


def check_zip(stream: BinaryIO, most: int, origin: str) -> None:
    """Refuse a zip file by what its directory says, before anything is unpacked.

    Args:
        stream: The file.
        most: Bytes that all of it may unpack to.
        origin: What messages call it.

    Raises:
        InputError: It is none, damaged or encrypted, or has too many, too large or oddly packed members.
    """
    with open_zip(stream, most, origin):
        pass


@contextmanager
def open_zip(stream: BinaryIO, most: int, origin: str) -> Iterator[zipfile.ZipFile]:
    """A zip file whose directory has been checked as `check_zip` does; damage within the block is told likewise.

    Raises:
        InputError: As `check_zip`, or something is damaged.
    """
    try:
        _check_end(stream, origin)
        with zipfile.ZipFile(stream) as archive:
            size = stream.seek(0, io.SEEK_END)
            _check_directory(archive.infolist(), min(most, _most_unpacked(size)), origin)
            yield archive
    except DAMAGE as error:
        raise InputError(f"{origin} cannot be read as an archive: {_line(error)}") from error


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The content of a member, of no more bytes than the directory says."""
    with archive.open(info) as file:
        return file.read(info.file_size)  # without a number it would unpack whatever there is before it looks


def _check_end(stream: BinaryIO, origin: str) -> None:
    """Bound a directory that is yet to be read, by what the end of the file says of it."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 65_535 - _END_FIELDS.size - _END_64 - _LOCATOR_64))
    tail = stream.read()
    place = tail.rfind(_END, 0, len(tail) - _END_FIELDS.size + len(_END))
    if place < 0:
        raise zipfile.BadZipFile("it is no zip file, or cut short")
    _, _, _, _, count, length, _, _ = _END_FIELDS.unpack_from(tail, place)
    # A file of the 64-bit kind says it once more, in front of this, and that is what zipfile believes.
    if place >= _END_64 + _LOCATOR_64 and tail[place - _LOCATOR_64 :].startswith(b"PK\6\7"):
        count, length = struct.unpack_from("<QQ", tail, place - _LOCATOR_64 - _END_64 + 32)
    if count > MAX_MEMBERS or length > MAX_DIRECTORY_BYTES:
        raise InputError(f"{origin} has {count:,} members in a directory of {length:,} bytes: unpack it")


def _check_directory(members: list[zipfile.ZipInfo], most: int, origin: str) -> None:
    total, packed, names = 0, 0, set[str]()
    if len(members) > MAX_MEMBERS:
        raise InputError(f"{origin} has more than {MAX_MEMBERS:,} members: unpack it")
    for info in members:
        if info.flag_bits & _ENCRYPTED:
            raise InputError(f"{origin} is encrypted: pack it again without a password")
        if info.compress_type not in _METHODS:
            how = ", ".join(_METHODS.values())
            raise InputError(f"{origin} is packed by method {info.compress_type}; read are {how}: pack it again")
        if info.filename in names:
            raise InputError(f"{origin} has two members named {info.filename!r:.100}: pack it again")
        names.add(info.filename)
        total, packed = total + info.file_size, packed + info.compress_size
    if total > most:
        raise InputError(f"{origin} unpacks to {total:,} bytes; the limit is {most:,}")
    end = max((info.header_offset + info.compress_size for info in members), default=0)
    if packed > end:
        raise InputError(f"{origin} has members that lie in one another: pack it again")


def _read_zip(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[Member]:
    with open_bounded(path, MAX_FILE_BYTES) as stream, open_zip(stream, MAX_ARCHIVE_BYTES, str(path)) as archive:
        for info in archive.infolist():
            member_path = _safe_path(info.filename, path)
            content = None
            if not info.is_dir() and wanted(member_path):
                _check_size(info.file_size, info.filename, path)
                content = read_member(archive, info)
            yield Member(member_path, info.is_dir(), content)


def _read_tar(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[Member]:
    try:
        with open_bounded(path, MAX_FILE_BYTES) as raw:
            unpacked = raw if path.name.lower().endswith(".tar") else gzip.GzipFile(fileobj=raw)
            stream = _Bounded(unpacked, path, min(MAX_ARCHIVE_BYTES, _most_unpacked(os.fstat(raw.fileno()).st_size)))
            # Stream mode reads front to back only, so the bound holds for headers as well as for content.
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", tarinfo=_BoundedInfo) as archive:
                yield from _tar_members(archive, path, wanted)
            # tarfile takes a header that is cut off for the end.
            if any(stream.last_block):
                raise tarfile.ReadError("it is cut short")
    except DAMAGE as error:
        raise InputError(f"{path} cannot be read as an archive: {_line(error)}") from error


def _tar_members(archive: tarfile.TarFile, path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[Member]:
    while (info := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # which would be kept, all of them
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


class _BoundedInfo(tarfile.TarInfo):
    """A member whose long names are bounded before they are read."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo | None:
        # tarfile's own hook: there is no other between a header and the reading of the name that it announces.
        if not self.isreg() and self.type not in _EMPTY and self.size > MAX_HEADER:
            raise ValueError(f"a header of {self.size:,} bytes")
        found: tarfile.TarInfo | None = super()._proc_member(archive)  # type: ignore[misc]
        return found


class _Bounded(io.RawIOBase):
    """A decompressed stream that ends in an error past some bytes."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, path: Path, most: int) -> None:
        self._stream = stream
        self._path = path
        self._most = most
        self._total = 0
        self.last_block = b""

    def read(self, size: int = -1) -> bytes:
        self._total += size
        _check_total(self._total, self._path, self._most)
        content = self._stream.read(size)
        self.last_block = (self.last_block + content)[-tarfile.BLOCKSIZE :]
        return content


def _safe_path(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name.lstrip("/"))
    if ".." in path.parts:
        raise InputError(f"{archive} has a member that climbs out of the archive, {name!r:.100}: pack it again")
    if len(name) > MAX_NAME or len(path.parts) > MAX_PARTS:
        raise InputError(f"{archive} has a member whose name is too long, {name!r:.100}: pack it again")
    return path


def _check_size(size: int, name: str, archive: Path) -> None:
    if not 0 <= size <= MAX_MEMBER_BYTES:
        raise InputError(f"{archive} has a file of {size:,} bytes, {name!r:.100}; the limit is {MAX_MEMBER_BYTES:,}")


def _check_total(total: int, archive: Path, most: int) -> None:
    if total > most:
        raise InputError(f"{archive} holds more than {most:,} bytes: unpack it and name the folder")


def _most_unpacked(size: int) -> int:
    return MAX_TIMES * size + MAX_BESIDES


def _line(error: BaseException) -> str:
    return f"{(str(error).splitlines() or [type(error).__name__])[0]:.200}"
