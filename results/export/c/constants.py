"""Arrays of numbers as C99 source: floats in hexadecimal, so that every bit arrives."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ....core.text import in_comment

#: Longest line of generated code.
WIDTH = 110


def hex_float(value: float) -> str:
    """A single-precision number as a C99 literal.

    Example:
        >>> hex_float(0.1), hex_float(-2.0), hex_float(0.0)
        ('0x1.99999ap-4f', '-0x1p+1f', '0.0f')
    """
    number = float(np.float32(value))
    if number == 0:
        return "0.0f" if not np.signbit(number) else "-0.0f"
    mantissa, _, exponent = number.hex().partition("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}f"


def wrapped(parts: Iterable[str], indent: str = "    ", width: int = WIDTH) -> str:
    """Parts behind one another, separated by commas, in lines of at most `width`."""
    lines: list[str] = []
    line = indent
    for part in parts:
        if len(line) + len(part) + 1 > width and line != indent:
            lines.append(line.rstrip())
            line = indent
        line += f"{part}, "
    return "\n".join([*lines, line.rstrip()])


class Constants:
    """The constant arrays of a program, each defined once.

    Args:
        prefix: What their names begin with.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._arrays: dict[str, tuple[str, str, npt.NDArray[Any]]] = {}

    def floats(self, name: str, values: npt.NDArray[Any], what: str) -> str:
        """Define an array of floats; the name to use it by."""
        return self._define(name, what, np.asarray(values, np.float32).ravel())

    def indices(self, name: str, values: npt.NDArray[Any], what: str) -> str:
        """Define an array of channel numbers."""
        return self._define(name, what, np.asarray(values, np.uint16).ravel())

    def _define(self, name: str, what: str, values: npt.NDArray[Any]) -> str:
        full = f"{self.prefix}_{name}"
        known = self._arrays.get(full)
        assert known is None or np.array_equal(known[2], values, equal_nan=True), full
        self._arrays[full] = (what, "float" if values.dtype == np.float32 else "uint16_t", values)
        return full

    @property
    def bytes(self) -> int:
        """What all of them take in flash."""
        return sum(values.nbytes for _, _, values in self._arrays.values())

    def declarations(self) -> str:
        """For a header."""
        lines = (f"extern const {kind} {name}[{len(values)}];" for name, (_, kind, values) in self._arrays.items())
        return "\n".join(lines)

    def definitions(self) -> Iterator[str]:
        """One after another."""
        for name, (what, kind, values) in self._arrays.items():
            texts = map(hex_float, values.tolist()) if kind == "float" else map(str, values.tolist())
            what = in_comment(what)
            yield f"/* {what} */\nconst {kind} {name}[{len(values)}] = {{\n{wrapped(texts).removesuffix(',')}\n}};\n"
