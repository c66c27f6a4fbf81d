"""Profiles: the bundled ones, a user's own, and everything that can be wrong with one."""

import json
import textwrap
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tinysearch.core import units
from tinysearch.core.errors import InputError
from tinysearch.devices.profile import ALIASES, DeviceProfile, list_devices, load_device, parse_profile
from tinysearch.devices.profile.quantities import write_quantity
from tinysearch.devices.profile.writer import write_profile

MINE = """\
format: tinysearch.device
version: 1
name: mine
description: A board
runtime: A runtime
clock: {value: 216 MHz, source: data sheet}
batch: 1
optimizer: sgd
memory:
  kind: arena
  capacity: {value: 320 KiB, source: data sheet}
  budget: {value: 256 KiB, source: the largest piece}
  baseline: {value: 24 KiB, assumed: true}
  working_set: {peak: 1.25, constant: 2 KiB, source: measured}
  regions:
    - {name: DTCM, size: 64 KiB}
    - {name: SRAM, size: 256 KiB}
  dtypes: {activation: 1, frozen: 1, trained: 4, gradient: 4}
flash:
  capacity: {value: 1 MiB, source: data sheet}
  code: {value: 108.25 KiB, source: a build}
latency:
  clock: {value: 400 MHz, source: measured at it}
  forward:
    dense: {overhead: 10 us, macs: 22.6 MMAC/s, bytes: 1 GB/s, source: fitted}
    pointwise: {macs: 199 MMAC/s, source: fitted}
    depthwise: {macs: 114 MMAC/s, source: fitted}
    depthwise-k5-s2: {macs: 90 MMAC/s, source: fitted}
    linear: {macs: 31.7 MMAC/s, source: fitted}
    elementwise: {bytes: 216 MB/s, assumed: true}
  dx:
    dense: {macs: 36 MMAC/s, assumed: true}
    pointwise: {macs: 37 MMAC/s, assumed: true}
    depthwise: {macs: 38 MMAC/s, assumed: true}
    linear: {macs: 39 MMAC/s, assumed: true}
    elementwise: {bytes: 217 MB/s, assumed: true}
  dw:
    dense: {macs: 40 MMAC/s, assumed: true}
    pointwise: {macs: 41 MMAC/s, assumed: true}
    depthwise: {macs: 42 MMAC/s, assumed: true}
    linear: {macs: 43 MMAC/s, assumed: true}
    elementwise: {bytes: 218 MB/s, assumed: true}
  update: {bytes: 100 MB/s, assumed: true}
  forward_scale: {value: 1.1, source: fitted}
  backward_scale: {value: 1.2, source: fitted}
  constant: {value: 3 ms, source: fitted}
  fused: true
  confidence: low
  error: {of: twelve steps, mape: 5.6, within_10: 80, tau: 0.9, points: 12, source: a script}
  valid: {batch: [1, 2], macs: [5 MMAC, 600 MMAC]}
power:
  idle: {value: 0.1 W, assumed: true}
  active: {value: 0.33 W, assumed: true, source: a guess}
"""


