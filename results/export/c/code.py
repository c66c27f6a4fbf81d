"""Lines of C: comments and calls, wrapped as one would by hand."""

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
        self.lines += ["", *_wrap(f"/* {text} */", self.indent, "   ")]

    def section(self, text: str) -> None:
        """A heading in front of several operations."""
        self.lines += ["", f"{self.indent}/* ---- {text} {'-' * max(0, WIDTH - len(self.indent) - len(text) - 12)} */"]

    def call(self, function: str, *arguments: str | int) -> None:
        """The call of a function."""
        self.line(f"{function}({', '.join(map(str, arguments))});")

    def line(self, text: str) -> None:
        """Any statement."""
        self.lines += _wrap(text, self.indent, "    ")

    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines).strip("\n")


def _wrap(text: str, indent: str, hanging: str) -> list[str]:
    indent += " " * (len(text) - len(text.lstrip(" ")))
    lines, line = [], indent
    for word in text.split():
        if len(line) + len(word) + 1 > WIDTH and line.strip():
            lines.append(line.rstrip())
            line = indent + hanging
        line += word + " "
    return [*lines, line.rstrip()]
