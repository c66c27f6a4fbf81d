"""The errors that a user can cause, each with its own exit code.

The command line prints the message of a `TinySearchError` as one line and exits with its code.
A message says what is wrong, where, and what to do.
"""

import re
from collections.abc import Callable
from typing import ClassVar

from .text import printable


class TinySearchError(Exception):
    """Base of every error that is the caller's to mend.

    Args:
        message: One line. It calls options as Python's functions do: "raise max_memory".
        *options: The options that the message names, which the command line writes in its own way; with a value where
            the message has one, as "weights=FILE".

    Example:
        >>> error = InputError("nothing fits: raise max_memory", "max_memory")
        >>> print(error)
        nothing fits: raise max_memory
        >>> error.told(lambda option: f"--{option.replace('_', '-')}")
        'nothing fits: raise --max-memory'
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *options: str) -> None:
        super().__init__(message, *options)
        self.options = options

    def __str__(self) -> str:
        return printable(str(self.args[0]))  # a line, whatever names of others are in it

    def told(self, write: Callable[[str], str]) -> str:
        """The message with its options written in another way.

        Of an option's name the last place counts: a message ends with what to do, and may begin with a path or a word
        that holds the same letters.
        """
        text = str(self)
        for option in self.options:
            places = list(re.finditer(rf"(?<![\w-]){re.escape(option)}(?!\w)", text))
            if places:
                text = text[: places[-1].start()] + write(option) + text[places[-1].end() :]
        return text


class InputError(TinySearchError):
    """A value, option or file is not what it should be."""

    exit_code = 3


class MissingDataError(TinySearchError):
    """Data or weights are not here and could not be fetched."""

    exit_code = 4


class BudgetError(TinySearchError):
    """No policy of the space fits the budget."""

    exit_code = 5


class ConflictError(TinySearchError):
    """Two things do not belong together: a run directory and a request, or a delta and a backbone."""

    exit_code = 6


class UnsupportedError(TinySearchError):
    """The backbone or policy asks for something that is not implemented."""

    exit_code = 7


class BusyError(TinySearchError):
    """Other programs run where something is to be timed."""

    exit_code = 8


class StorageError(TinySearchError):
    """What a run is kept in cannot be written, or not be read: a full disk, a folder without permission, damage."""

    exit_code = 9


class DifferenceError(TinySearchError):
    """What was done again did not come out as before."""

    exit_code = 10
