"""The files of this project: their format and version, and one reader for all of them.

Every file says what it is (`format`) and by which version of that format it was written (`version`). A file of a newer
version is read too: keys that this version does not know are left out, wherever they stand, and a warning names them.
A file of this version, or an older one, must have no such key.
"""

import json
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from .errors import InputError
from .validation import first_error

Content = TypeVar("Content")

#: What pydantic calls a key that a model, or a dataclass, does not have.
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


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

    def text(self, content: Mapping[str, Any]) -> str:
        """A file's text: JSON, the header first.

        Example:
            >>> print(Format("tinysearch.example", 1, "example").text({"answer": 42}), end="")
            {
             "format": "tinysearch.example",
             "version": 1,
             "answer": 42
            }
        """
        return json.dumps(self.header | dict(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

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
            raise InputError(f'{origin}: no {self.noun}: "format" must be "{self.name}"')
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
        """The content without keys that only a newer version knows; a warning names those."""
        if version <= self.version:
            return content
        content = deepcopy(dict(content))  # the caller's stays as it is
        dropped: set[str] = set()
        while found := {name for path in _unknown_keys(adapter, content, context) if (name := _drop(content, path))}:
            dropped |= found
        if dropped:
            warnings.warn(
                f"{origin}: written by a newer format (version {version}); ignored: {', '.join(sorted(dropped))}",
                stacklevel=4,
            )
        return content


def parse_json(text: str, origin: str) -> Any:
    """The values of a JSON text.

    Raises:
        InputError: It is none; where is said.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{origin}: no JSON at line {error.lineno}: {error.msg}") from error
    except (RecursionError, ValueError) as error:  # nested too deep, or a number of too many digits
        raise InputError(f"{origin}: no JSON that can be read: {str(error).splitlines()[0]}") from error


def _unknown_keys(
    adapter: TypeAdapter[Any], content: Mapping[str, Any], context: dict[str, Any] | None
) -> list[tuple[int | str, ...]]:
    try:
        adapter.validate_python(content, context=context)
    except ValidationError as error:
        return [detail["loc"] for detail in error.errors() if detail["type"] in _UNKNOWN]
    return []


def _drop(content: Any, path: tuple[int | str, ...]) -> str:
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
