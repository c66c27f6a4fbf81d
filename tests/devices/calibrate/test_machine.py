"""From a machine to a profile, with a small network and little time."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest

from tinysearch.core.errors import BusyError, InputError, TinySearchError
from tinysearch.devices.calibrate import machine as module
from tinysearch.devices.calibrate.assemble import make_profile
from tinysearch.devices.calibrate.jobs import Effort, make_jobs
from tinysearch.devices.calibrate.machine import calibrate, from_results, refuse_busy
from tinysearch.devices.calibrate.results import Traces, disturbance, parse_results, read_results, samples
from tinysearch.devices.profile import load_device
from tinysearch.spaces.policy import UpdatePolicy

ROOT = Path(__file__).resolve().parent.parent.parent.parent
EFFORT = Effort(networks=3, policies=5, visits=2, repeats=1, memory=6, seconds=120.0)


@pytest.fixture(scope="module", autouse=True)
def own_backbones():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT / "tests" / "user"), *sys.path])
        yield


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    shares = []
    make = partial(make_jobs, "tiny_net:build", 16, batch=2, threads=1, effort=EFFORT)
    calibration = calibrate(make, folder / "here.yaml", force=True, keep=folder / "kept.json", progress=shares.append)
    return folder, calibration, shares


def test_the_profile_that_is_written_loads_and_predicts(calibrated):
    folder, calibration, shares = calibrated
    profile = load_device(folder / "here.yaml")
    assert profile == calibration.profile
    assert profile.name == "here"
    assert (profile.batch, profile.optimizer) == (2, "adam")
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert profile.latency.error is not None
    assert profile.latency.error.repeatability is not None
    assert "1 thread," in profile.runtime
    assert profile.memory.baseline.value >= 50e6  # PyTorch alone
    assert profile.memory.working_set is not None
    assert {"power.idle", "power.active"} <= set(profile.assumed)
    assert not [name for name in profile.assumed if name.startswith("memory.")]


def test_every_row_of_the_trace_is_timed(calibrated):
    results = read_results(calibrated[0] / "kept.json")
    for sample in samples(results, Traces(results.jobs, "kept")):
        table = sample.table
        rows = [table.trace.rows[n] for n in table.present[0].nonzero()[0]]
        assert {row.name for row in rows} <= set(sample.forward)
        live = {table.trace.rows[n].name for n in table.live_inputs[0].nonzero()[0]}
        assert live <= set(sample.backward)


def test_results_that_were_kept_make_the_same_profile(calibrated, tmp_path):
    again = from_results(calibrated[0] / "kept.json", tmp_path / "here.yaml")
    assert again.profile == calibrated[1].profile


def test_each_policy_is_come_back_to_and_its_median_counts(calibrated):
    content = json.loads((calibrated[0] / "kept.json").read_text())
    assert {len(step["seconds"]) for step in content["steps"]} == {EFFORT.visits * EFFORT.repeats}
    for step in content["steps"]:
        step["seconds"] = [0.013, 0.010, 0.012]
    results = parse_results(content, "kept")
    assert {sample.seconds for sample in samples(results, Traces(results.jobs, "kept"))} == {0.012}
    assert disturbance(results) == pytest.approx(20.0)
    calibration = make_profile(results, "x", "kept")
    assert "20 % longer as a rule than at their fastest" in calibration.profile.description
    assert any("20 % longer as a rule than at" in warning for warning in calibration.warnings)


def test_steps_repeat_and_networks_vary_around_the_backbone():
    jobs = make_jobs(effort=Effort(networks=6, policies=3))
    names = [(network["backbone"], network["input_size"]) for network in jobs["networks"]]
    assert names[0] == ("mobilenetv2-w0.35", 96)
    assert len(set(names)) == len(names) == 6
    assert len({size for _, size in names}) >= 3
    steps = [json.dumps(step) for step in jobs["steps"]]
    assert len(steps) - len(set(steps)) == 2
    assert all(UpdatePolicy.from_json(step["policy"]).head == "classifier.1" for step in jobs["steps"])
    assert jobs == make_jobs(effort=Effort(networks=6, policies=3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "the batch is 0"),
        ({"threads": 0}, "the threads is 0"),
        ({"optimizer": "lion"}, "no optimizer named 'lion'"),
        ({"backbone": "mobilenetv9"}, "unknown backbone"),
        ({"backbone": "mobilenetv2-w0.1", "input_size": -1}, "the input size is -1"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        make_jobs(**changes)


def test_a_busy_machine_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "busy_cores", lambda: 1.4)
    with pytest.raises(BusyError, match=r"keep 1\.4 of .* cores busy \(load .* with force") as caught:
        calibrate(pytest.fail, tmp_path / "x.yaml")
    assert caught.value.exit_code == 8
    monkeypatch.setattr(module, "busy_cores", lambda: None)
    monkeypatch.setattr(module, "jitter", lambda: 3.0)
    with pytest.raises(BusyError, match=r"3\.0 times as long"):
        refuse_busy()
    monkeypatch.setattr(module, "jitter", lambda: 1.01)
    refuse_busy()


@pytest.mark.parametrize(
    ("out", "message"),
    [("profile", "ends in .yaml"), ("gone/x.yaml", "there is no folder"), ("...yaml", "named after its file")],
)
def test_a_file_that_cannot_be_written_is_refused_before_measuring(out, message, tmp_path):
    with pytest.raises(InputError, match=message):
        calibrate(pytest.fail, tmp_path / out, force=True)


def test_a_folder_is_no_profile(tmp_path):
    (tmp_path / "x.yaml").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        calibrate(pytest.fail, tmp_path / "x.yaml", force=True)


def test_a_worker_that_ends_early_is_one_line(tmp_path):
    with pytest.raises(TinySearchError, match=r"ended early: KeyError: 'device'$"):
        calibrate(lambda: {"threads": 1}, tmp_path / "x.yaml", force=True)
    assert not (tmp_path / "x.yaml").exists()


def change(content, path, value):
    *way, last = path
    for part in way:
        content = content[part]
    if value is None:
        del content[last]
    else:
        content[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "tinysearch.run", 'kept: no results of a calibration: "format"'),
        (("version",), "2", '"version" must be a positive integer'),
        (("threads",), None, "threads: field required"),
        (("steps", 0, "seconds"), [], "seconds"),
        (("steps", 0, "seconds", 0), -1.0, "greater than 0"),
        (("steps", 0, "forward", "head"), 1e9, "less than"),
        (("steps", 0, "step"), 9999, "was not asked for"),
        (("jobs", "steps", 0, "network"), 77, "a network that is not there"),
        (("machine", "cores"), "many", "cores"),
        (("jobs", "steps", 0, "policy"), "{}", "step 0"),
        (("jobs", "networks", 0, "backbone"), "mobilenetv9", "unknown backbone"),
        (("steps",), [], "0 steps were measured"),
    ],
)
def test_nonsense_from_a_board_is_one_line(calibrated, path, value, message):
    content = json.loads((calibrated[0] / "kept.json").read_text())
    change(content, path, value)
    with pytest.raises(InputError) as caught:
        make_profile(parse_results(content, "kept"), "x", "kept")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '"' + "x" * 100, "[" * 100_000])
def test_what_is_no_results_file_is_one_line(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        from_results(path, tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))
