"""Every format of the project: newer files are read with a warning, and what is wrong with one is a clear line."""

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from tinysearch.core.errors import InputError
from tinysearch.core.formats import Format, parse_json
from tinysearch.devices.calibrate.results import RESULTS, parse_results
from tinysearch.devices.profile import DeviceProfile, parse_profile
from tinysearch.results.export import Manifest
from tinysearch.results.front import Front
from tinysearch.results.rundir import ENVIRONMENT_FORMAT, RUN_FORMAT, EnvironmentFile, RunDirectory
from tinysearch.spaces.delta.file import FORMAT as DELTA
from tinysearch.spaces.delta.file import read_delta
from tinysearch.spaces.policy import UpdatePolicy

POLICY = UpdatePolicy.model_validate(
    {
        "backbone": "b",
        "input_shape": (3, 8, 8),
        "head": "fc",
        "layers": [{"name": "a", "weight": {"axis": "in", "index": [1, 5]}}, {"name": "c", "bias": True}],
        "norms": [{"name": "n", "scale": True}],
        "lite_residuals": [
            {"block": "b1", "in_channels": 8, "out_channels": 8, "stride": 1, "kernel": 5, "shift": False}
        ],
        "training": {"learning_rate": 0.01},
    }
)
MEMBER = {
    "policy": "policies/0123456789abcdef.json",
    "hash": "0123456789abcdef",
    "accuracy": 0.5,
    "peak_bytes": 1,
    "saved_bytes": 1,
    "flash_bytes": 1,
    "latency_s": 0.1,
    "macs": 1,
    "trial": 0,
    "backbone": "b",
    "input_size": 8,
}
FRONT = {
    "format": "tinysearch.front",
    "version": 2,
    "run": {
        "device": "rpi4",
        "dataset": "digits",
        "backbone": "b",
        "batch": 8,
        "proxy": "few-shot",
        "seed": 0,
        "trials": 1,
    },
    "objectives": [{"name": "accuracy", "minimise": False}, {"name": "peak_bytes", "minimise": True}],
    "reference_point": {"accuracy": 0.1, "peak_bytes": 9.0},
    "ideal_point": {"accuracy": 1.0, "peak_bytes": 0.0},
    "hypervolume": 0.5,
    "members": [MEMBER, MEMBER | {"trial": 1, "peak_bytes": 2}],
}
MEASURED = {
    "format": "tinysearch.calibration-results",
    "version": 1,
    "machine": {
        "processor": "p",
        "cores": 4,
        "governor": None,
        "temperature": None,
        "load": 0.1,
        "memory": 2,
        "available": 1,
        "disk": 5,
        "allocator": {"LD_PRELOAD": "x"},
    },
    "temperature_after": None,
    "torch": "2.6",
    "device": "cpu",
    "threads": 1,
    "freed_memory_kept": True,
    "elapsed": 1.0,
    "jobs": {
        "layers": "plain",
        "batch": 1,
        "optimizer": "adam",
        "networks": [{"backbone": "b", "input_size": 8}],
        "steps": [{"network": 0, "policy": "{}"}],
    },
    "steps": [{"step": 0, "seconds": [0.1], "forward": {"a": 0.1}, "backward": {}}],
    "memory": [{"step": 0, "baseline": 1, "growth": 2}],
}
HEADER = {
    "format": "tinysearch.delta",
    "version": 1,
    "base_sha256": 64 * "0",
    "classes": 2,
    "policy": POLICY.to_dict(),
}
PROFILE = yaml.safe_load((resources.files("tinysearch.devices") / "profiles" / "cortex-m7-int8.yaml").read_text())
LIKE = {
    "format": "tinysearch.device",
    "version": 1,
    "name": "mine",
    "like": "rpi4",
    "memory": {"capacity": {"value": "8 GiB", "assumed": True}},
    "latency": {"forward": {"depthwise-k5": {"macs": "1 MMAC/s", "source": "measured"}}},
}


