"""What a run was asked to do: compared, named and told apart."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

#: Differences that a conflict message names; the rest are counted.
_NAMED = 3


def normalised(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request as it will be read back from JSON, such as lists for tuples.

    Raises:
        TypeError: A value is no JSON value.
        ValueError: A number is not finite.
    """
    content: dict[str, Any] = json.loads(json.dumps(dict(request), allow_nan=False))
    return content


def run_name(request: Mapping[str, Any]) -> str:
    """A folder name that is the same for the same request, so that the same command finds its run again.

    Example:
        >>> run_name({"device": "rpi4", "dataset": "digits", "seed": 0})
        'rpi4-digits-1e2ed653'
    """
    canonical = json.dumps(normalised(request), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:8]
    words = [
        re.sub(r"\W+", "-", str(request[key]).rsplit("/")[-1])[:40] for key in ("device", "dataset") if key in request
    ]
    return "-".join([*words, digest])


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first few keys in which two requests differ, with both values; empty where they agree.

    Example:
        >>> differences({"trials": 50, "budget": {"memory": 1}}, {"trials": 60, "budget": {"memory": 1}})
        'trials was 50, now 60'
    """
    told = changes(old, new)
    more = [f"and {len(told) - _NAMED} more"] if len(told) > _NAMED else []
    return "; ".join([*told[:_NAMED], *more])


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """As `differences`, all of them.

    Example:
        >>> changes({"threads": 1}, {"threads": 2, "cpus": 4})
        ['threads was 1, now 2', 'cpus was not stated, now 4']
    """
    before, after = _flat(normalised(old)), _flat(normalised(new))
    changed = [key for key in {**after, **before} if before.get(key, _ABSENT) != after.get(key, _ABSENT)]
    return [f"{key} was {_shown(before, key)}, now {_shown(after, key)}" for key in changed]


_ABSENT = object()


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _shown(content: Mapping[str, Any], key: str) -> str:
    if key not in content:
        return "not stated"
    text = json.dumps(content[key], ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
