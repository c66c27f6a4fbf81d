"""Zip and tar files are refused by what they say, before they are unpacked."""

import io
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest

from tinysearch.core import archives
from tinysearch.core.archives import check_zip, read_archive
from tinysearch.core.errors import InputError


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytearray:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return bytearray(stream.getvalue())


def check(data: bytes, most: int = 1_000_000) -> None:
    check_zip(io.BytesIO(data), most, "a.zip")


def test_a_plain_one_is_fine() -> None:
    check(zipped({"a": b"1", "b": b"2"}))
    check(zipped({}))


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_methods_whose_readers_take_memory_as_the_file_says_are_refused(method: int) -> None:
    with pytest.raises(InputError, match="is packed by method"):
        check(zipped({"a": b"1" * 100}, method))


def test_what_is_encrypted_is_refused() -> None:
    data = zipped({"a": b"1"})
    place = data.find(b"PK\1\2")
    data[place + 8] = 1
    with pytest.raises(InputError, match="encrypted"):
        check(data)


def test_bombs_are_refused_by_their_directory() -> None:
    with pytest.raises(InputError, match="unpacks to 20,000,000 bytes; the limit is 1,000,000"):
        check(zipped({"a": bytes(20_000_000)}, zipfile.ZIP_DEFLATED))
    with pytest.raises(InputError, match=r"unpacks to 20,000,000 bytes; the limit is 1[0-9],"):
        check(zipped({"a": bytes(20_000_000)}, zipfile.ZIP_DEFLATED), most=1 << 40)


def test_two_of_a_name_and_members_in_one_another_are_refused() -> None:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(InputError, match="two members named 'a'"):
        check(stream.getvalue())
    data = zipped({"a": b"1" * 1000, "b": b"2" * 1000})
    second = data.rfind(b"PK\1\2")
    struct.pack_into("<I", data, second + 42, 0)
    with pytest.raises(InputError, match="lie in one another"):
        check(data)


def test_a_directory_that_is_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    with pytest.raises(InputError, match="has 2 members in a directory"):
        check(zipped({"a": b"", "b": b""}))


def test_the_directory_of_a_64_bit_file_is_bounded_too() -> None:
    data = zipped({"a": b""})
    end = data.rfind(b"PK\5\6")
    large = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, 1 << 50, 0)
    data[end:end] = large + struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    with pytest.raises(InputError, match="has 1,099,511,627,776 members in a directory"):
        check(data)


def test_long_names_of_a_tar_file_are_bounded_before_they_are_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 200_000
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(204_800))
    with pytest.raises(InputError, match="a header of 200,000 bytes"):
        list(read_archive(path, lambda path: True))


def test_a_compressed_tar_file_may_not_grow_without_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("a/0.png")
        info.size = 30_000_000
        archive.addfile(info, io.BytesIO(bytes(30_000_000)))
    with pytest.raises(InputError, match=r"holds more than 1[0-9],"):
        list(read_archive(path, lambda path: True))
