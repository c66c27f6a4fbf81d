"""Lines of C: comments and calls, wrapped as one would by hand."""

import re
from collections.abc import Iterable

from ....core.text import in_comment
from .constants import WIDTH


class Code:
    """The body of a C function, in the order of its lines.

    Args:
        indent: What its lines begin with.
    """

    def __init__(self, indent: str = "    ") -> None:
        self.indent = indent
        self.lines: list[str] = []

    def comment(self, text: str) -> None:
        """A comment in front of what follows."""
        self.lines += ["", *_wrap(f"/* {in_comment(text)} */", self.indent, "   ")]

    def section(self, text: str) -> None:
        """A heading in front of several operations."""
        text = in_comment(text)
        self.lines += ["", f"{self.indent}/* ---- {text} {'-' * max(0, WIDTH - len(self.indent) - len(text) - 12)} */"]

    def call(self, function: str, *arguments: str | int) -> None:
        """The call of a function; leading blanks of its name indent it further."""
        name = function.lstrip(" ")
        indent = self.indent + function[: len(function) - len(name)]
        texts = [str(argument) for argument in arguments]
        parts = [f"{text}," for text in texts[:-1]] + [f"{text});" for text in texts[-1:]]
        self.lines += _fill(f"{name}(", parts, indent, "    ")

    def line(self, text: str) -> None:
        """Any statement."""
        self.lines += _wrap(text, self.indent, "    ")

    def open(self) -> None:
        """Begin a block."""
        self.line("{")
        self.indent += "    "

    def close(self) -> None:
        """End a block."""
        self.indent = self.indent[:-4]
        self.line("}")

    def drop_unused(self, names: Iterable[str]) -> None:
        """Take out declarations, each a line, of names that no later line has."""
        for name in names:
            declared = max(n for n, line in enumerate(self.lines) if f"*const {name} =" in line)
            if not any(re.search(rf"\b{name}\b", line) for line in self.lines[declared + 1 :]):
                del self.lines[declared]

    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines).strip("\n")


def _wrap(text: str, indent: str, hanging: str) -> list[str]:
    first, *rest = text.split()
    return _fill(f"{first} ", rest, indent, hanging)


def _fill(start: str, parts: list[str], indent: str, hanging: str) -> list[str]:
    """Parts behind a start, in lines of at most `WIDTH`."""
    lines, line = [], indent + start
    for part in parts:
        if len(line) + len(part) > WIDTH and line.strip():
            lines.append(line.rstrip())
            line = indent + hanging
        line += f"{part} "
    return [*lines, line.rstrip()]
