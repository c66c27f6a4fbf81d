"""Images, and the folders that they lie in."""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from .base import DIGITS, Make
from .texts import places


def _png(width: int, height: int, rows: bytes | None = None, extra: bytes = b"", kind: int = 2) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = zlib.compress(rows if rows is not None else (b"\0" + b"\7" * 3 * width) * height, 9)
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _big_png(width: int, height: int) -> bytes:
    """As `_png`, grey, without holding its pixels."""
    packer = zlib.compressobj(9)
    row = b"\0" + b"\7" * width
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


SMALL = _png(8, 8)


def _text_bomb() -> bytes:
    data = b"a\0\0" + zlib.compress(b"\0" * 500_000_000, 9)
    return struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))


def images() -> Iterator[tuple[str, Make]]:
    def folder(content: bytes | Make, name: str = "0.png") -> Make:
        def make(path: Path) -> None:
            for group in "ab":
                (path / group).mkdir(parents=True)
                for number in range(3):
                    (path / group / f"{number}.png").write_bytes(SMALL)
            odd = path / "a" / name
            odd.unlink(missing_ok=True)
            if isinstance(content, bytes):
                odd.write_bytes(content)
            else:
                content(odd)

        return make

    for what, place in places():
        if what != "a folder":
            yield f"an image that is {what}", folder(place)
    for width, height in ((8000, 8000), (2**31 - 1, 1), (30_000, 30_000), (60_000_000, 1)):
        yield f"{width} x {height} pixels, no data", folder(_png(width, height, b""))
    yield "64 megapixels of one colour", folder(lambda path: path.write_bytes(_big_png(8000, 8000)))
    yield "64 megapixels, wide", folder(lambda path: path.write_bytes(_big_png(64_000_000, 1)))
    yield "24 megapixels of one colour", folder(lambda path: path.write_bytes(_big_png(6000, 4000)))
    yield "a compressed text of 500 MB", folder(lambda path: path.write_bytes(_png(8, 8, extra=_text_bomb())))
    yield "a JPEG that is none", folder(b"\xff\xd8\xff\xe0" + b"\0" * 1000, "0.jpg")
    yield "an EPS", folder(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "0.png")
    yield "a PPM of 2**31 pixels", folder(b"P6 99999 99999 255\n" + b"\0" * 100, "0.ppm")
    yield "a PPM of 5,000 digits", folder(b"P6 " + DIGITS.encode() + b" 1 255\n", "0.ppm")
    yield "a PPM of comments", folder(b"P6 " + b"#\n" * 5_000_000, "0.ppm")
    yield "a PPM of 16 bits", folder(b"P6 8 8 65535\n" + b"\0" * 384, "0.ppm")
    yield (
        "a BMP of -1 pixels",
        folder(b"BM" + struct.pack("<IHHIIiiHHIIIIII", 100, 0, 0, 54, 40, -1, -1, 1, 24, 0, 0, 0, 0, 0, 0), "0.bmp"),
    )
    yield (
        "a TIFF of 65,535 entries",
        folder(b"II*\0\x08\0\0\0\xff\xff" + b"\0\1\4\0\xff\xff\xff\x7f\0\0\0\0" * 65_535, "0.tif"),
    )
    yield "a TIFF whose pages are a circle", folder(b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "0.tif")
    yield (
        "a GIF of 65,535 x 65,535",
        folder(b"GIF89a\xff\xff\xff\xff\x80\0\0" + b"\0" * 6 + b",\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;", "0.gif"),
    )
    yield (
        "a GIF of many frames",
        folder(
            b"GIF89a\x08\0\x08\0\x80\0\0" + b"\0" * 6 + b",\0\0\0\0\x08\0\x08\0\0\2\2L\1\0" * 50_000 + b";", "0.gif"
        ),
    )
    yield (
        "EXIF of nonsense",
        folder(_png(8, 8, extra=struct.pack(">I", 12) + b"eXIfII*\0\x08\0\0\0\xff\xff\xff\xff" + b"\0" * 4)),
    )
    yield "no class folders", lambda path: (path.mkdir(), [(path / f"{n}.png").write_bytes(SMALL) for n in range(4)])
    yield "class folders and loose images", lambda path: (folder(SMALL)(path), (path / "loose.png").write_bytes(SMALL))
    yield "nothing in it", lambda path: path.mkdir()
    yield (
        "links in a circle",
        lambda path: (folder(SMALL)(path), (path / "a" / "up").symlink_to(path), (path / "b" / "up").symlink_to(path)),
    )
    yield "two folders that link to each other", _crossed
    yield "20 links to the folder above each in the next", _link_bomb
    yield "folders nested 400 deep", _deep
    yield "names that are no text", _odd_names
    yield (
        "names with control characters",
        lambda path: (
            folder(SMALL)(path),
            (path / "a\x1b[2J\n[red]").mkdir(),
            [(path / "a\x1b[2J\n[red]" / f"{n}\n.png").write_bytes(b"junk") for n in range(3)],
        ),
    )
    yield "a class folder that is a link to /dev", lambda path: (folder(SMALL)(path), (path / "c").symlink_to("/dev"))
    yield "a class folder that is a link to /", lambda path: (folder(SMALL)(path), (path / "c").symlink_to("/"))
    yield (
        "one class",
        lambda path: (
            path.mkdir(),
            (path / "a").mkdir(),
            [(path / "a" / f"{n}.png").write_bytes(SMALL) for n in range(4)],
        ),
    )


def _crossed(path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (path / name).mkdir(parents=True)
        (path / name / "0.png").write_bytes(SMALL)
        (path / name / "1.png").write_bytes(SMALL)
        (path / name / "other").symlink_to(path / other)


def _link_bomb(path: Path) -> None:
    """Two links in each of 20 folders to the next: a million ways to the last."""
    for level in range(20):
        (path / f"a{level}").mkdir(parents=True)
    for level in range(19):
        for name in "xy":
            (path / f"a{level}" / name).symlink_to(path / f"a{level + 1}")
    for number in range(2):
        (path / "a19" / f"{number}.png").write_bytes(SMALL)


def _deep(path: Path) -> None:
    inner = path
    path.mkdir()
    for _ in range(400):
        inner = inner / "aaaa"
    inner.mkdir(parents=True)
    (inner / "0.png").write_bytes(SMALL)


def _odd_names(path: Path) -> None:
    for group in (b"a", b"\xff\xfe"):
        folder = path / os.fsdecode(group)
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / os.fsdecode(b"\xfe%d.png" % number)).write_bytes(b"junk")
