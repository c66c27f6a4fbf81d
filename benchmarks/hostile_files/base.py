"""What a made-up file is, and what many of them are made of."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Lone half of a pair of UTF-16's, as JSON can write it.
SURROGATE = "\\ud800"


#: Text that moves the cursor, ends a line, turns the direction of writing and looks like markup.
ODD_TEXT = "a\u001b[2J\n\u202e$[red]*/\\"


DIGITS = "9" * 5000


@dataclass(frozen=True)
class Hostile:
    """A file that no reader may stumble over.

    Attributes:
        kind: What it claims to be.
        what: What is wrong with it.
        path: Where it lies.
    """

    kind: str
    what: str
    path: Path


@dataclass(frozen=True)
class Valid:
    """Files as TinySearch writes them, of which the made-up ones are variants.

    Attributes:
        run: The directory of a run.
        policy: The text of a policy with a partly trained weight, norms and a lite residual module.
        profile: The text of a device's profile.
        delta: The bytes of a delta.
        results: The text of a board's results.
    """

    run: Path
    policy: str
    profile: str
    delta: bytes
    results: str


Make = Callable[[Path], object]


def of_text(text: str | bytes) -> Make:
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def of_bytes(data: bytes) -> Make:
    return lambda path: path.write_bytes(data)


class Runs:
    """Would make a folder, were it unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("/tmp/tinysearch-was-run",)
