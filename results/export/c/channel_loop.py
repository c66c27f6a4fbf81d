"""Loops over a few channels at a time in the generated code, forward and backward alike."""

from collections.abc import Mapping

from ....core.text import in_comment
from .code import Code

#: In the generated code, the channels of a pass, and the first and the number of them.
SOME, FIRST, COUNT = "some", "some.first", "some.count"


def some(pointer: str, each: int) -> str:
    """Of what has `each` values a channel, those of the channels that run."""
    return f"{pointer} + {FIRST} * {each}" if each != 1 else f"{pointer} + {FIRST}"


def open_loop(code: Code, channels: int, step: int, places: Mapping[str, tuple[str, str]]) -> None:
    """Begin a loop; `Code.close` twice ends it.

    Args:
        code: Where it is written.
        channels: All of them.
        step: How many run at a time.
        places: By name, where maps of the channels that run lie, and of which layer they are.
    """
    code.open()
    for name, (place, layer) in places.items():
        code.line(f"float *const {name} = {place}; /* of {in_comment(layer)} */")
    count = f"{step}" if channels % step == 0 else f"{channels} - c < {step} ? {channels} - c : {step}"
    code.line(f"for (int c = 0; c < {channels}; c += {step}) {{")
    code.indent += "    "
    code.line(f"const ts_range {SOME} = {{c, {count}}};")
