import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tinysearch.core.errors import ConflictError, InputError
from tinysearch.results.identity import differences, run_name
from tinysearch.results.rundir import RunDirectory

ROOT = Path(__file__).resolve().parents[2]
REQUEST = {"device": "rpi4", "dataset": "digits", "trials": 50, "budget": {"memory": None, "latency": 0.8}}


def numbered(trials):
    return {trial.number: trial for trial in trials}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "x"


def test_a_new_folder_holds_request_and_environment(path):
    with RunDirectory.open(path, REQUEST, threads=2):
        pass
    assert json.loads((path / "request.json").read_text())["request"] == REQUEST
    (session,) = json.loads((path / "environment.json").read_text())["sessions"]
    assert session["python"] == sys.version.split()[0]
    assert session["threads"] == 2
    assert session["packages"]["torch"]
    assert session["packages"]["tinysearch"]
    assert RunDirectory.load(path).request == REQUEST


def test_the_same_request_resumes(path, genes, trial):
    with RunDirectory.open(path, REQUEST) as run, run.store(genes) as store:
        store.append(trial(0))
    with RunDirectory.open(path, REQUEST | {"trials": 50}) as run, run.store(genes) as store:
        assert store.all() == [trial(0)]
    assert len(json.loads((path / "environment.json").read_text())["sessions"]) == 2


def test_tuples_and_lists_are_the_same_request(path):
    RunDirectory.open(path, {"shape": (3, 96, 96)}).close()
    RunDirectory.open(path, {"shape": [3, 96, 96]}).close()


def test_another_request_is_refused_with_both_values(path):
    RunDirectory.open(path, REQUEST).close()
    before = {file: file.read_bytes() for file in path.iterdir()}
    other = REQUEST | {
        "trials": 60,
        "device": "cortex-m7-int8",
        "budget": {"memory": 1, "latency": 0.8},
        "seed": 1,
    }
    with pytest.raises(ConflictError) as caught:
        RunDirectory.open(path, other)
    message = str(caught.value)
    assert 'device was "rpi4", now "cortex-m7-int8"' in message
    assert "trials was 50, now 60" in message
    assert "budget.memory was null, now 1" in message
    assert "and 1 more" in message
    assert "another out" in message
    assert {file: file.read_bytes() for file in path.iterdir()} == before


def test_a_folder_that_is_no_run_is_left_alone(path):
    path.mkdir(parents=True)
    (path / "thesis.tex").write_text("x")
    with pytest.raises(ConflictError, match=r"thesis\.tex"):
        RunDirectory.open(path, REQUEST)
    assert [entry.name for entry in path.iterdir()] == ["thesis.tex"]


def test_what_an_interrupted_start_leaves_is_no_obstacle(path):
    path.mkdir(parents=True)
    (path / ".lock").touch()
    (path / ".unfinished-123-request.json").write_text("{")
    RunDirectory.open(path, REQUEST).close()


def test_a_file_in_the_way(path):
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(InputError, match="cannot keep a run there"):
        RunDirectory.open(path, REQUEST)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "tinysearch.run", "version": 1}', '{"format": "other"}'])
def test_a_damaged_request_is_refused_and_unlocked(path, text):
    path.mkdir(parents=True)
    (path / "request.json").write_text(text)
    for _ in range(2):
        with pytest.raises(InputError, match=r"request\.json"):
            RunDirectory.open(path, REQUEST)
    with pytest.raises(InputError, match=r"request\.json"):
        RunDirectory.load(path)


def test_requests_must_be_json(path):
    with pytest.raises(ValueError, match="JSON"):
        RunDirectory.open(path, {"rate": float("nan")})
    assert not path.exists()


def test_two_writers_never_share_a_run(path):
    with RunDirectory.open(path, REQUEST):
        with pytest.raises(ConflictError, match="another process"):
            RunDirectory.open(path, REQUEST)
        RunDirectory.load(path)
    RunDirectory.open(path, REQUEST).close()


HOLDER = """
import os, sys, time
from tinysearch.results.rundir import RunDirectory

run = RunDirectory.open(sys.argv[1], {"a": 1})
if os.fork() == 0:
    print("forked", flush=True)  # a worker that outlives its parent
time.sleep(60)
"""


