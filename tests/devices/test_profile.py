"""Profiles: the bundled ones, a user's own, and everything that can be wrong with one."""

from importlib import resources

import pytest

from tinysearch.devices.profile import list_devices, load_device, parse_profile
from tinysearch.spaces.errors import InputError


def _text(name: str = "cortex-m7") -> str:
    return (resources.files("tinysearch.devices") / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")


def _line(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


def test_bundled_profiles_load():
    assert {"cortex-m7", "rpi4", "jetson-nano"} <= set(list_devices())
    for name in list_devices():
        profile = load_device(name)
        assert profile.name == name
        assert profile.memory.budget.value <= profile.memory.capacity.value


def test_values_are_in_base_units_and_assumptions_are_marked():
    profile = load_device("cortex-m7")
    assert profile.memory.capacity.value == 320 * 1024
    assert profile.memory.budget.value == 256 * 1024
    assert profile.latency.backward.dense.value == 36e6
    assert "latency.backward.dense" in profile.assumed
    assert "memory.capacity" not in profile.assumed


def test_a_users_file(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(_text().replace("name: cortex-m7", "name: mine").replace("256 KiB", "200 KiB"))
    profile = load_device(path)
    assert (profile.name, profile.memory.budget.value) == ("mine", 200 * 1024)
    assert load_device(str(path)) == profile


WRONG = {
    "unknown key": ("batch: 1\n", "batch: 1\nbatches: 2\n", "batches: 2", "batches"),
    "unknown unit": ("256 KiB", "256 KX", "256 KX", "'KX'"),
    "no unit": ("22.6 MMAC/s", "22.6", "22.6,", "no unit"),
    "unit of another quantity": ("0.33 W", "0.33 s", "0.33 s", "power.active"),
    "negative": ("value: 108.25 KiB", "value: -1 KiB", "-1 KiB", "negative"),
    "zero rate": ("199 MMAC/s", "0 MMAC/s", "0 MMAC/s", "greater than 0"),
    "not finite": ("199 MMAC/s", "1e999 MMAC/s", "1e999", "finite"),
    "budget above capacity": ("{value: 256 KiB", "{value: 512 KiB", "memory:", "exceeds the capacity"),
    "regions do not add up": ("size: 240 KiB", "size: 200 KiB", "memory:", "add up"),
    "power below idle": ("{value: 0.33 W", "{value: 0.05 W", "power:", "below the idle"),
    "number without origin": (
        '{value: 1.0, assumed: true, source: "no whole',
        '{value: 1.0} # {"',
        "1.0} #",
        "assumed",
    ),
    "not a number": ("batch: 1\n", "batch: many\n", "batch: many", "batch"),
    "range backwards": ("batch: [1, 1]", "batch: [4, 1]", "batch: [4, 1]", "smallest"),
    "given twice": ("batch: 1\n", "batch: 1\nbatch: 2\n", "batch: 2", "twice"),
    "version of the future": ("version: 1\n", "version: 7\n", "version: 7", "7"),
    "word of no choice": ("kind: arena", "kind: stack", "kind: stack", "memory.kind"),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_is_wrong_is_named_with_line_and_field(tmp_path, case):
    old, new, where, said = WRONG[case]
    text = _text().replace(old, new, 1)
    assert text != _text()
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_device(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}, line ")
    assert said in message
    line = int(message.removeprefix(f"{path}, line ").split(":")[0])
    assert line == _line(text, where), message


def test_a_missing_field_points_at_what_lacks_it():
    text = "\n".join(line for line in _text().splitlines() if "idle:" not in line)
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
