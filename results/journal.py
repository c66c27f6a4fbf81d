"""The append-only record of a run's finished work: a line for each trial, and for each that was scored again.

A database is one structure: where a page of it is damaged, what was finished long ago may be gone. A file that is only
ever added to can lose nothing but its end. So what is finished goes here first, and then into the study. Each line has
the checksum of what it holds: a line that was cut, or changed, is known for it and counts as missing.
"""

import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import SEEK_END, FileIO
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.files import open_bounded, write_atomically
from ..core.formats import Format, parse_json

#: What the first line says: of what space the trials are, and what they were for.
JOURNAL_FORMAT = Format("tinysearch.trials", 1, "record of trials")
#: What a line may hold.
TRIAL, RESCORE = "trial", "rescore"
#: Bytes of the file, and of a line; a trial has some ten thousand.
MAX_BYTES, MAX_LINE = 2 << 30, 4 << 20
#: A line: the checksum of what stands behind the kind, the kind, and that.
_LINE = re.compile(rb'\{"crc32":"([0-9a-f]{8})","(\w+)":(.*)\}')


@dataclass(frozen=True)
class Header:
    """What the trials of a run have in common.

    Attributes:
        genes: Number of values of each gene, in the order of an encoded policy.
        objectives: Names of the objectives, and whether small is good.
        version: Of the format that the file was written in.
    """

    genes: Mapping[str, int]
    objectives: Mapping[str, bool]
    version: int = JOURNAL_FORMAT.version


@dataclass(frozen=True)
class Journal:
    """What could be read of the record of a run.

    Attributes:
        header: What the trials have in common; None where that is damaged.
        trials: Trials as JSON values, in the order of the file.
        rescores: What was scored again, likewise.
        damaged: Lines that were there and could not be read.
        torn: Bytes at the end that are no whole line: what a process that was killed had begun to write.
    """

    header: Header | None
    trials: Sequence[dict[str, Any]] = ()
    rescores: Sequence[dict[str, Any]] = ()
    damaged: int = 0
    torn: int = 0

    @classmethod
    def read(cls, path: Path) -> "Journal":
        """Read what can be read of a file.

        Raises:
            InputError: The file cannot be read at all.
        """
        header: Header | None = None
        found: dict[str, list[dict[str, Any]]] = {TRIAL: [], RESCORE: []}
        damaged = torn = 0
        with open_bounded(path, MAX_BYTES) as stream:
            for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE), b"")):
                if not line.endswith(b"\n") and len(line) < MAX_LINE:
                    torn = len(line)
                elif number == 0:
                    header = _header(line)
                elif (entry := _entry(line)) is not None and entry[0] in found:
                    found[entry[0]].append(entry[1])
                else:
                    damaged += 1
        return cls(header, found[TRIAL], found[RESCORE], damaged, torn)


@dataclass
class JournalWriter:
    """Adds to the record of a run; one process may at a time.

    Attributes:
        path: The file.
    """

    path: Path
    _stream: FileIO | None = field(default=None, repr=False)
    _end: int = field(default=0, repr=False)  # of the last whole line

    @classmethod
    def create(cls, path: Path, header: Header, entries: Iterable[tuple[str, Mapping[str, Any]]]) -> "JournalWriter":
        """Write a file whole, in place of one that may be there.

        Args:
            path: The file.
            header: What the trials have in common.
            entries: What is known already: kinds and JSON values.
        """
        first = JOURNAL_FORMAT.text(
            {
                "genes": [[name, count] for name, count in header.genes.items()],
                "objectives": [[name, minimise] for name, minimise in header.objectives.items()],
            },
            compact=True,
        )
        write_atomically(path, b"".join([first.encode(), b"\n", *(_line(kind, values) for kind, values in entries)]))
        return cls(path)

    def add(self, kind: str, values: Mapping[str, Any]) -> None:
        """Add a line; once this returns it survives a kill and a power cut, and where it raises nothing was added.

        Args:
            kind: `TRIAL` or `RESCORE`.
            values: JSON values.

        Raises:
            OSError: The disk is full, or the like.
        """
        if self._stream is None:
            self._stream = self.path.open("r+b", buffering=0)
            self._end = _end_of_last_line(self._stream)
        # Not "append": where a process was killed in the middle of a line, that goes.
        self._stream.truncate(self._end)
        self._stream.seek(self._end)
        line = rest = _line(kind, values)
        try:
            while rest:  # a disk that is nearly full takes a part
                rest = rest[self._stream.write(rest) :]
            os.fsync(self._stream.fileno())
        except OSError:
            self._stream.truncate(self._end)
            raise
        self._end += len(line)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _line(kind: str, values: Mapping[str, Any]) -> bytes:
    content = json.dumps(dict(values), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return b'{"crc32":"%08x","%s":%s}\n' % (zlib.crc32(content), kind.encode(), content)


def _entry(line: bytes) -> tuple[str, dict[str, Any]] | None:
    """What a line holds; None of one that is damaged."""
    match = _LINE.fullmatch(line.rstrip(b"\n"))
    if match is None or int(match[1], 16) != zlib.crc32(match[3]):
        return None
    try:
        values = json.loads(match[3])
    except (ValueError, RecursionError):
        return None
    # What is nested takes many times its own size of memory, and no trial is.
    if not isinstance(values, dict) or any(isinstance(value, dict) or _nested(value) for value in values.values()):
        return None
    return match[2].decode(), values


def _nested(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)


def _header(line: bytes) -> Header | None:
    try:
        content, version = JOURNAL_FORMAT.open(parse_json(line.decode(), "first line"), "first line")
        genes = {str(name): int(count) for name, count in content["genes"]}
        objectives = {str(name): bool(minimise) for name, minimise in content["objectives"]}
        return Header(genes, objectives, version)
    except (InputError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        return None


def _end_of_last_line(stream: FileIO) -> int:
    """Where the last whole line ends."""
    end = stream.seek(0, SEEK_END)
    while end > 0:
        begin = max(0, end - 2**16)
        stream.seek(begin)
        place = stream.read(end - begin).rfind(b"\n")
        if place >= 0:
            return begin + place + 1
        end = begin
    return 0