def read_request(text: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "request.json").write_text(text)
        return RunDirectory.load(folder).request


def read_delta_header(text: str) -> tuple[Any, ...]:
    delta = read_delta(save({"fc.weight": torch.zeros(2, 3)}, {DELTA.name: text}))
    return delta.policy, delta.base_sha256, delta.classes


@dataclass(frozen=True)
class Case:
    """A format, a file of it, how one is read, and the objects whose keys are data rather than fields."""

    format: Format
    content: dict[str, Any]
    read: Callable[[str], Any]
    data: tuple[str, ...] = ()


CASES = {
    "policy": Case(UpdatePolicy.FORMAT, POLICY.to_dict(), UpdatePolicy.from_json),
    "front": Case(Front.FORMAT, FRONT, Front.from_json, ("reference_point", "ideal_point")),
    "run": Case(RUN_FORMAT, RUN_FORMAT.values({"request": {"a": {"b": 1}}}), read_request, ("request",)),
    "environment": Case(
        ENVIRONMENT_FORMAT,
        ENVIRONMENT_FORMAT.values({"sessions": [{"python": "3.12", "packages": {"torch": "2.6"}}]}),
        lambda text: ENVIRONMENT_FORMAT.read(EnvironmentFile, text, "environment.json"),
        ("sessions",),
    ),
    "device": Case(DeviceProfile.FORMAT, PROFILE, lambda text: parse_profile(text, "x.yaml")),
    "device like another": Case(DeviceProfile.FORMAT, LIKE, lambda text: parse_profile(text, "x.yaml")),
    "delta": Case(DELTA, HEADER, read_delta_header, ("policy",)),
    "export": Case(
        Manifest.FORMAT,
        Manifest.FORMAT.values(
            {
                "exporter": "x",
                "origin": "acme",
                "versions": {"tinysearch": "0.1"},
                "policy_hash": "0" * 16,
                "policy_sha256": "0" * 64,
                "base_sha256": "1" * 64,
                "files": [{"path": "a/b.c", "bytes": 1, "sha256": "2" * 64}],
            }
        ),
        Manifest.from_json,
        ("versions",),
    ),
    "results": Case(
        RESULTS,
        MEASURED,
        lambda text: parse_results(parse_json(text, "x.json"), "x.json"),
        ("allocator", "forward", "backward"),
    ),
}
every_format = pytest.mark.parametrize("name", CASES)


