"""Arrays of NumPy."""

import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .base import DIGITS, Make, Runs, of_bytes
from .zips import many_members, npz, patched


def _npy(
    shape: object, descr: str = "'|u1'", data: bytes = b"", order: str = "False", version: bytes = b"\1\0"
) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    return _npy_header(header.encode("latin-1") + b"\n", version) + data


def _npy_header(header: bytes, version: bytes = b"\1\0") -> bytes:
    size = struct.pack("<H" if version == b"\1\0" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header


def arrays() -> Iterator[tuple[str, Make]]:
    labels = _npy("(4,)", data=b"\0\1\0\1")
    pixels = _npy("(4, 8, 8)", data=b"\7" * 256)
    good = {"x_train.npy": pixels, "y_train.npy": labels, "x_test.npy": pixels, "y_test.npy": labels}

    def with_(x_train: bytes) -> Make:
        return npz(good | {"x_train.npy": x_train})

    for what, header in (
        ("nested 10,000 deep", b"(" * 10_000),
        ("nested 200 deep", b"{'descr': " + b"[" * 200),
        ("no dictionary", b"[1]\n"),
        ("a call", b"__import__('os').mkdir('/tmp/tinysearch-was-run')\n"),
        ("no text", b"\xff\xfe\n"),
        ("a NUL", b"{'descr': '\0'}\n"),
        ("empty", b""),
        ("5,000 digits", b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + DIGITS.encode() + b",), }\n"),
        ("60,000 bytes of minus signs", b"-" * 60_000 + b"1\n"),
        ("9,000 bytes of additions", b"1" + b"+1" * 4500 + b"\n"),
        ("missing keys", b"{'descr': '|u1'}\n"),
    ):
        yield f"header: {what}", with_(_npy_header(header))
    yield "header of 16 MB in version 2", with_(_npy_header(b" " * 16_000_000 + b"\n", b"\2\0"))
    yield "header of 2**32 bytes", with_(b"\x93NUMPY\2\0\xff\xff\xff\xff")
    yield "version 9", with_(_npy("(4, 8, 8)", version=b"\t\0"))
    for shape in ("(2**62,)", f"({2**62},)", f"({2**70},)", f"({2**32}, {2**32})", "(-1, 8, 8)", "(True, 8, 8)", "4"):
        yield f"shape {shape}", with_(_npy(shape, data=b"\0" * 256))
    yield "shape of a billion pixels without data", with_(_npy("(1000, 1000, 1000)"))
    yield "shape of 40 dimensions", with_(_npy("(1,) * 40", data=b"\0"))
    yield "shape of 40 dimensions, written out", with_(_npy(f"({'1, ' * 40})", data=b"\0"))
    yield "an empty image", with_(_npy("(4, 0, 8)"))
    yield "2 channels", with_(_npy("(4, 8, 8, 2)", data=b"\0" * 512))
    yield "channels first", with_(_npy("(4, 3, 8, 8)", data=b"\0" * 768))
    yield "one dimension", with_(_npy("(256,)", data=b"\0" * 256))
    yield "floats", with_(_npy("(4, 8, 8)", "'<f4'", b"\0" * 1024))
    yield "an oblong image a million wide", with_(_npy("(4, 1, 1000000)", data=b"\0" * 4_000_000))
    for descr in ("'|O'", "'<U1000000000'", "'|V99999999999'", "[('a', '|u1')]", "'nonsense'", "3", "None", "'<M8[D]'"):
        yield f"type {descr[:20]}", with_(_npy("(4, 8, 8)", descr, b"\0" * 256))
    yield "a type nested deep", with_(_npy("(4,)", "[('a', " * 60 + "'|u1'" + ")]" * 60, b"\0" * 4))
    yield "data cut short", with_(pixels[:-100])
    yield "data left over", with_(pixels + b"\0" * 1000)
    yield "a pickle", with_(_npy("(1,)", "'|O'", pickle.dumps([Runs()])))
    for value in ("'<i8'",):
        yield "labels of 2**62", npz(good | {"y_train.npy": _npy("(4,)", value, struct.pack("<4q", 0, 1, 2**62, 0))})
    yield "labels below 0", npz(good | {"y_train.npy": _npy("(4,)", "'|i1'", b"\xff\0\1\0")})
    yield "labels of uint64", npz(good | {"y_train.npy": _npy("(4,)", "'<u8'", struct.pack("<4Q", 0, 1, 2**63, 0))})
    yield "too few labels", npz(good | {"y_train.npy": _npy("(3,)", data=b"\0\1\0")})
    yield "one class", npz(good | {"y_train.npy": _npy("(4,)", data=b"\0" * 4)})
    yield (
        "a million classes",
        npz(
            {
                f"{key}_{split}.npy": value
                for split in ("train", "test")
                for key, value in (
                    ("x", _npy("(1000000, 1, 1)", data=b"\0" * 1_000_000)),
                    ("y", _npy("(1000000,)", "'<i4'", np.arange(1_000_000, dtype="<i4").tobytes())),
                )
            }
        ),
    )
    yield "lacks an array", npz({"x_train.npy": pixels})
    yield "arrays named otherwise", npz({key.removesuffix(".npy"): value for key, value in good.items()})
    yield "encrypted", patched(npz(good), 8, 6, b"\1\0")
    yield "method 99", patched(npz(good), 10, 8, b"\x63\0")
    yield "lzma", npz(good, zipfile.ZIP_LZMA)
    yield "lzma, damaged", patched(npz(good, zipfile.ZIP_LZMA), -1, 45, b"\xff" * 8)
    yield "bzip2", npz(good, zipfile.ZIP_BZIP2)
    yield "sizes of 2**32 - 1", patched(npz(good), 20, 18, b"\xff" * 8)
    yield "an offset of 2**32 - 1", patched(npz(good), 42, -1, b"\xff" * 4)
    yield "a name of 65,535 bytes", patched(npz(good), 28, 26, b"\xff\xff")
    yield "a checksum that is wrong", patched(npz(good), 16, 14, b"\0" * 4)
    yield "an array twice", _twice(good)
    yield "a bomb of 3 GB of pixels", _npz_bomb(3_000_000_000)
    yield "a bomb of 700 MB of pixels", _npz_bomb(700_000_000)
    yield "a bomb of one image of 300 megapixels", _npz_bomb(600_000_000, count=2)
    yield "a bomb whose sizes lie", _npz_bomb(3_000_000_000, lies=True)
    yield "200,000 members", many_members
    yield "a bomb of 1 GB in a member of its own", _npz_and_bomb(good)
    yield "a zip within a comment", lambda path: (npz(good)(path), path.open("ab").write(b"PK\5\6" + b"\0" * 18))
    yield "no zip", of_bytes(b"PK\3\4" + b"\0" * 100)


def _twice(good: dict[str, bytes]) -> Make:
    import warnings

    def make(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in [*good.items(), ("x_train.npy", b"junk")]:
                    archive.writestr(name, data)

    return make


def _npz_bomb(size: int, count: int = 1000, lies: bool = False) -> Make:
    side = size // count
    header = _npy(f"({count}, {side // 1000}, 1000)")
    labels = _npy(f"({count},)", data=bytes(n % 2 for n in range(count)))
    small = _npy("(2, 8, 8)", data=b"\0" * 128)

    def make(path: Path) -> None:
        block = b"\0" * 1_000_000
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            with archive.open("x_train.npy", "w", force_zip64=True) as file:
                file.write(header)
                for _ in range(size // len(block)):
                    file.write(block)
            archive.writestr("y_train.npy", labels)
            archive.writestr("x_test.npy", small)
            archive.writestr("y_test.npy", _npy("(2,)", data=b"\0\1"))

    return patched(make, 24, -1, struct.pack("<I", 1000)) if lies else make


def _npz_and_bomb(good: dict[str, bytes]) -> Make:
    def make(path: Path) -> None:
        block = b"\0" * 1_000_000
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, data in good.items():
                archive.writestr(name, data)
            with archive.open("more.npy", "w", force_zip64=True) as file:
                for _ in range(1000):
                    file.write(block)

    return make
