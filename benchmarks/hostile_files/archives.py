"""Archives of images: zip, tar and gzip."""

import bz2
import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .base import DIGITS, ODD_TEXT, Make
from .images import SMALL
from .zips import many_members, npz, patched, zip_bomb, zip_lies


def archives() -> Iterator[tuple[str, str, Make]]:
    good = {f"{c}/{n}.png": SMALL for c in "ab" for n in range(3)}

    def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Make:
        return npz(members, method)

    def tarred(edit: Callable[[tarfile.TarInfo], object] = lambda info: None, mode: str = "w", **more: Any) -> Make:
        def make(path: Path) -> None:
            with tarfile.open(path, mode, **more) as archive:
                for name, data in good.items():
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    edit(info)
                    archive.addfile(info, io.BytesIO(data))

        return make

    def renamed(name: str) -> Make:
        return tarred(lambda info: setattr(info, "name", name))

    for ending, packed in (("a.zip", zipped), ("a.tar", None)):
        for name in (
            "../x.png",
            "/etc/x.png",
            "a/../../x.png",
            "x.png",
            "a/" * 2000 + "x.png",
            "a/\0.png",
            ODD_TEXT + "/x.png",
        ):
            make = zipped({name: SMALL}) if packed else renamed(name)
            yield ending, f"a member named {ascii(name)[:30]}", make
    yield "a.zip", "encrypted", patched(zipped(good), 8, 6, b"\1\0")
    yield "a.zip", "method 99", patched(zipped(good), 10, 8, b"\x63\0")
    yield "a.zip", "sizes of 2**32 - 1", patched(zipped(good), 20, 18, b"\xff" * 8)
    yield "a.zip", "an offset of 2**32 - 1", patched(zipped(good), 42, -1, b"\xff" * 4)
    yield "a.zip", "lzma, damaged", patched(zipped(good, zipfile.ZIP_LZMA), -1, 45, b"\xff" * 8)
    yield (
        "a.zip",
        "a bomb of 60 members of 45 MB",
        zip_bomb([f"{c}/{n}.png" for c in "ab" for n in range(30)], 45_000_000),
    )
    yield (
        "a.zip",
        "a bomb of 20 members of 45 MB",
        zip_bomb([f"{c}/{n}.png" for c in "ab" for n in range(10)], 45_000_000),
    )
    yield "a.zip", "a member of 3 GB", zip_bomb(["a/0.png"], 3_000_000_000)
    yield "a.zip", "a member of 3 GB whose size lies", zip_lies(["a/0.png", "b/0.png"], 3_000_000_000)
    yield "a.zip", "200,000 members", many_members
    yield "a.zip", "200,000 images", _many_images
    yield "a.zip", "overlapping members", _overlapping
    yield "a.zip", "links", _zip_links
    yield (
        "a.tar",
        "links",
        tarred(lambda info: (setattr(info, "type", tarfile.SYMTYPE), setattr(info, "linkname", "/dev/zero"))),
    )
    yield (
        "a.tar",
        "hard links",
        tarred(lambda info: (setattr(info, "type", tarfile.LNKTYPE), setattr(info, "linkname", info.name))),
    )
    yield "a.tar", "devices", tarred(lambda info: setattr(info, "type", tarfile.CHRTYPE))
    yield "a.tar", "FIFOs", tarred(lambda info: setattr(info, "type", tarfile.FIFOTYPE))
    yield "a.tar", "a size of 2**60", _tar_size(2**60)
    yield "a.tar", "a negative size", _tar_size(-1000)
    yield "a.tar", "a long name of 1 GB", _long_name
    yield "a.tar", "PAX headers of 5,000 digits", tarred(format=tarfile.PAX_FORMAT, pax_headers={"size": DIGITS})
    yield (
        "a.tar",
        "PAX headers of nonsense",
        tarred(format=tarfile.PAX_FORMAT, pax_headers={"path": "\ud800" if False else "x/y.png", "mtime": "nan"}),
    )
    yield "a.tar", "sparse", _sparse
    yield "a.tar", "cut short", _cut(tarred())
    yield "a.tar.gz", "cut short", _cut(tarred(mode="w:gz"))
    yield "a.tar.gz", "a bomb of 3 GB", _tar_bomb(3_000_000_000)
    yield "a.tar.gz", "a bomb of 900 MB", _tar_bomb(900_000_000)
    yield "a.tar.gz", "10 GB of zeros behind the end", _gzip_zeros
    yield "a.tar.gz", "bzip2", lambda path: path.write_bytes(bz2.compress(b"\0" * 10_240))
    yield "a.tar.gz", "400,000 empty members", _many_tar


