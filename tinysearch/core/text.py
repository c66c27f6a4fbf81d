"""Names that others have given, put where they could do more than be read: terminals, pictures, generated files."""

import re
import unicodedata

#: What ends a comment of C or begins one within it, and what joins lines.
_COMMENT = re.compile(r"\*(?=/)|/(?=\*)|\\|\?(?=\?)")
#: What Markdown, and HTML within it, takes for more than text.
_MARKUP = re.compile(r"[`<>\[\]|$]")
#: What turns the direction of writing.
_DIRECTION = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def printable(text: str, *, lines: bool = False) -> str:
    r"""A text without what moves a terminal's cursor, colours, ends lines or turns the direction of writing.

    Args:
        text: Any text; halves of pairs, as of file names that are no text, are written out too.
        lines: Whether ends of lines stay.

    Example:
        >>> printable("a\x1b[2Jb\n")
        'a\\u001b[2Jb\\u000a'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if not _is_odd(char) or (lines and char == "\n") else f"\\u{ord(char):04x}"  # as JSON has it
        for char in text
    )


def in_comment(text: str) -> str:
    r"""A text that stays in a comment of C, on its line.

    Example:
        >>> in_comment("layer*/ system();")
        'layer\\u002a/ system();'
    """
    return printable(_COMMENT.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def in_markdown(text: str) -> str:
    """A text that is nothing but text in Markdown, and in a comment of C."""
    return _MARKUP.sub(lambda found: f"\\u{ord(found[0]):04x}", in_comment(text))


def _is_odd(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in _DIRECTION
