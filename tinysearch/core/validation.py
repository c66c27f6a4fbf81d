"""Pydantic's complaints as one line."""

from pydantic import ValidationError


def first_error(error: ValidationError) -> str:
    """One of pydantic's complaints as one line: field, what is wrong, what was given.

    Of a field that may be one of several types it is the complaint about the type that fits best: the deepest.
    """
    detail = max(error.errors(), key=lambda item: len(item["loc"]))
    where = ".".join(str(part) for part in detail["loc"] if str(part).replace("_", "").isalnum() and part != "Channels")
    message = detail["msg"].removeprefix("Value error, ")
    return f"{where or 'content':.200}: {message[0].lower()}{message[1:]}, not {detail['input']!r:.60}"
