"""YAML that users hand in: read safely and within bounds, with the line of everything that it says."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from .errors import InputError
from .formats import MAX_DEPTH, Place, dotted, oddities

#: Largest text, in characters; profiles and configurations have a few thousand.
MAX_YAML = 256 * 1024
#: Most values, keys, and ends of lists and mappings; profiles have a few hundred.
MAX_EVENTS = 20_000

#: The reader in C where PyYAML was built with it; it takes a tenth of the time.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE = "tag:yaml.org,2002:"


class _Loader(_Base):  # type: ignore[misc]  # one of two, by the build
    """Reads texts, numbers, truth values and nothing: no dates, no merge keys, no numbers of base 60."""


#: How what is not quoted is told apart, by its first character; as YAML 1.1 has it, in time linear in the length.
_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (
        "bool",
        "|".join(
            form for word in ("yes", "no", "true", "false", "on", "off") for form in (word, word.title(), word.upper())
        ),
        list("yYnNtTfFoO"),
    ),
    ("int", r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(f"{_CORE}{_name}", re.compile(rf"(?:{_pattern})\Z"), _first)


@dataclass(frozen=True)
class YamlText:
    """A YAML text that was read.

    Attributes:
        values: What it says: mappings, lists, texts and numbers.
        tree: The nodes, which know their lines; None for an empty text.
    """

    values: Any
    tree: yaml.Node | None

    def line(self, path: Place) -> int:
        """Line of a value, or of the nearest that there is on the way to it."""
        node = self.tree
        line = 1 if node is None else node.start_mark.line + 1
        for part in path:
            if isinstance(node, yaml.MappingNode):
                found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line + 1
            else:
                break
        return line


def parse_yaml(text: str, origin: str) -> YamlText:
    r"""Read a YAML text; nothing in it is executed.

    Args:
        text: The text.
        origin: Where it comes from, for messages.

    Raises:
        InputError: It is no YAML, too long, refers to other places of itself, has tags, is nested too deep, gives a
            key twice, or holds a number that is not finite or too large; the line is said.

    Example:
        >>> read = parse_yaml("a:\n  b: [1, 2]", "example")
        >>> read.values, read.line(("a", "b"))
        ({'a': {'b': [1, 2]}}, 2)
    """
    if len(text) > MAX_YAML:
        raise InputError(f"{origin}: {len(text)} characters are more than the {MAX_YAML} that are read of YAML")
    try:
        _refuse_structure(text, origin)
        tree = yaml.compose(text, _Loader)
        _refuse_keys(tree, origin)
        values = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{origin}, line {line}: no YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{origin}: no YAML: {(str(error).splitlines() or [''])[0]:.200}") from error
    read = YamlText(values, tree)
    for path, complaint in oddities(values):
        raise InputError(f"{origin}, line {read.line(path)}: {dotted(path) or 'content'}: {complaint}")
    return read


def _refuse_structure(text: str, origin: str) -> None:
    """Refuse what only grows, slows or disguises a file: references to other places of it, tags, depth and number."""
    depth = 0
    # One event after another: reading the whole of a text that is nested deep would take minutes.
    for number, event in enumerate(yaml.parse(text, _Loader)):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{origin}, line {line}: YAML aliases (*name) are not allowed")
        if getattr(event, "tag", None) is not None or getattr(event, "tags", None):
            raise InputError(f"{origin}, line {line}: YAML tags (!name) are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(f"{origin}, line {line}: no YAML that can be read: it is nested too deep")
        if number > MAX_EVENTS:
            raise InputError(f"{origin}, line {line}: more than the {MAX_EVENTS} values that are read of YAML")


def _refuse_keys(node: yaml.Node | None, origin: str) -> None:
    """Refuse keys that are no texts or numbers, or come twice."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            where = f"{origin}, line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(f"{where}: no YAML: a list or mapping stands for a key")
            if key.value in seen:
                raise InputError(f"{where}: {key.value} is given twice")
            seen.add(key.value)
            _refuse_keys(value, origin)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_keys(item, origin)