def objects(content: Any, data: tuple[str, ...], path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all objects that hold fields."""
    if isinstance(content, dict):
        yield path
    for key, inner in content.items() if isinstance(content, dict) else enumerate(content):
        if key not in data and isinstance(inner, dict | list):
            yield from objects(inner, data, (*path, key))


def at(content: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        content = content[part]
    return content


keys = st.from_regex(r"zz_[a-z]{1,6}", fullmatch=True)
values = st.recursive(st.none() | st.integers(-9, 9) | st.text("ab"), lambda v: st.lists(v) | st.dictionaries(keys, v))


def added(data: st.DataObject, case: Case, most: int) -> tuple[dict[str, Any], set[str]]:
    """A file with unknown keys, and how a message names them."""
    content = deepcopy(case.content)
    places = sorted(objects(content, case.data), key=str)
    chosen = data.draw(st.lists(st.tuples(st.sampled_from(places), keys), min_size=1, max_size=most))
    for place, key in chosen:
        at(content, place)[key] = data.draw(values)
    return content, {".".join([*(part for part in place if isinstance(part, str)), key]) for place, key in chosen}


@every_format
def test_a_file_of_this_version_is_read_without_a_word(name: str) -> None:
    case = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case.read(json.dumps(case.content))
    assert (case.content["format"], case.content["version"]) == (case.format.name, case.format.version)


@every_format
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_new_keys_of_a_newer_version_are_ignored_and_named(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    content, names = added(data, case, 4)
    content["version"] += 1
    newer = rf"newer format \(version {case.format.version + 1}\); ignored: "
    with pytest.warns(UserWarning, match=newer) as caught:
        assert case.read(json.dumps(content)) == case.read(json.dumps(case.content))
    (warning,) = caught
    assert set(str(warning.message).partition("ignored: ")[2].split(", ")) == names


@every_format
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_an_unknown_key_of_this_version_is_refused_and_named(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    content, (key,) = added(data, case, 1)
    with pytest.raises(InputError) as caught:
        case.read(json.dumps(content))
    assert key.rpartition(".")[2] in str(caught.value)
    assert "\n" not in str(caught.value)


@every_format
def test_a_newer_version_with_nothing_new_is_said(name: str) -> None:
    case = CASES[name]
    with pytest.warns(UserWarning, match=r"newer format \(version 9\)$"):
        case.read(json.dumps(case.content | {"version": 9}))


#: Values that no file should hold, as text, and what is said of them.
ODD = {
    "NaN": "finite",
    "1e999": "finite",
    "9" * 300: "too large",
    "9" * 5000: "digits",
    "[" * 60 + "]" * 60: "nested",
    "[" * 100_000: "",
    '{"a": 1, "a": 2}': "twice",
    '"\\ud800"': "",
}


@every_format
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:20])
def test_what_is_no_value_is_one_clear_line(name: str, odd: str) -> None:
    """In any field of any format, also where a newer version's keys are ignored."""
    case = CASES[name]
    yaml_text = name.startswith("device")
    for version in (case.format.version, case.format.version + 1):
        text = json.dumps(case.content | {"version": version, "zz": "ODD"})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(InputError) as caught:
                case.read(text.replace('"ODD"', {"NaN": ".nan", "1e999": ".inf"}.get(odd, odd) if yaml_text else odd))
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 400
        if not (yaml_text and version == case.format.version):
            assert ODD[odd] in message


@every_format
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "tinysearch.other"}, 'format" must be "{}"'),
        ({"format": None}, 'format" must be "{}"'),
        ({"version": "1"}, '"version" must be a positive integer'),
        ({"version": True}, '"version" must be a positive integer'),
        ({"version": 0}, '"version" must be a positive integer'),
        ({"version": None}, '"version" must be a positive integer'),
    ],
    ids=str,
)
def test_another_format_or_version_is_refused(name: str, change: dict[str, Any], words: str) -> None:
    case = CASES[name]
    with pytest.raises(InputError) as caught:
        case.read(json.dumps(case.content | change))
    assert words.format(case.format.name) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "1", "{}"])
@every_format
def test_what_is_no_file_of_the_format_is_one_line(name: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        CASES[name].read(text)
    assert "\n" not in str(caught.value)


def test_what_a_format_writes_it_reads() -> None:
    example = Format("tinysearch.example", 3, "example")
    content = {"text": "ünïcode", "numbers": [1, 0.5, None], "more": {"a": {}}}
    for text in (example.text(content), example.text(content, compact=True)):
        assert example.parse(text, "x") == (content, 3)
    assert example.values(content) == {"format": "tinysearch.example", "version": 3, **content}
    with pytest.raises(ValueError, match="JSON"):
        example.text({"rate": float("nan")})


def test_keys_of_a_newer_version_are_bounded_in_number_and_length() -> None:
    case = CASES["policy"]
    for count, long in ((30, "k" * 10_000), (2000, "")):
        more = {f"key{number}{long}": 0 for number in range(count)}
        text = json.dumps(case.content | {"version": case.format.version + 1} | more)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if count > 1000:
                with pytest.raises(InputError, match="2,000 keys or values that this version does not know"):
                    case.read(text)
            else:
                case.read(text)
                assert "and 10 more" in str(caught[0].message)
                assert len(str(caught[0].message)) < 3000


def test_a_file_of_too_many_values_is_not_parsed() -> None:
    with pytest.raises(InputError, match="holds about 300,002 values"):
        parse_json("[" + "0," * 300_000 + "[]]", "x")
