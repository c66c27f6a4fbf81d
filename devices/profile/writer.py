"""Writing device profiles as YAML text that reads back equal."""

from typing import Any

import yaml

from .model import DeviceProfile


def write_profile(profile: DeviceProfile) -> str:
    """A profile as the YAML text of a file.

    `parse_profile` of it is the same profile, to the last bit. What a profile took from one that it is `like` is
    written out.
    """
    return dump(profile.FORMAT.values(profile.model_dump(mode="json", exclude_defaults=True)))


def dump(content: dict[str, Any]) -> str:
    """JSON values as YAML in the layout of the bundled profiles."""
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000))


class _Dumper(yaml.SafeDumper):
    """One line for a number with its origin, which comes last, and for any mapping that has none below it."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        last = {key: mapping[key] for key in ("source", "assumed") if key in mapping}
        ordered = {key: value for key, value in mapping.items() if key not in last} | last
        return super().represent_mapping(tag, ordered, not any(isinstance(value, dict) for value in ordered.values()))


_Dumper.add_representer(list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, True))
