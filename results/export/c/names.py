"""Names of layers as C identifiers."""

import re
from collections.abc import Iterable

from ....core.errors import InputError

#: Words that C99 keeps for itself, and that no identifier may be.
KEYWORDS = frozenset(
    (
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
    )
)
#: Files of an export that are called the same whatever the program's name is.
FILES = frozenset(("main", "console", "console_host", "ts_kernels", "ts_port"))
#: Longest name of a program: identifiers are made of it and a layer's name.
LONGEST = 40


def identifier(text: str) -> str:
    """A text as a C identifier in lower case.

    Example:
        >>> identifier("mobilenetv2-w0.35")
        'mobilenetv2_w0_35'
        >>> identifier("5fps")
        'net_5fps'
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()
    return name if name and not name[0].isdigit() else f"net_{name}".rstrip("_")


def identifiers(texts: Iterable[str]) -> dict[str, str]:
    """Identifiers of layers, each another one; the image has the one that it is called by."""
    found: dict[str, str] = {}
    taken = {"image"}
    for text in texts:
        name = base = identifier(text)
        number = 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        found[text] = name
    return found


def program_name(stated: str | None, backbone: str) -> str:
    """The name that everything of a program begins with: the one asked for, or one made of the backbone's.

    Raises:
        InputError: What was asked for is no C identifier.
    """
    if stated is None:
        # Of a backbone of someone's own, package.module:function, the function.
        return identifier(backbone.rpartition(":")[2])[:LONGEST]
    if stated in FILES:
        raise InputError(f"name is {stated!r}, as which a file of every export is called: take another", "name")
    if not re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{LONGEST - 1}}}", stated) or stated in KEYWORDS:
        raise InputError(
            f"name is {stated!r}: it must be a C identifier of at most {LONGEST} letters, digits and underscores that "
            "begins with a letter",
            "name",
        )
    return stated
