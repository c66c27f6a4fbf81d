"""YAML that users hand in: read safely and within bounds, with the line of everything that it says."""

from dataclasses import dataclass
from typing import Any

import yaml

from .errors import InputError
from .formats import MAX_DEPTH, Place, dotted, oddities


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
        InputError: It is no YAML, refers to other places of itself, is nested too deep, gives a key twice, or holds a
            number that is not finite or too large; the line is said.

    Example:
        >>> read = parse_yaml("a:\n  b: [1, 2]", "example")
        >>> read.values, read.line(("a", "b"))
        ({'a': {'b': [1, 2]}}, 2)
    """
    try:
        _refuse_structure(text, origin)
        tree = yaml.compose(text, yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{origin}, line {line}: no YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{origin}: no YAML: {str(error).splitlines()[0]:.200}") from error
    read = YamlText(values, tree)
    for path, complaint in oddities(values):
        raise InputError(f"{origin}, line {read.line(path)}: {dotted(path) or 'content'}: {complaint}")
    _refuse_duplicates(tree, origin)
    return read


def _refuse_structure(text: str, origin: str) -> None:
    """Refuse what only grows or slows a file: references to other places of it, and depth."""
    depth = 0
    # One event after another: reading the whole of a text that is nested deep would take minutes.
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{origin}, line {line}: YAML aliases (*name) are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(f"{origin}, line {line}: no YAML that can be read: it is nested too deep")


def _refuse_duplicates(node: yaml.Node | None, origin: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise InputError(f"{origin}, line {key.start_mark.line + 1}: {key.value} is given twice")
            seen.add(str(key.value))
            _refuse_duplicates(value, origin)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, origin)
