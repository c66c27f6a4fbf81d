"""Zip files, with what may be wrong with any of them."""

import struct
import zipfile
from pathlib import Path

from .base import Make


def zip_bomb(names: list[str], size: int) -> Make:
    def make(path: Path) -> None:
        block = b"\0" * 1_000_000
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name in names:
                with archive.open(name, "w", force_zip64=True) as file:
                    for _ in range(size // len(block)):
                        file.write(block)

    return make


def zip_lies(names: list[str], size: int) -> Make:
    """A zip whose directory says that everything in it is small."""

    def make(path: Path) -> None:
        zip_bomb(names, size)(path)
        data = bytearray(path.read_bytes())
        place = 0
        while (place := data.find(b"PK\1\2", place)) >= 0:
            struct.pack_into("<I", data, place + 24, 1000)
            place += 4
        path.write_bytes(data)

    return make


def npz(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Make:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return make


def patched(make: Make, place: int, local: int, value: bytes) -> Make:
    """A zip with a field changed in its directory, at `place`, and in its local headers, at `local`."""

    def patched(path: Path) -> None:
        make(path)
        data = bytearray(path.read_bytes())
        for mark, offset in ((b"PK\1\2", place), (b"PK\3\4", local)):
            at = 0
            while offset >= 0 and (at := data.find(mark, at)) >= 0:
                data[at + offset : at + offset + len(value)] = value
                at += 4
        path.write_bytes(data)

    return patched


def many_members(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(200_000):
            archive.writestr(f"{number}", b"")
