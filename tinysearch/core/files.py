"""Files: those that users hand in are read bounded in size and never executed; ours are written whole or not at all."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from .errors import InputError, MissingDataError

#: Largest text file read, in bytes; policies and profiles are a few kilobytes.
MAX_TEXT = 16 * 2**20
#: What names of unfinished files start with; a killed process may leave one behind.
TEMPORARY = ".unfinished-"


def cache_folder() -> Path:
    """Where this machine keeps what can be had again: `$TINYSEARCH_CACHE`, or the user's folder for caches."""
    import pooch

    return Path(os.environ.get("TINYSEARCH_CACHE") or pooch.os_cache("tinysearch"))


@contextmanager
def open_bounded(path: Path, most: int) -> Iterator[BufferedReader]:
    """Open a regular file of at most `most` bytes for reading: the one way to what users hand in.

    What else may lie at a path is refused unopened: a FIFO would be waited for without end, a device never ends, and
    to open one may do something. The size is bounded before anything is read.

    Raises:
        InputError: It does not exist, is no regular file, or is too large.
    """
    try:
        _require_regular(path, path.stat())
        # It may have been replaced since: not to wait for a FIFO, and to look again at what was opened.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        reason = "no such file" if missing else (getattr(error, "strerror", None) or "a name that no file has")
        raise InputError(f"{path}: {reason}") from error
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        _require_regular(path, status)
        if status.st_size > most:
            raise InputError(f"{path}: {status.st_size} bytes is more than the {most} that such a file may have")
        yield stream


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a FIFO, a device or the like"
        raise InputError(f"{path}: is {kind}, not a file")


def read_text(path: Path) -> str:
    """Read a UTF-8 text file of at most `MAX_TEXT` bytes.

    Raises:
        InputError: It does not exist, is no regular file, is too large, or is no UTF-8 text.
    """
    data = read_bytes(path, MAX_TEXT)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file (byte {error.start} is no UTF-8)") from error


def read_bytes(path: Path, most: int) -> bytes:
    """Read a file of at most `most` bytes.

    Raises:
        InputError: It does not exist, is no regular file, or is too large.
    """
    with open_bounded(path, most) as stream:
        data = stream.read(most + 1)  # it may grow meanwhile
    if len(data) > most:
        raise InputError(f"{path}: more than the {most} bytes that such a file may have")
    return data


def require_file(path: Path, noun: str) -> None:
    """Refuse a file that is not there.

    Raises:
        MissingDataError: There is none.
    """
    if not path.exists():
        raise MissingDataError(f"no {noun} at {path}")


def check_output(path: Path, ending: str) -> None:
    """Refuse a name that a file cannot be written to, before anything is computed.

    Raises:
        InputError: It ends otherwise, or its folder is missing.
    """
    if path.suffix != ending:
        raise InputError(f"{path}: a {ending[1:]} file is written: let its name end in {ending}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")


def temporary_path(path: Path) -> Path:
    """Where this process prepares a file: in the same folder, so that a rename finishes it."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write a file whole or not at all, durably, in place of one that may be there.

    Args:
        path: The file; its folder must exist. Of a symbolic link what it leads to is replaced.
        content: Text, which is written as UTF-8, or bytes.

    Returns:
        The path.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    temporary = temporary_path(target)
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        move_durably(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def move_durably(source: Path, target: Path) -> None:
    """Rename a file within its folder and flush the folder, so that the name survives a power cut."""
    source.replace(target)
    # Windows cannot open a folder; its renames are journalled.
    with suppress(PermissionError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
