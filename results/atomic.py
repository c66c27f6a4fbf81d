"""Writing files so that a reader, or a run that was killed, never meets half of one."""

import os
from contextlib import suppress
from pathlib import Path

#: What names of unfinished files start with; a killed process may leave one behind.
TEMPORARY = ".unfinished-"


def temporary_path(path: Path) -> Path:
    """Where this process prepares a file: in the same folder, so that a rename finishes it."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write a file whole or not at all, durably, in place of one that may be there.

    Args:
        path: The file; its folder must exist.
        content: Text, which is written as UTF-8, or bytes.

    Returns:
        The path.
    """
    temporary = temporary_path(path)
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        move_durably(temporary, path)
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
