"""Trials, and what was scored again of them, as the JSON values that files hold, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..core.errors import InputError
from ..core.validation import first_error
from .journal import JOURNAL_FORMAT
from .records import Rescore, TrialRecord

Kind = TypeVar("Kind", TrialRecord, Rescore)


def values_of(record: TrialRecord | Rescore) -> dict[str, Any]:
    """The fields of a record but for those that are unknown."""
    return {key: value for key, value in asdict(record).items() if value is not None}


def trial_of(values: Mapping[str, Any], version: int, origin: str) -> TrialRecord:
    """The trial that a file holds.

    Args:
        values: Its fields as JSON values.
        version: Of the file's format; fields that only a newer one has are left out with a warning.
        origin: The file, for messages.

    Raises:
        InputError: A field is wrong; it is named.
    """
    what = f"trial {values.get('number')!s:.20}"
    trial = _read(TrialRecord, {"row": None, **values}, version, origin, what)
    if trial.state == "complete" and trial.accuracy is None:
        raise InputError(f"{origin}: {what}: is complete without an accuracy")
    return trial


def rescore_of(values: object, version: int, origin: str) -> Rescore:
    """As `trial_of`, of what was scored again."""
    given = values if isinstance(values, Mapping) else {"trial": values}
    return _read(Rescore, given, version, origin, "what was scored again")


def _read(kind: type[Kind], values: Mapping[str, Any], version: int, origin: str, what: str) -> Kind:
    adapter = _adapters()[kind]
    try:
        for value in values.values():
            if isinstance(value, str):
                value.encode()  # a text of a file is written to others again
        known = JOURNAL_FORMAT.known(adapter, values, version, origin)
        record: Kind = adapter.validate_python(dict(known))
        return record
    except UnicodeEncodeError as error:
        raise InputError(f"{origin}: {what}: has a text that is none: {error.object!a:.60}") from error
    except ValidationError as error:
        raise InputError(f"{origin}: {what}: {first_error(error)}") from error


@cache
def _adapters() -> dict[type[Any], TypeAdapter[Any]]:
    return {kind: TypeAdapter(kind) for kind in (TrialRecord, Rescore)}
