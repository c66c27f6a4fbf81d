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
    data = read_bytes(path, MAX_TEXT)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file (byte {error.start} is no UTF-8)") from error


def read_bytes(path: Path, most: int) -> bytes:
    """Read a file of at most `most` bytes.

    Raises:
        InputError: It does not exist, is no file, or is too large.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'no such file'}")
    if (size := path.stat().st_size) > most:
        raise InputError(f"{path}: {size} bytes is more than the {most} that such a file may have")
    return path.read_bytes()
