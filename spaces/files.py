"""Reading files that users hand in: bounded in size, decoded, never executed."""

from pathlib import Path

from .errors import InputError

#: Largest text file read, in bytes; policies and profiles are a few kilobytes.
MAX_TEXT = 16 * 2**20


def read_text(path: Path) -> str:
    """Read a UTF-8 text file of at most `MAX_TEXT` bytes.

    Raises:
        InputError: It does not exist, is no file, is too large, or is no UTF-8 text.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'no such file'}")
    if (size := path.stat().st_size) > MAX_TEXT:
        raise InputError(f"{path}: {size} bytes is more than the {MAX_TEXT} that such a file may have")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file (byte {error.start} is no UTF-8)") from error
