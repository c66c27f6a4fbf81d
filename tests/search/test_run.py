import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tinysearch.core.errors import BudgetError, ConflictError, InputError, TinySearchError
from tinysearch.results.front import Front
from tinysearch.results.records import Rescore, TrialRecord
from tinysearch.results.rundir import RunDirectory
from tinysearch.results.tables import render
from tinysearch.search.data import load_dataset
from tinysearch.search.finalists import SHARE
from tinysearch.search.finetune import finetune
from tinysearch.search.problem import Problem
from tinysearch.search.request import Request
from tinysearch.search.run import run
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.table import UpdateTable

TRIALS = 12
#: A proxy that learns enough for a front of several members; options of the command line too.
SMALL = {"shot": 40, "queries": 100, "steps": 25}
#: What `python -m tinysearch run` and `search` below are both asked.
OPTIONS = {"backbone": "tiny_net:build", "weights": "none", "trials": TRIALS, "seed": 3, "sampler": "nsga2"}
FILES = {"request.json", "environment.json", "study.db", "front.json", "policies", "pareto.png", ".lock"}


def search(out: Path, **changes: Any) -> RunDirectory:
    return run(out=out, **({"jobs": 1, "proxy": SMALL} | OPTIONS | changes))


def start(out: Path, tmp_path: Path, *more: str, **changes: Any) -> "subprocess.Popen[str]":
    """The same on the command line, as the leader of a process group of its own, as a shell starts it."""
    config = tmp_path / "options.yaml"
    config.write_text(json.dumps(OPTIONS | SMALL | changes))
    return subprocess.Popen(
        [sys.executable, "-m", "tinysearch", "run", "-c", str(config), "--out", str(out), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_until(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Read standard error up to a line that matches."""
    text = ""
    assert process.stderr is not None
    for line in process.stderr:
        text += line
        if re.search(pattern, line):
            return text
    raise AssertionError(f"ended without {pattern!r}:\n{text}")


def assert_group_ends(group: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("processes are left behind")


def wait_for_a_spawned_process(group: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        listed = subprocess.run(
            ["ps", "-A", "-ww", "-o", "pgid=,args="], capture_output=True, text=True, check=True
        ).stdout
        if any(line.split()[0] == str(group) and "spawn_main" in line for line in listed.splitlines()):
            return
        time.sleep(0.05)
    raise AssertionError("no process was spawned")


class Watcher:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.done: list[TrialRecord] = []
        self.trials: list[TrialRecord] = []
        self.fronts: list[Front | None] = []
        self.reasons: list[str] = []
        self.rounds: list[tuple[int, list[int]]] = []
        self.rescores: list[Rescore] = []

    def prepared(self, problem: Problem, run: RunDirectory, done: Sequence[TrialRecord]) -> None:
        self.done = list(done)

    def trial(self, record: TrialRecord, front: Front | None) -> None:
        self.trials.append(record)
        self.fronts.append(front)

    def rescoring(self, number: int, trials: Sequence[TrialRecord]) -> None:
        self.rounds.append((number, [trial.number for trial in trials]))

    def rescored(self, rescore: Rescore, front: Front | None) -> None:
        self.rescores.append(rescore)
        self.fronts.append(front)

    def ended(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    torch.set_num_threads(1)
    return search(tmp_path_factory.mktemp("finished") / "run")


def test_a_run_leaves_its_files_and_a_front_of_policies_that_train(finished: RunDirectory) -> None:
    assert {path.name for path in finished.path.iterdir()} == FILES
    front = Front.from_json((finished.path / "front.json").read_text())
    assert front == finished.front
    assert front.run.trials == len(finished.trials()) >= TRIALS
    assert len(front.members) >= 2
    assert (finished.path / "pareto.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert {f"policies/{path.name}" for path in (finished.path / "policies").iterdir()} == {
        member.policy for member in front.members
    }
    backbone = load_backbone("tiny_net:build", num_classes=10)
    digits = load_dataset("digits", None)
    for member in front.members:
        policy = UpdatePolicy.load(finished.policy_path(member))
        assert (policy.hash, policy.training.learning_rate) == (member.hash, member.learning_rate)
        model = apply(backbone, policy)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) > 0
    result = finetune(backbone, policy, digits, steps=3, train_images=100, test_images=50)
    assert 0 <= result.accuracy <= 1


def test_the_same_request_finds_its_run_finished(finished: RunDirectory) -> None:
    before = (finished.path / "front.json").read_bytes()
    watcher = Watcher()
    search(finished.path, observer=watcher)
    assert watcher.trials == []
    assert len(watcher.done) == len(finished.trials())
    assert (finished.path / "front.json").read_bytes() == before


def test_the_same_seed_gives_the_same_front_and_another_seed_another(finished: RunDirectory, tmp_path: Path) -> None:
    again = search(tmp_path / "again")
    assert (again.path / "front.json").read_bytes() == (finished.path / "front.json").read_bytes()
    other = search(tmp_path / "other", seed=4, trials=4)
    assert [t.accuracy for t in other.trials()] != [t.accuracy for t in finished.trials()[:4]]


def test_an_observer_is_told_every_trial_with_the_front_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front is computed once a trial, and once more when the run is concluded."""
    computed: list[Front] = []
    compute = Problem.front

    def front(problem: Problem, trials: Sequence[TrialRecord], rescores: Sequence[Rescore]) -> Front:
        computed.append(compute(problem, trials, rescores))
        return computed[-1]

    monkeypatch.setattr(Problem, "front", front)
    watcher = Watcher()
    done = search(tmp_path / "run", trials=5, observer=watcher)
    assert watcher.done == []
    assert watcher.trials == sorted(watcher.trials, key=lambda record: record.number)
    assert watcher.fronts == computed[:-1]
    assert len(watcher.trials) == 5 == watcher.fronts[-1].run.trials
    assert watcher.fronts[-1] == done.front
    assert watcher.reasons == ["5 policies were tried"]


def test_a_run_whose_time_is_over_says_so(tmp_path: Path) -> None:
    watcher = Watcher()
    search(tmp_path / "run", trials=50, time_budget="1ms", observer=watcher)
    assert watcher.reasons == ["the time of 1 ms is over"]


def test_more_trials_may_be_asked_of_a_finished_run(finished: RunDirectory, tmp_path: Path) -> None:
    search(tmp_path / "run", trials=6)
    longer = search(tmp_path / "run", trials=TRIALS)
    assert longer.front == finished.front


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 9}, r"seed was 3, now 9"),
        ({"device": "jetson-nano"}, r'device was "rpi4", now "jetson-nano"'),
        ({"max_memory": "1MiB"}, r"max_memory was null, now 1048576"),
        ({"proxy": SMALL | {"steps": 5}}, r"proxy.steps was 25, now 5"),
        ({"backbone": "tiny_net:one_conv"}, r"backbone was"),
    ],
)
def test_another_request_is_refused(changes: dict[str, Any], said: str, finished: RunDirectory) -> None:
    before = (finished.path / "front.json").stat().st_mtime_ns
    with pytest.raises(ConflictError, match=said):
        search(finished.path, **changes)
    assert (finished.path / "front.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"max_memory": "10KiB"}, r"nothing fits 10 KiB of peak memory on rpi4.*raise max_memory \(RAM: "),
        ({"max_latency": "1us"}, r"nothing fits 1 us of step latency.*raise max_latency"),
        ({"max_energy": "1uJ"}, r"nothing fits 1 uJ of step energy.*raise max_energy"),
    ],
)
def test_an_impossible_budget_is_refused_before_anything_is_made(
    limit: dict[str, str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(BudgetError, match=said) as caught:
        search(tmp_path / "run", **limit)
    needed = re.search(
        r"the smallest policy \(head only\) of tiny_net:build at 16x16, in batches of 8, needs ([^:]+):",
        str(caught.value),
    )
    assert needed
    assert not (tmp_path / "run").exists()


def test_a_budget_that_the_refusal_named_is_enough(tmp_path: Path, make_problem: Callable[..., Problem]) -> None:
    with pytest.raises(BudgetError) as caught:
        make_problem(max_memory="10KiB")
    needed = re.search(r"needs ([\d.]+) KiB", str(caught.value))
    assert needed
    assert make_problem(max_memory=f"{float(needed[1]) + 1:.0f}KiB").limits.peak_bytes


def test_an_arena_lies_in_one_piece_of_ram(make_problem: Callable[..., Problem]) -> None:
    problem = make_problem(device="cortex-m7-int8", max_memory="256KiB")
    table = UpdateTable.of(problem.trace, [methods.full(problem.trace)])
    assert problem.exact(table).peak_bytes[0] >= problem.cost(table).peak_bytes[0]
    with pytest.raises(InputError, match="more than the 256 KiB of RAM that cortex-m7-int8 has in one piece"):
        make_problem(device="cortex-m7-int8", max_memory="300KiB")


@pytest.mark.parametrize(
    "limit", [{"max_latency": 0.5}, {"max_energy": 0.5}, {"max_memory": 10**6}, {"time_budget": 60}]
)
def test_limits_may_be_numbers_in_base_units(limit: dict[str, float]) -> None:
    (name, value), *_ = limit.items()
    assert getattr(Request.make(**limit), name) == value


@pytest.mark.parametrize(
    "limit", [{"max_latency": -1}, {"max_energy": float("nan")}, {"max_memory": 0}, {"max_latency": "1"}]
)
def test_limits_that_are_none_are_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Request.make(**limit)


@pytest.mark.parametrize("jobs", [0, -1, 65])
def test_a_wrong_number_of_jobs_is_refused(jobs: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"jobs is {jobs}: it must be from 1 to 4"):
        search(tmp_path / "run", jobs=jobs)
    assert not (tmp_path / "run").exists()


def test_limits_are_kept_by_all_that_was_trained(tmp_path: Path, finished: RunDirectory) -> None:
    peaks = sorted(trial.peak_bytes or 0 for trial in finished.trials())
    limited = search(tmp_path / "run", max_memory=peaks[3], trials=8)
    trials = limited.trials()
    assert all((t.peak_bytes or 0) <= peaks[3] for t in trials if t.state == "complete")
    assert sum(t.state == "complete" for t in trials) == 8
    assert any(t.state == "infeasible" and t.method == "full" for t in trials)


def test_a_run_in_which_every_policy_fails_says_why(tmp_path: Path) -> None:
    for _ in range(2):  # and again when it is resumed
        with pytest.raises(TinySearchError, match="none of 3 policies could be trained; the first: training diverges"):
            search(tmp_path / "run", backbone="tiny_net:diverging", trials=3)
    assert not (tmp_path / "run" / "front.json").exists()


# --- stopped and killed ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timed
def test_a_killed_run_resumes_to_the_same_front(finished: RunDirectory, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out, tmp_path, "--jobs", "2")
    read_until(process, r"^\[5/")
    process.kill()
    process.communicate()
    assert_group_ends(process.pid)
    kept = RunDirectory.load(out).trials()
    assert 5 <= len(kept) < TRIALS
    process = start(out, tmp_path, "--jobs", "1")
    printed, told = process.communicate(timeout=120)
    assert process.returncode == 0
    assert f"resuming after {len(kept)} trials" in told
    assert (out / "front.json").read_bytes() == (finished.path / "front.json").read_bytes()
    numbers = [trial.number for trial in RunDirectory.load(out).trials()]
    assert numbers == list(range(TRIALS))
    assert "hypervolume" in printed


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.parametrize("moment", [r"^\[5/", r"kept in"], ids=["at work", "while processes start"])
def test_ctrl_c_keeps_what_is_done_and_leaves_no_process(moment: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out, tmp_path, "--jobs", "2", trials=5000)
    read_until(process, moment)
    if moment == "kept in":
        wait_for_a_spawned_process(process.pid)
        time.sleep(0.5)  # within the seconds that importing torch takes
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert told.splitlines()[-1] == "tinysearch: stopped; what was finished is kept, and the same command goes on"
    assert_group_ends(process.pid)
    if moment != "kept in":
        run_ = RunDirectory.load(out)
        assert len(run_.trials()) >= 5
        assert run_.front.members
        assert (out / "pareto.png").is_file()


@pytest.mark.slow
@pytest.mark.timed
def test_a_script_without_a_main_guard_may_use_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import tinysearch as ts\n"
        "print('once')\n"
        f"run = ts.run(out={str(tmp_path / 'run')!r}, jobs=2, proxy={SMALL!r}, **{OPTIONS | {'trials': 2}!r})\n"
        "print(len(run.trials()))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, ["once", "2"], "")


@pytest.mark.slow
@pytest.mark.timed
def test_a_process_that_dies_ends_the_run_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(TinySearchError, match="a process that scored policies died"):
        search(tmp_path / "run", backbone="tiny_net:build", jobs=2, observer=Assassin(), trials=50)


class Assassin(Watcher):
    """Kills the worker processes after the second trial, as a kernel short of memory does."""

    def trial(self, record: TrialRecord, front: Front | None) -> None:
        import multiprocessing

        super().trial(record, front)
        if len(self.trials) == 2:
            for child in multiprocessing.active_children():
                child.kill()


# --- the default sampler ----------------------------------------------------------------------------------------------


def test_the_default_sampler_compares_with_the_head(tmp_path: Path) -> None:
    found = search(tmp_path / "run", sampler="auto", trials=9)
    trials = found.trials()
    assert trials[0].method == "last"
    assert sum(trial.method is not None for trial in trials) == 1
    members = found.front.members
    assert all(member.gain is not None and member.tied is not None for member in members)
    assert found.front.recommended in members
    assert found.front.find("recommended") == found.front.recommended
    assert all(len(bytes.fromhex(trial.answers)) == -(-SMALL["queries"] // 8) for trial in trials)


def test_compared_with_the_methods_all_are_scored(tmp_path: Path) -> None:
    found = search(tmp_path / "run", sampler="auto", compare=True, trials=8)
    assert all(trial.method is not None for trial in found.trials() if trial.state == "complete")


def test_a_network_whose_answers_are_not_finite_is_refused_by_the_screen(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the network's answers are not finite"):
        search(tmp_path / "run", sampler="auto", backbone="tiny_net:diverging", trials=3)


@pytest.mark.slow
def test_a_run_that_is_taken_further_finds_what_one_would_have(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", sampler="auto", trials=11)
    search(tmp_path / "parts", sampler="auto", trials=6)
    parts = search(tmp_path / "parts", sampler="auto", trials=11)
    assert (parts.path / "front.json").read_bytes() == (whole.path / "front.json").read_bytes()


# --- finalists, scored again ------------------------------------------------------------------------------------------

#: A run by the default sampler whose front is not decided by its trials.
BRIEF = {"shot": 20, "queries": 100, "steps": 5}
AUTO = {"sampler": "auto", "trials": 8, "proxy": BRIEF}


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, Watcher]:
    torch.set_num_threads(1)
    watcher = Watcher()
    return search(tmp_path_factory.mktemp("decided") / "run", observer=watcher, **AUTO), watcher


def front_bytes(run_: RunDirectory) -> bytes:
    return (run_.path / "front.json").read_bytes()


def test_finalists_are_scored_again_before_the_front_is_final(decided: tuple[RunDirectory, Watcher]) -> None:
    found, watcher = decided
    trials, rescores = found.trials(), found.rescores()
    assert 2 <= len(rescores) <= 8 // SHARE
    assert [number for number, _ in watcher.rounds] == list(range(1, len(watcher.rounds) + 1))
    assert sorted(rescore.trial for rescore in watcher.rescores) == sorted(t for _, due in watcher.rounds for t in due)
    assert any(trials[rescore.trial].method == "last" for rescore in rescores)
    (reason,) = watcher.reasons
    assert reason == f"8 policies were tried; {len(rescores)} fine-tunings of finalists were repeated on other images"
    assert watcher.fronts[-1] == found.front != watcher.fronts[7]
    for rescore in rescores:  # of the same split, and yet other images
        before = trials[rescore.trial]
        assert len(rescore.images) == len(before.images) == SMALL["queries"]
        assert rescore.images != before.images
        assert rescore.accuracy is not None


def test_members_say_how_likely_a_cheaper_one_is_as_good(decided: tuple[RunDirectory, Watcher]) -> None:
    front = decided[0].front
    assert len(front.members) > 1
    for member in front.members:
        assert (member.cheaper_as_good is None) == (front.rival(member) is None)
    assert "cheaper_as_good" in render(decided[0].front, "csv").splitlines()[0]


class Impatient(Watcher):
    """Stops the run when a finalist has been scored again."""

    def rescored(self, rescore: Rescore, front: Front | None) -> None:
        raise KeyboardInterrupt


def test_what_was_scored_again_is_not_scored_again_and_the_front_is_the_same(
    decided: tuple[RunDirectory, Watcher], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for stopped in range(1, len(decided[0].rescores()) + 1):
        with pytest.raises(KeyboardInterrupt):
            search(out, observer=Impatient(), **AUTO)
        assert len(RunDirectory.load(out).rescores()) == stopped
        assert RunDirectory.load(out).front.members
    watcher = Watcher()
    finished = search(out, observer=watcher, **AUTO)
    assert (watcher.rescores, watcher.reasons) == ([], [])
    assert front_bytes(finished) == front_bytes(decided[0])


def test_it_may_be_left_out_and_made_up_for(decided: tuple[RunDirectory, Watcher], tmp_path: Path) -> None:
    watcher = Watcher()
    search(tmp_path / "run", rescore=0, observer=watcher, **AUTO)
    assert (watcher.rounds, watcher.reasons) == ([], ["8 policies were tried"])
    # Nor is a round begun when the time is over.
    search(tmp_path / "run", time_budget=1e-9, observer=watcher, **AUTO)
    assert watcher.rounds == []
    finished = search(tmp_path / "run", **AUTO)
    assert front_bytes(finished) == front_bytes(decided[0])
    assert "rescore" not in finished.request
    # What is known is not forgotten for being asked not to learn more.
    search(tmp_path / "run", rescore=0, **AUTO)
    assert front_bytes(finished) == front_bytes(decided[0])


def test_a_run_from_before_images_were_noted_goes_on(tmp_path: Path) -> None:
    old = search(tmp_path / "run", rescore=0, **AUTO)
    with sqlite3.connect(old.path / "study.db") as database:
        database.execute("DELETE FROM trial_user_attributes WHERE key = 'images'")
    database.close()
    assert all(trial.images == () for trial in old.trials())
    finished = search(old.path, **AUTO)
    assert finished.rescores()
    assert all(member.gain is not None for member in finished.front.members)


@pytest.mark.slow
@pytest.mark.timed
def test_a_run_killed_while_it_scores_again_resumes_to_the_same_front(
    decided: tuple[RunDirectory, Watcher], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = start(out, tmp_path, "--jobs", "2", sampler="auto", trials=8, **BRIEF)
    told = read_until(process, r" again: ")
    process.kill()
    process.communicate()
    assert_group_ends(process.pid)
    assert f"re-scoring {len(decided[1].rounds[0][1])} finalists on other images (round 1)" in told
    assert RunDirectory.load(out).rescores()
    process = start(out, tmp_path, "--jobs", "2", sampler="auto", trials=8, **BRIEF)
    assert process.wait(timeout=120) == 0
    process.communicate()
    assert front_bytes(RunDirectory.load(out)) == front_bytes(decided[0])
