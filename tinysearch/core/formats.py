"""The files of this project: their format and version, and one reader for all of them.

Every file says what it is (`format`) and by which version of that format it was written (`version`). A file of a newer
version is read too, with a warning: keys that this version does not know are left out, wherever they stand, and the
warning names them. A file of this version, or an older one, must have no such key.
"""

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from .errors import InputError
from .validation import first_error

Content = TypeVar("Content")
#: A place in a file: names of keys and numbers of list items, from the top.
Place = tuple[int | str, ...]

#: What pydantic calls a key that a model, or a dataclass, does not have.
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
#: What pydantic puts behind the name of a key that a mapping may not have.
_KEY = "[key]"
#: Keys of a newer version that are left out, and those of them that are named.
MAX_UNKNOWN, _NAMED = 1000, 20
#: How deep lists and objects may lie in one another.
MAX_DEPTH = 50
#: Commas and brackets in a text, which bound how many values it can hold: those take much more memory than their text.
MAX_VALUES = 300_000
#: Bits of the largest integer that other programs read as it is.
INTEGER_BITS = 63


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file.

    Attributes:
        name: What its `format` says.
        version: The version that is written, and the newest that is known.
        noun: What such a file holds, for messages.
    """

    name: str
    version: int
    noun: str

    @property
    def header(self) -> dict[str, Any]:
        """What every file begins with."""
        return {"format": self.name, "version": self.version}

    def values(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """A file's content as JSON values, the header first."""
        return self.header | dict(content)

    def text(self, content: Mapping[str, Any], *, compact: bool = False) -> str:
        """A file's text: JSON, the header first.

        Args:
            content: JSON values.
            compact: Whether to leave out line breaks and spaces.

        Raises:
            ValueError: A number is not finite.

        Example:
            >>> print(Format("tinysearch.example", 1, "example").text({"answer": 42}), end="")
            {
             "format": "tinysearch.example",
             "version": 1,
             "answer": 42
            }
        """
        values = self.values(content)
        if compact:
            return json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def read(self, kind: type[Content] | TypeAdapter[Content], text: str, origin: str) -> Content:
        """What the text of a JSON file stands for.

        Args:
            kind: A pydantic model or dataclass, or an adapter of one.
            text: The file's text.
            origin: Where it comes from, for messages.

        Raises:
            InputError: It is no JSON, of another format, or a field is wrong, which is named.
        """
        return self.validate(kind, *self.parse(text, origin), origin)

    def parse(self, text: str, origin: str) -> tuple[dict[str, Any], int]:
        """The content of a JSON file without its header, and its version.

        Args:
            text: The file's text.
            origin: Where it comes from, for messages.

        Raises:
            InputError: It is no JSON, or of another format.
        """
        return self.open(parse_json(text, origin), origin)

    def open(self, content: object, origin: str) -> tuple[dict[str, Any], int]:
        """As `parse`, of values that have been read already.

        Raises:
            InputError: They are of another format, or of no version.
        """
        if not isinstance(content, dict) or content.get("format") != self.name:
            stated = content.get("format") if isinstance(content, dict) else None
            said = "" if stated is None else f", not {stated!r:.60}"
            raise InputError(f'{origin}: no {self.noun}: "format" must be "{self.name}"{said}')
        version = content.get("version")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise InputError(f'{origin}: "version" must be a positive integer, not {version!r:.60}')
        return {key: value for key, value in content.items() if key not in ("format", "version")}, version

    def validate(
        self, kind: type[Content] | TypeAdapter[Content], content: Mapping[str, Any], version: int, origin: str
    ) -> Content:
        """The content as what it stands for.

        Args:
            kind: A pydantic model or dataclass, or an adapter of one.
            content: What `parse` gave.
            version: The file's version.
            origin: Where it comes from, for messages.

        Raises:
            InputError: A field is wrong; it is named.
        """
        adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
        try:
            return adapter.validate_python(self.known(adapter, content, version, origin))
        except ValidationError as error:
            raise InputError(f"{origin}: {first_error(error)}") from error

    def known(
        self,
        adapter: TypeAdapter[Any],
        content: Mapping[str, Any],
        version: int,
        origin: str,
        context: dict[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        """The content without keys that only a newer version knows; a warning names those.

        Args:
            adapter: Of what the content stands for.
            content: What `parse` gave; it stays as it is.
            version: The file's version.
            origin: Where it comes from, for the warning.
            context: What the adapter's validators are told.
        """
        if version <= self.version:
            return content
        content = deepcopy(dict(content))
        dropped: set[str] = set()
        while found := {
            name for path in _unknown_keys(adapter, content, context, origin) if (name := _drop(content, path))
        }:
            dropped |= found
        named = [f"{name:.100}" for name in sorted(dropped)[:_NAMED]]
        more = f" and {len(dropped) - _NAMED} more" if len(dropped) > _NAMED else ""
        ignored = f"; ignored: {', '.join(named)}{more}" if dropped else ""
        warnings.warn(f"{origin}: written by a newer format (version {version}){ignored}", stacklevel=4)
        return content


def parse_json(text: str, origin: str) -> Any:
    """The values of a JSON text.

    Raises:
        InputError: It is none, holds too many values, or a number that is not finite or too large, is nested too deep,
            or gives a key twice; where is said.
    """
    if (count := sum(map(text.count, ",[{"))) > MAX_VALUES:
        raise InputError(f"{origin}: holds about {count:,} values, more than the {MAX_VALUES:,} that are read")
    try:
        values = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise InputError(f"{origin}: no JSON at line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise InputError(f"{origin}: no JSON that can be read: it is nested too deep") from error
    except ValueError as error:  # a number of too many digits, or a key again
        raise InputError(f"{origin}: no JSON that can be read: {str(error).splitlines()[0]:.200}") from error
    for path, complaint in oddities(values):
        raise InputError(f"{origin}: {dotted(path) or 'content'}: {complaint}")
    return values


def oddities(values: Any) -> Iterator[tuple[Place, str]]:
    """Where values that were read are none that a file should hold, and why.

    Args:
        values: What a reader of JSON or YAML gave.

    Example:
        >>> list(oddities({"rates": [0.1, float("nan")]}))
        [(('rates', 1), 'must be a finite number, not nan')]
    """
    # With a stack of its own, since what is nested deep is among what is looked for.
    # All values lie in a list of one, so that a path begins with its number.
    stack: list[tuple[Place, Any]] = [((), [values])]
    while stack:
        path, inner = stack.pop()
        for key, value in inner.items() if isinstance(inner, dict) else enumerate(inner):
            if isinstance(value, dict | list):
                if len(path) < MAX_DEPTH:
                    stack.append(((*path, key), value))
                else:
                    yield path[1:4], f"is nested more than {MAX_DEPTH} deep"
            elif complaint := _complaint(value):
                yield (*path, key)[1:], complaint
            if isinstance(key, str) and not _is_text(key):
                yield path[1:], f"has a key that is no text: {key!a:.60}"


def dotted(path: Place) -> str:
    """A place as people write it: "members.0.loss"."""
    return ".".join(str(part) for part in path)


def _complaint(value: Any) -> str:
    """What is wrong with a value that holds no others; empty where nothing is."""
    if isinstance(value, float) and not isfinite(value):
        return f"must be a finite number, not {value}"
    if isinstance(value, int) and value.bit_length() > INTEGER_BITS:
        return f"is a whole number of {value.bit_length()} bits, which is too large"
    if isinstance(value, str) and not _is_text(value):
        return f"is no text: {value!a:.60}"
    return ""


def _is_text(value: str) -> bool:
    """Whether a text can be written: half of a pair of UTF-16's cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        ((again, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"{again!r:.60} is given twice")
    return values


def _unknown_keys(
    adapter: TypeAdapter[Any], content: Mapping[str, Any], context: dict[str, Any] | None, origin: str
) -> list[Place]:
    try:
        adapter.validate_python(content, context=context)
    except ValidationError as error:
        if error.error_count() > MAX_UNKNOWN:
            count = f"{error.error_count():,} keys or values"
            raise InputError(f"{origin}: {count} that this version does not know") from error
        found = {detail["loc"] for detail in error.errors() if detail["type"] in _UNKNOWN}
        found |= {detail["loc"][:-1] for detail in error.errors() if detail["loc"][-1:] == (_KEY,)}
        # What lies within an unknown key goes with it.
        return [path for path in found if not any(path[:length] in found for length in range(1, len(path)))]
    return []


def _drop(content: Any, path: Place) -> str:
    """Delete the key at a path of pydantic's, and say where it was, as "members.loss"; empty if it is gone already."""
    *way, last = path
    names = []
    for part in way:
        if isinstance(content, dict) and part in content:
            names.append(str(part))
            content = content[part]
        elif isinstance(content, list) and isinstance(part, int):
            content = content[part]
        # Else it names one of several types that a field may have.
    if not isinstance(content, dict) or last not in content:
        return ""
    del content[last]
    return ".".join([*names, str(last)])
