"""Reading device profiles: YAML files, the bundled ones by their names.

`DEVICES` has those that have a name; a package adds its own by an entry point `tinysearch.devices`, whose object is
the place of a YAML file or the file's text.

Whatever is wrong with a file is said in one line that names the file, the line and the field.
"""

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from ...core.errors import InputError
from ...core.files import read_text
from ...core.formats import MAX_DEPTH, dotted, oddities
from ...core.registry import Entry, Registry
from .. import profiles
from .model import DeviceProfile
from .quantities import FROM_FILE

__all__ = ["ALIASES", "DEVICES", "DeviceProfile", "list_devices", "load_device", "parse_profile"]

#: Largest profile, in characters; the bundled ones have a few thousand.
MAX_PROFILE = 256 * 1024

#: Other names of bundled profiles.
ALIASES = {
    "stm32f746": "cortex-m7",
    "f746": "cortex-m7",
    "f746-fp32": "cortex-m7-fp32",
    "f767": "stm32f767",
    "h743": "stm32h743",
    "h7a3": "stm32h7a3",
    "rt1062": "imxrt1062",
    "teensy4.1": "imxrt1062",
    "rpi4-4gb": "rpi4",
    "jetson-nano-10w": "jetson-nano",
}

#: Parts that a profile may state some fields of and take the others from the profile that it is like.
_SECTIONS = (
    *((section,) for section in ("memory", "flash", "latency", "power")),
    *(("latency", phase) for phase in ("forward", "dx", "dw")),
)


#: Where a profile lies, or its YAML text.
Source = str | Path | Traversable


def _check(thing: object) -> None:
    if not isinstance(thing, str | Path | Traversable):
        raise TypeError(f"a {type(thing).__name__}, where the place of a YAML file, or its text, is needed")


def _bundled() -> list[Entry[Source]]:
    files = {file.name.removesuffix(".yaml"): file for file in resources.files(profiles).iterdir()}
    return [Entry.of(name, file) for name, file in sorted(files.items()) if file.name.endswith(".yaml")]


#: All profiles that have a name.
DEVICES: Registry[Source] = Registry("device", _bundled(), _check, taken=ALIASES.__contains__)


def list_devices() -> tuple[str, ...]:
    """Identifiers of the profiles that have a name: the bundled ones, and those of other packages."""
    return tuple(DEVICES)


def load_device(name_or_path: str | Path) -> DeviceProfile:
    """Read a profile.

    Args:
        name_or_path: A name of `list_devices`, an alias, or a YAML file of one's own.

    Raises:
        InputError: There is no such profile or file, or something in it is wrong: file, line and field are named.
    """
    name = ALIASES.get(str(name_or_path), str(name_or_path))
    if isinstance(name_or_path, str) and name in DEVICES:
        profile = parse_profile(_named_text(name), f"{name}.yaml")
        if profile.name != name:
            raise InputError(f"the device {name!r} of {DEVICES[name].origin}: its profile is named {profile.name!r}")
        return profile
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        raise InputError(
            f"no device {str(name_or_path)!r}: name one of {', '.join(list_devices())}, or a YAML file of your own"
        )
    return parse_profile(read_text(path), str(path))


def parse_profile(text: str, origin: str) -> DeviceProfile:
    """Read a profile from YAML text; `origin` names it in messages.

    Raises:
        InputError: Something in it is wrong: origin, line and field are named.
    """
    content, version, tree = _read(text, origin)
    adapter = TypeAdapter(DeviceProfile)
    whole = _with_base(content, tree, origin)
    try:
        known = DeviceProfile.FORMAT.known(adapter, whole, version, origin, FROM_FILE)
        return adapter.validate_python(known, context=FROM_FILE)
    except ValidationError as error:
        detail = error.errors()[0]
        # A key of a mapping is shown as such by pydantic: latency.forward.densee.[key].
        parts = tuple(part for part in detail["loc"] if part != "[key]")
        field = ".".join(str(part) for part in parts) or "profile"
        message = detail["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise InputError(f"{origin}, line {_line(tree, parts)}: {field}: {message}{more}") from error


def _named_text(name: str) -> str:
    """The text of a profile that has a name."""
    source = DEVICES.load(name)
    if isinstance(source, str) and "\n" in source:
        return source
    if isinstance(source, str | Path):
        return read_text(Path(source))
    with DEVICES.blaming(name):
        return source.read_text(encoding="utf-8")


def _read(text: str, origin: str) -> tuple[dict[str, Any], int, yaml.Node | None]:
    """The content of a profile's file without its header, its version, and the tree that knows the lines."""
    if len(text) > MAX_PROFILE:
        raise InputError(f"{origin}: {len(text)} characters are more than the {MAX_PROFILE} that a profile may have")
    try:
        _refuse_structure(text, origin)
        tree = yaml.compose(text, yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{origin}, line {line}: no YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{origin}: no YAML: {str(error).splitlines()[0]}") from error
    for path, complaint in oddities(content):
        raise InputError(f"{origin}, line {_line(tree, path)}: {dotted(path) or 'profile'}: {complaint}")
    stated = isinstance(content, dict) and content.get("format") == DeviceProfile.FORMAT.name
    line = _line(tree, ("version" if stated else "format",))
    content, version = DeviceProfile.FORMAT.open(content, f"{origin}, line {line}")
    _refuse_duplicates(tree, origin)
    return content, version, tree


def _refuse_structure(text: str, origin: str) -> None:
    """Refuse what only grows or slows a file: references to other places of it, and depth."""
    depth = 0
    # One event after another: reading the whole of a text that is nested deep would take minutes.
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise InputError(f"{origin}, line {line}: YAML aliases (*name) are not allowed in a profile")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(f"{origin}, line {line}: no YAML that can be read: it is nested too deep")


def _with_base(
    content: dict[str, Any], tree: yaml.Node | None, origin: str, above: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A profile's content with what it takes from the profile that it is `like`; `above`: those that are like it.

    A field that the profile states replaces the other's whole field, classes of kernels one by one.
    """
    if "like" not in content:
        return content
    name = ALIASES.get(str(content["like"]), str(content["like"]))
    if name not in DEVICES:
        raise InputError(
            f"{origin}, line {_line(tree, ('like',))}: like: no profile named {content['like']!r:.60}: "
            f"use one of {', '.join(list_devices())}"
        )
    if name in above:
        raise InputError(f"{origin}, line {_line(tree, ('like',))}: like: {name} is like this one in turn")
    base_origin = f"{name}.yaml"
    base_content, _, base_tree = _read(_named_text(name), base_origin)
    base = _with_base(base_content, base_tree, base_origin, (*above, name))
    return _merge(base, {key: value for key, value in content.items() if key != "like"}, ())


def _merge(base: Mapping[str, Any], content: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in content.items():
        inner = (*path, str(key))
        below = merged.get(key)
        if inner in _SECTIONS and isinstance(below, dict) and isinstance(value, dict):
            value = _merge(below, value, inner)
        merged[key] = value
    return merged


def _line(node: yaml.Node | None, path: tuple[int | str, ...]) -> int:
    """Line of a field, or of the nearest that there is on the way to it."""
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