def _line(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


def test_bundled_profiles_load():
    assert {"cortex-m7-int8", "rpi4", "jetson-nano"} <= set(list_devices())
    for name in list_devices():
        profile = load_device(name)
        assert profile.name == name
        assert profile.memory.budget.value <= profile.memory.capacity.value


@pytest.mark.parametrize("alias", [name for name in sorted(ALIASES) if ALIASES[name] in list_devices()])
def test_aliases_load_what_they_stand_for(alias):
    assert load_device(alias).name == ALIASES[alias]


def test_values_are_in_base_units_and_assumptions_are_marked():
    profile = parse_profile(MINE, "x")
    assert profile.memory.capacity.value == 320 * 1024
    assert profile.memory.budget.value == 256 * 1024
    assert profile.latency.dx["dense"].macs == 36e6
    assert profile.slowdown == pytest.approx(400 / 216)
    assert (profile.memory.working_set.peak, profile.memory.working_set.constant) == (1.25, 2048)
    assert {"latency.dx.dense", "latency.update", "power.active", "memory.baseline"} <= set(profile.assumed)
    assert not {"memory.capacity", "latency.forward.dense", "latency.error"} & set(profile.assumed)


def test_a_users_file(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(MINE)
    profile = load_device(path)
    assert (profile.name, profile.memory.budget.value) == ("mine", 256 * 1024)
    assert load_device(str(path)) == profile


def test_a_profile_like_another_states_what_differs():
    base = load_device("rpi4")
    text = (
        "format: tinysearch.device\nversion: 1\nname: mine\nlike: rpi4\n"
        "memory:\n  capacity: {value: 8 GiB, assumed: true}\n"
        "latency:\n  dw:\n    depthwise-k5: {macs: 1 MMAC/s, source: measured}\n  error: null\n"
    )
    profile = parse_profile(text, "x.yaml")
    assert (profile.name, profile.runtime, profile.power) == ("mine", base.runtime, base.power)
    # A number is replaced with its origin: the base's source does not stay behind.
    assert (profile.memory.capacity.value, profile.memory.capacity.source) == (8 * 2**30, None)
    assert (profile.memory.budget, profile.latency.forward) == (base.memory.budget, base.latency.forward)
    assert set(profile.latency.dw) == {*base.latency.dw, "depthwise-k5"}
    assert profile.latency.error is None
    with pytest.raises(InputError, match=r"x.yaml, line 5: memory: the budget .* exceeds"):
        parse_profile(text.replace("latency:", "  budget: {value: 9 GiB, assumed: true}\nlatency:"), "x.yaml")
    with pytest.raises(InputError, match=r"x.yaml, line 4: like: .*'rpi5'.*rpi4"):
        parse_profile(text.replace("like: rpi4", "like: rpi5"), "x.yaml")
    with pytest.raises(InputError, match=r"x\.yaml, line 4: like: "):
        parse_profile(text.replace("like: rpi4", "like: [rpi4]"), "x.yaml")


def test_the_example_of_the_documentation_is_a_profile():
    text = (Path(__file__).parents[3] / "docs" / "device-profiles.md").read_text(encoding="utf-8")
    example = text.split("So another part of a family is\n")[1].split("\n## ")[0]
    profile = parse_profile(textwrap.dedent(example), "example")
    assert (profile.name, profile.memory.budget.value) == ("my-m7", 512 * 1024)


WRONG = {
    "unknown key": ("batch: 1\n", "batch: 1\nbatches: 2\n", "batches: 2", "batches"),
    "unknown unit": ("256 KiB, s", "256 KX, s", "256 KX", "'KX'"),
    "no unit": ("22.6 MMAC/s", "22.6", "22.6,", "no unit"),
    "unit of another quantity": ("0.33 W", "0.33 s", "0.33 s", "power.active"),
    "negative": ("value: 108.25 KiB", "value: -1 KiB", "-1 KiB", "negative"),
    "negative rate": ("199 MMAC/s", "-199 MMAC/s", "-199 MMAC/s", "latency.forward.pointwise.macs"),
    "zero rate": ("199 MMAC/s", "0 MMAC/s", "0 MMAC/s", "greater than 0"),
    "not finite": ("199 MMAC/s", "1e999 MMAC/s", "1e999", "finite"),
    "infinite": ("forward_scale: {value: 1.1", "forward_scale: {value: .inf", ".inf", "finite"),
    "no number": ("mape: 5.6", "mape: .nan", ".nan", "latency.error.mape"),
    "huge": ("value: 1 MiB", f"value: {10**400}", "0000", "flash.capacity.value"),
    "huge batch": ("batch: 1\n", f"batch: {10**400}\n", "batch: 1000", "batch"),
    "budget above capacity": ("{value: 256 KiB", "{value: 512 KiB", "memory:", "exceeds the capacity"),
    "no budget": ("{value: 256 KiB", "{value: 0 KiB", "memory:", "0 B"),
    "code above flash": ("{value: 1 MiB", "{value: 1 KiB", "flash:", "exceeds the capacity"),
    "regions do not add up": ("size: 64 KiB", "size: 32 KiB", "memory:", "add up"),
    "a region above capacity": ("size: 64 KiB", "size: 640 KiB", "memory:", "DTCM is larger"),
    "power below idle": ("{value: 0.33 W", "{value: 0.05 W", "power:", "below the idle"),
    "number without origin": ("value: 1.1, source: fitted", "value: 1.1", "forward_scale", "assumed"),
    "kernel without origin": ("macs: 199 MMAC/s, source: fitted", "macs: 199 MMAC/s", "199 MMAC/s", "assumed"),
    "kernel without time": ("macs: 199 MMAC/s, source: fitted", "source: fitted", "pointwise: {source", "at least one"),
    "no kernel": ("{macs: 199 MMAC/s, source: fitted}", "199 MMAC/s", "199 MMAC/s", "latency.forward.pointwise"),
    "unknown class": ("depthwise-k5-s2", "depthwise-5x5", "depthwise-5x5", "no class of kernels"),
    "class of another kind": ("depthwise-k5-s2", "linear-k5", "linear-k5", "no class of kernels"),
    "class of another phase": (
        "  dw:\n",
        "  dw:\n    input: {bytes: 1 GB/s, assumed: true}\n",
        "latency:",
        "dw has no kernels of class input",
    ),
    "class missing": ("    linear: {macs: 39 MMAC/s, assumed: true}\n", "", "  dx:", "linear missing"),
    "unknown part of a kernel": ("{macs: 199", "{flops: 1, macs: 199", "flops", "latency.forward.pointwise.flops"),
    "share above all": ("within_10: 80", "within_10: 180", "within_10", "100"),
    "latency without the device's clock": ("clock: {value: 216 MHz, source: data sheet}\n", "", "", "clock"),
    "not a number": ("batch: 1\n", "batch: many\n", "batch: many", "batch"),
    "range backwards": ("batch: [1, 2]", "batch: [4, 1]", "batch: [4, 1]", "smallest"),
    "given twice": ("batch: 1\n", "batch: 1\nbatch: 2\n", "batch: 2", "twice"),
    "no version": ("version: 1\n", "version: 0\n", "version: 0", "positive integer"),
    "word of no choice": ("kind: arena", "kind: stack", "kind: stack", "memory.kind"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_is_wrong_is_named_with_line_and_field(tmp_path, case):
    old, new, where, said = WRONG[case]
    text = MINE.replace(old, new, 1)
    assert text != MINE
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_device(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert message.startswith(f"{path}, line ")
    assert said in message
    line = int(message.removeprefix(f"{path}, line ").split(":")[0])
    assert line == _line(text, where), message


def test_an_empty_phase_is_refused():
    content = yaml.safe_load(MINE)
    content["latency"]["dw"] = {}
    with pytest.raises(InputError, match=r"latency\.dw: .*dense, pointwise, depthwise, linear, elementwise missing"):
        parse_profile(yaml.safe_dump(content), "x.yaml")


def test_a_missing_field_points_at_what_lacks_it():
    text = "\n".join(line for line in MINE.splitlines() if "idle:" not in line)
    with pytest.raises(InputError, match=rf"x.yaml, line {_line(text, 'power:')}: power.idle: field required"):
        parse_profile(text, "x.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a\n- b\n",
        "format: something else\n",
        "a: [1, 2\n",
        "a: &x 1\nb: *x\n",
        "format: !!python/object/apply:os.system ['true']\n",
        "? [a]\n: 1\n",
        "[" * 2000,
        "format: tinysearch.device\nversion: 1\n",
        "a: \x00\n",
        "x" * 300_000,
    ],
    ids=["empty", "list", "other", "cut off", "alias", "object", "odd key", "deep", "bare", "control", "huge"],
)
def test_what_is_no_profile_is_refused(text):
    with pytest.raises(InputError, match=r"x\.yaml"):
        parse_profile(text, "x.yaml")


def test_names_and_paths_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no device 'rpi5'.*rpi4"):
        load_device("rpi5")
    with pytest.raises(InputError, match="no such file"):
        load_device(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="folder"):
        load_device(tmp_path)


def test_a_users_profile_is_written_as_it_was_read():
    mine = parse_profile(MINE, "x.yaml")
    assert write_profile(parse_profile(write_profile(mine), "x.yaml")) == write_profile(mine)


@given(value=st.floats(min_value=0, allow_infinity=False, allow_nan=False, max_value=1e300))
def test_quantities_are_written_to_the_last_bit(value):
    for known in (units.SECONDS, units.MACS_PER_SECOND, units.BYTES_PER_SECOND, units.WATTS):
        assert units.parse_quantity(write_quantity(value, known), known) == value


SCHEMA_COMMAND = (
    'python -c "import json, tinysearch as ts; print(json.dumps(ts.DeviceProfile.json_schema(), indent=2))" '
    "> devices/profile.schema.json"
)


@pytest.fixture(scope="module")
def schema():
    return json.loads((resources.files("tinysearch.devices") / "profile.schema.json").read_text())


def test_the_shipped_schema_is_up_to_date(schema):
    assert schema == DeviceProfile.json_schema(), f"write it anew: {SCHEMA_COMMAND}"
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", list_devices())
def test_bundled_files_are_of_the_schema(schema, name):
    text = (resources.files("tinysearch.devices") / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")
    jsonschema.validate(yaml.safe_load(text), schema)
    jsonschema.validate(yaml.safe_load(write_profile(load_device(name))), schema)


#: What a schema cannot say: sums, orders of two fields, keys given twice, and texts that overflow.
BEYOND_SCHEMA = """
    budget above capacity; no budget; code above flash; regions do not add up; a region above capacity;
    power below idle; number without origin; kernel without origin; kernel without time; class of another phase;
    range backwards; latency without the device's clock; given twice; zero rate; not finite; infinite; no number; huge
"""


@pytest.mark.parametrize("case", sorted(set(WRONG) - set(" ".join(BEYOND_SCHEMA.split()).split("; "))))
def test_the_schema_refuses_what_it_can(schema, case):
    old, new, *_ = WRONG[case]
    jsonschema.validate(yaml.safe_load(MINE), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(MINE.replace(old, new, 1)), schema)
