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

from pydantic import TypeAdapter, ValidationError

from ...core.errors import InputError
from ...core.files import read_text
from ...core.registry import BUILT_IN, Entry, Registry
from ...core.yaml_text import YamlText, parse_yaml
from .. import profiles
from .model import DeviceProfile
from .quantities import FROM_FILE

__all__ = ["ALIASES", "DEVICES", "DeviceProfile", "list_devices", "load_device", "parse_profile"]

#: Other names of bundled profiles.
ALIASES = {
    "cortex-m7-tinysearch": "cortex-m7",
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
    """Identifiers of the profiles that have a name: the bundled ones, and those of other packages.

    Example:
        >>> import tinysearch as ts
        >>> ts.list_devices()[:3]
        ('cortex-m7', 'cortex-m7-fp32', 'cortex-m7-int8')
    """
    return tuple(DEVICES)


def load_device(name_or_path: str | Path) -> DeviceProfile:
    """Read a profile.

    Args:
        name_or_path: A name of `list_devices`, an alias, or a YAML file of one's own.

    Raises:
        InputError: There is no such profile or file, or something in it is wrong: file, line and field are named.

    Example:
        >>> import tinysearch as ts
        >>> device = ts.load_device("rpi4")
        >>> device.description, device.batch
        ('Raspberry Pi 4', 8)
    """
    name = ALIASES.get(str(name_or_path), str(name_or_path))
    if isinstance(name_or_path, str) and name in DEVICES:
        profile = parse_profile(_named_text(name), _named_origin(name))
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
    stated, stated_version, read = _read(text, origin)
    adapter = TypeAdapter(DeviceProfile)
    content, version = _with_base(stated, stated_version, read, origin)
    try:
        known = DeviceProfile.FORMAT.known(adapter, content, version, origin, FROM_FILE)
        return adapter.validate_python(known, context=FROM_FILE)
    except ValidationError as error:
        detail = error.errors()[0]
        # A key of a mapping is shown as such by pydantic: latency.forward.densee.[key].
        parts = tuple(part for part in detail["loc"] if part != "[key]")
        field = ".".join(str(part) for part in parts) or "profile"
        message = detail["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise InputError(f"{origin}, line {read.line(parts)}: {field}: {message}{more}") from error


def _named_origin(name: str) -> str:
    """What messages call a profile that has a name."""
    origin = DEVICES[name].origin
    return f"{name}.yaml" if origin == BUILT_IN else f"{name}.yaml of {origin}"


def _named_text(name: str) -> str:
    """The text of a profile that has a name."""
    source = DEVICES.load(name)
    if isinstance(source, str) and "\n" in source:
        return source
    if isinstance(source, str | Path):
        return read_text(Path(source))
    with DEVICES.blaming(name):
        return source.read_text(encoding="utf-8")


def _read(text: str, origin: str) -> tuple[dict[str, Any], int, YamlText]:
    """The content of a profile's file without its header, its version, and the text that knows the lines."""
    read = parse_yaml(text, origin)
    stated = isinstance(read.values, dict) and read.values.get("format") == DeviceProfile.FORMAT.name
    line = read.line(("version" if stated else "format",))
    content, version = DeviceProfile.FORMAT.open(read.values, f"{origin}, line {line}")
    return content, version, read


def _with_base(
    content: dict[str, Any], version: int, read: YamlText, origin: str, above: tuple[str, ...] = ()
) -> tuple[dict[str, Any], int]:
    """A profile's content with what it takes from the profile that it is `like`, and the newer version of the two.

    A field that the profile states replaces the other's whole field, classes of kernels one by one.

    Args:
        content: What the profile states.
        version: Its version.
        read: Its text.
        origin: Where it comes from, for messages.
        above: Names of the profiles that are like it.
    """
    if "like" not in content:
        return content, version
    name = ALIASES.get(str(content["like"]), str(content["like"]))
    line = read.line(("like",))
    if name not in DEVICES:
        raise InputError(
            f"{origin}, line {line}: like: no profile named {content['like']!r:.60}: "
            f"use one of {', '.join(list_devices())}"
        )
    if name in above:
        raise InputError(f"{origin}, line {line}: like: {name} is like this one in turn")
    base_origin = _named_origin(name)
    base_content, base_version, base_read = _read(_named_text(name), base_origin)
    base, base_version = _with_base(base_content, base_version, base_read, base_origin, (*above, name))
    own = {key: value for key, value in content.items() if key != "like"}
    return _merge(base, own, ()), max(version, base_version)


def _merge(base: Mapping[str, Any], content: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in content.items():
        inner = (*path, str(key))
        below = merged.get(key)
        if inner in _SECTIONS and isinstance(below, dict) and isinstance(value, dict):
            value = _merge(below, value, inner)
        merged[key] = value
    return merged
