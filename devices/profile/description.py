"""A device profile in words: every number with its source, its errors, and what is assumed."""

from collections.abc import Iterator
from typing import Any

from .kernels import Latency
from .model import DeviceProfile

#: Columns of a field's name, and of its number.
_NAME, _NUMBER = 27, 48


def describe(profile: DeviceProfile) -> str:
    """A profile field by field, with sources; then the errors of its latency and what no one has measured."""
    content = profile.model_dump(mode="json", exclude_none=True, exclude={"name", "description", "runtime"})
    content["latency"] = {key: part for key, part in content["latency"].items() if key not in ("error", "valid")}
    lines = [f"{profile.name}: {profile.description}", f"runtime: {profile.runtime}", "", *_fields(content, "")]
    lines += ["", *_trust(profile.latency), f"assumed, not measured: {', '.join(profile.assumed) or 'nothing'}"]
    return "\n".join(lines) + "\n"


def _fields(content: dict[str, Any], path: str) -> Iterator[str]:
    for key, value in content.items():
        name = f"{path}{key}"
        if isinstance(value, dict) and "assumed" in value:
            yield f"{name:<{_NAME}} {_number(value):<{_NUMBER if 'value' not in value else 10}} {_origin(value)}"
        elif isinstance(value, dict):
            yield from _fields(value, f"{name}.")
        elif isinstance(value, list):  # regions
            yield from (f"{name:<{_NAME}} {part['size']:<10} {part['name']}" for part in value)
        else:
            yield f"{name:<{_NAME}} {value}"


def _number(value: dict[str, Any]) -> str:
    terms = (f"{key} {part}" for key, part in value.items() if key not in ("source", "assumed"))
    return str(value["value"]) if "value" in value else ", ".join(terms)


def _origin(value: dict[str, Any]) -> str:
    source = value.get("source", "")
    return f"ASSUMED: {source}".removesuffix(": ") if value["assumed"] else source


def _trust(latency: Latency) -> Iterator[str]:
    """How far to trust a predicted time."""
    (low, high), (least, most) = latency.valid.batch, latency.valid.macs
    batches = f"batch {low}" if low == high else f"batches {low} to {high}"
    yield f"latency: {latency.confidence} confidence, fitted on {batches}, {least / 1e6:.4g} to {most / 1e6:.4g} MMAC"
    if latency.transferred:
        yield f"latency is carried over: {latency.transferred}"
    error = latency.error
    if error is None:
        yield "latency error: unknown, no prediction was held against a measurement"
        return
    terms = [
        ("MAPE {:g} %", error.mape),
        ("{:g} % of points within 10 %", error.within_10),
        ("{:g} % within 20 %", error.within_20),
        ("Kendall tau {:g}", error.tau),
        ("median bias {:+g} %", error.bias),
        ("repeatability {:g} %", error.repeatability),
        ("{} points", error.points),
    ]
    yield "latency error: " + ", ".join(text.format(value) for text, value in terms if value is not None)
    yield f"latency error is of: {error.of} ({_origin(error.model_dump())})"
