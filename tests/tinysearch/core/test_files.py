"""Files are written whole or not at all, and read within bounds."""

import os
from pathlib import Path

import pytest

from tinysearch.core import files
from tinysearch.core.errors import InputError
from tinysearch.core.files import read_bytes, read_text, write_atomically


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content in ("ünï", b"\x00\xff", ""):
        assert write_atomically(path, content) == path
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_what_fails_leaves_the_old_file_and_nothing_else(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(*arguments: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "there" / "a.txt")
    write_atomically(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "there" / "a.txt").read_text() == "new"


def test_what_is_too_large_or_no_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff12")
    with pytest.raises(InputError, match="no UTF-8"):
        read_text(path)
    monkeypatch.setattr(files, "MAX_TEXT", 2)
    with pytest.raises(InputError, match="3 bytes is more than the 2"):
        read_text(path)
    with pytest.raises(InputError, match="is a folder"):
        read_bytes(tmp_path, 1)


def test_files_are_written_nowhere_else() -> None:
    """Every file that is kept goes through `write_atomically`, but for what runs alone on a board."""
    root = Path(__file__).resolve().parents[3]
    floors = ("tinysearch", "spaces", "devices", "results", "search")
    sources = [path for floor in floors for path in (root / floor).rglob("*.py") if path.parent.name != "testing"]
    calls = (".write_text(", ".write_bytes(", '.open("w')
    writing = {path.relative_to(root).as_posix() for path in sources if any(call in path.read_text() for call in calls)}
    assert writing == {"tinysearch/core/files.py", "devices/calibrate/machine.py"}


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # which would be waited for
    (tmp_path / "device").symlink_to("/dev/zero")  # which never ends
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name, said in {
        "fifo": "is a FIFO, a device or the like",
        "device": "is a FIFO, a device or the like",
        "circle": "levels of symbolic links",
        "none": "no such file",
        "a\0b": "a name that no file has",
    }.items():
        with pytest.raises(InputError, match=said):
            read_bytes(tmp_path / name, 100)


def test_a_file_that_is_replaced_by_a_fifo_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    status = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: status)
    with pytest.raises(InputError, match="is a FIFO"):
        read_bytes(path, 100)


def test_a_link_in_a_circle_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "circle"
    path.symlink_to(path)
    write_atomically(path, "new")
    assert path.read_text() == "new"