def test_the_lock_ends_with_its_process_even_when_killed(path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "forked\n"
        with pytest.raises(ConflictError, match="another process"):
            RunDirectory.open(path, {"a": 1})
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        RunDirectory.open(path, {"a": 1}).close()
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.stdout.close()


OPENER = """
import sys
from tinysearch.results.rundir import RunDirectory
print("ready", flush=True)
while True:
    with RunDirectory.open(sys.argv[1], {"a": 1}) as run:
        run.store({"gene": 3}).close()
"""


@pytest.mark.slow
@pytest.mark.timed
def test_a_start_killed_at_any_moment_can_be_repeated(tmp_path):
    for attempt in range(6):
        path = tmp_path / str(attempt)
        opener = subprocess.Popen(
            [sys.executable, "-c", OPENER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert opener.stdout is not None
        opener.stdout.readline()
        time.sleep(0.003 * 4**attempt)
        os.kill(opener.pid, signal.SIGKILL)
        opener.wait()
        opener.stdout.close()
        with RunDirectory.open(path, {"a": 1}) as run, run.store({"gene": 3}) as store:
            assert len(store) == 0


def test_front_and_policies(path, genes, trial, front):
    trials = [trial(0), trial(1), trial(2, accuracy=0.1)]
    with RunDirectory.open(path, REQUEST) as run, run.store(genes) as store:
        with pytest.raises(InputError, match=r"no front\.json yet"):
            _ = run.front
        for record in trials:
            store.append(record)
        run.write_front(front(trials), numbered(trials))
    run = RunDirectory.load(path)
    assert run.front == front(trials)
    assert run.trials() == trials
    for member in run.front.members:
        assert run.policy_path(member).read_text() == trials[member.trial].policy
    assert sorted(file.stem for file in (path / "policies").iterdir()) == [trials[0].hash, trials[1].hash]


def test_policies_of_former_members_go_and_foreign_files_stay(path, trial, front):
    with RunDirectory.open(path, REQUEST) as run:
        run.write_front(front([trial(0)]), numbered([trial(0)]))
        (path / "policies" / "mine.json").write_text("{}")
        better = [trial(0), trial(1, accuracy=0.9, peak_bytes=1)]
        run.write_front(front(better), numbered(better))
    assert sorted(file.name for file in (path / "policies").iterdir()) == [f"{1:016x}.json", "mine.json"]


def test_what_a_killed_session_left_behind_goes_with_the_next_front(path, trial, front):
    """It was killed after front.json was written and before former members were removed."""
    trials = [trial(0), trial(1, accuracy=0.9, peak_bytes=1)]
    with RunDirectory.open(path, REQUEST) as run:
        run.write_front(front(trials[:1]), numbered(trials[:1]))
    with RunDirectory.open(path, REQUEST) as run:
        run.write_front(front(trials), numbered(trials))
    assert [file.stem for file in (path / "policies").iterdir()] == [trials[1].hash]


def test_a_front_costs_no_look_at_all_trials(path, trial, front):
    """Only the first of a session does; a run has a front for each of its trials."""

    class Members(dict):
        def values(self):
            looked.append(len(self))
            return super().values()

    looked = []
    trials = Members()
    with RunDirectory.open(path, REQUEST) as run:
        for number in range(6):
            trials[number] = trial(number, accuracy=0.5 + number / 100, peak_bytes=600 - 100 * number)
            run.write_front(front(list(dict.values(trials))), trials)
            assert [file.stem for file in (path / "policies").iterdir()] == [trials[number].hash]
    assert looked == [1]


def test_a_reader_cannot_write(path, genes, trial, front):
    RunDirectory.open(path, REQUEST).close()
    run = RunDirectory.load(path)
    with pytest.raises(ValueError, match="reading"):
        run.store(genes)
    with pytest.raises(ValueError, match="reading"):
        run.write_front(front([trial(0)]), numbered([trial(0)]))


def test_a_policy_outside_the_run_is_not_followed(path, trial, front):
    RunDirectory.open(path, REQUEST).close()
    member = replace(front([trial(0)]).members[0], policy="../../../etc/passwd")
    with pytest.raises(InputError, match="outside the run"):
        RunDirectory.load(path).policy_path(member)


def test_what_is_no_run_cannot_be_loaded(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        RunDirectory.load(tmp_path / "none")
    with pytest.raises(InputError, match="is no run"):
        RunDirectory.load(tmp_path)


def test_plot_by_default_lies_in_the_run(path, genes, cloud, front):
    trials = [replace(record, row=None) for record in cloud(10)]
    with RunDirectory.open(path, REQUEST) as run, run.store(genes) as store:
        for record in trials:
            store.append(record)
        run.write_front(front(trials), numbered(trials))
    assert RunDirectory.load(path).plot_pareto() == path / "pareto.png"
    assert (path / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_run_names_are_stable_safe_and_differ():
    name = run_name(REQUEST)
    assert name == run_name(dict(reversed(REQUEST.items())))
    assert name.startswith("rpi4-digits-")
    assert run_name(REQUEST | {"trials": 51}) != name
    odd = run_name({"device": "../../my device.yaml", "dataset": "/data/my set/"})
    assert Path(odd).name == odd
    assert odd.isascii()
    assert " " not in odd


def test_differences_of_nested_and_missing_keys():
    assert differences({"a": {"b": 1}}, {"a": {"b": 1}}) == ""
    assert differences({"a": {"b": 1}}, {"a": {}}) == "a was not stated, now {}; a.b was 1, now not stated"