def _many_images(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(200_000):
            archive.writestr(f"{number % 2}/{number}.png", b"")


def _overlapping(path: Path) -> None:
    """A zip whose directory names one member 20,000 times."""
    inner = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = b"\0" * 1_000_000
    data = inner.compress(content) + inner.flush()
    check = zlib.crc32(content)
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, check, len(data), len(content), 7, 0) + b"a/0.png"
    directory = b""
    for number in range(20_000):
        name = f"{'ab'[number % 2]}/{number}.png".encode()
        fields = (0x02014B50, 20, 20, 0, 8, 0, 0, check, len(data), len(content), len(name), 0, 0, 0, 0, 0, 0)
        directory += struct.pack("<IHHHHHHIIIHHHHHII", *fields) + name
    start = len(local) + len(data)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 20_000, 20_000, len(directory), start, 0)
    path.write_bytes(local + data + directory + end)


def _zip_links(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/0.png", "b/0.png", "a/1.png", "b/1.png"):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/dev/zero")


def _tar_size(size: int) -> Make:
    def make(path: Path) -> None:
        info = tarfile.TarInfo("a/0.png")
        info.size = size
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 2048)

    return make


def _long_name(path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1_000_000_000
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1_000_001_024)


def _sparse(path: Path) -> None:
    info = tarfile.TarInfo("a/0.png")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    data = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    data[386:398], data[398:410] = b"00000000000\0", b"00000001000\0"
    data[482:483] = b"\1"
    data[483:495] = b"77777777777\0"
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    # The extended map points to itself without end.
    path.write_bytes(bytes(data) + (b"00000000000\0" * 42 + b"\1" + b"\0" * 7) * 2000)


def _cut(make: Make) -> Make:
    def cut(path: Path) -> None:
        make(path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])

    return cut


def _tar_bomb(size: int) -> Make:
    def make(path: Path) -> None:
        block = b"\0" * 1_000_000
        with gzip.open(path, "wb", 9) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
            for number in range(size // 45_000_000):
                info = tarfile.TarInfo(f"{'ab'[number % 2]}/{number}.png")
                info.size = 45_000_000
                archive.addfile(info, _Blocks(block))

    return make


class _Blocks(io.RawIOBase):
    def __init__(self, block: bytes) -> None:
        self._block = block

    def read(self, size: int = -1) -> bytes:
        return self._block[:size]


def _gzip_zeros(path: Path) -> None:
    block = b"\0" * 10_000_000
    with gzip.open(path, "wb", 9) as file:
        with tarfile.open(fileobj=file, mode="w|") as archive:
            for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
                info = tarfile.TarInfo(name)
                info.size = len(SMALL)
                archive.addfile(info, io.BytesIO(SMALL))
        for _ in range(300):
            file.write(block)


def _many_tar(path: Path) -> None:
    with gzip.open(path, "wb", 1) as file:
        for number in range(400_000):
            file.write(_named(number))
        file.write(b"\0" * 1024)


_HEADER = bytearray(tarfile.TarInfo("a/0000000.png").tobuf(tarfile.USTAR_FORMAT))


def _named(number: int) -> bytes:
    header = bytearray(_HEADER)
    header[2:9] = f"{number:07}".encode()
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)
