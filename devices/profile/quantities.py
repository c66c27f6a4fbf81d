"""Types of the numbers in a profile: read strictly from text with a unit, kept in base units, written back exactly.

A file must state units. Code that makes a record may give plain numbers in base units: bytes, seconds, watts, hertz,
multiply-accumulates, elements or bytes a second.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from ...core import units
from ...core.errors import InputError

Value = TypeVar("Value")

#: Validation context of what was read from a file.
FROM_FILE = {"file": True}


def write_quantity(value: float, known: Mapping[str, float]) -> str:
    """A number with its unit, the shortest that reads back to the last bit."""
    base = next(unit for unit, factor in known.items() if factor == 1)
    fitting = [unit for unit, factor in known.items() if 1 <= value / factor < 1000] or [base]
    texts = [f"{value / known[unit]:.12g} {unit}" for unit in fitting]
    exact = [text for text in texts if units.parse_quantity(text, known) == value]
    return min(exact, key=len, default=f"{value!r} {base}")


def _quantity(known: Mapping[str, float], *, whole: bool = False) -> tuple[Any, ...]:
    """What pydantic needs to know of a quantity: how to read it, to write it, and its JSON Schema."""

    def read(value: Any, info: ValidationInfo) -> float:
        try:
            if whole:
                return units.parse_bytes(value)
            return units.parse_quantity(value, known, plain=not info.context)
        except InputError as error:
            raise ValueError(str(error)) from error

    def write(value: float) -> str:
        return write_quantity(value, known)

    text = {
        "type": "string",
        "pattern": rf"^\s*\+?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*({'|'.join(known)}){'?' if whole else ''}\s*$",
    }
    return (
        BeforeValidator(read),
        PlainSerializer(write, return_type=str, when_used="json"),
        WithJsonSchema({"anyOf": [text, {"type": "integer", "minimum": 0}]} if whole else text),
    )


Bytes = Annotated[int, *_quantity(units.BYTES, whole=True)]
Seconds = Annotated[float, *_quantity(units.SECONDS)]
Watts = Annotated[float, *_quantity(units.WATTS), Field(gt=0)]
Hertz = Annotated[float, *_quantity(units.HERTZ), Field(gt=0)]
MacRate = Annotated[float, *_quantity(units.MACS_PER_SECOND), Field(gt=0)]
ElementRate = Annotated[float, *_quantity(units.ELEMENTS_PER_SECOND), Field(gt=0)]
ByteRate = Annotated[float, *_quantity(units.BYTES_PER_SECOND), Field(gt=0)]
Macs = Annotated[float, *_quantity(units.MACS), Field(gt=0)]


class Record(BaseModel):
    """A part of a profile: immutable, with no unknown key and no number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Origin(Record):
    """Where a number comes from.

    Attributes:
        source: Where it was read or how it was fitted.
        assumed: Whether no one has measured it; `source` then says what it is guessed from.
    """

    source: str | None = None
    assumed: bool = False

    @model_validator(mode="after")
    def _has_origin(self) -> Self:
        if not self.source and not self.assumed:
            raise ValueError('a number needs a "source", or "assumed: true"')
        return self


class Sourced(Origin, Generic[Value]):
    """A number and where it comes from.

    Attributes:
        value: The number, in base units.
    """

    value: Value
