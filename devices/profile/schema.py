"""The JSON Schema of a profile's file, which differs from that of the record by the header and by `like`."""

from copy import deepcopy
from typing import Any

from pydantic import BaseModel

from ...core.formats import Format
from .kernels import CLASS_KEY, COARSE

#: Parts of which a profile with `like` may state some fields only.
SECTIONS = ("Memory", "Flash", "Latency", "Power")

PHASES = ("forward", "dx", "dw")


def profile_schema(record: type[BaseModel], kind: Format) -> dict[str, Any]:
    """The schema (2020-12) of a whole file, or of one that says which profile it is `like`.

    Args:
        record: The model of a profile.
        kind: The format of its file.
    """
    whole = record.model_json_schema(mode="validation")
    whole["description"] = whole["description"].partition("\n\nExample:")[0]  # which is one for Python
    definitions = whole.pop("$defs")
    for phase in PHASES:
        definitions["Latency"]["properties"][phase] |= {
            "propertyNames": {"pattern": f"^{CLASS_KEY}$"},
            "required": list(COARSE),
        }
    whole["properties"] = {
        "format": {"const": kind.name},
        "version": {"const": kind.version},
        **whole["properties"],
    }
    whole["required"] = ["format", "version", *whole["required"]]
    part = deepcopy(whole)
    part["required"] = ["format", "version", "name", "like"]
    part["properties"]["like"] = {"type": "string", "description": "A bundled profile that gives all other fields."}
    for section in SECTIONS:
        partial = deepcopy(definitions[section])
        partial.pop("required")
        for phase in PHASES:
            partial["properties"].get(phase, {}).pop("required", None)
        definitions[f"Partial{section}"] = partial
        part["properties"][section.lower()] = {"$ref": f"#/$defs/Partial{section}"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": record.__name__,
        "if": {"required": ["like"]},
        "then": part,
        "else": whole,
        "$defs": definitions,
    }
