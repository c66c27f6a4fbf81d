import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from searches import (
    OPTIONS,
    SMALL,
    TRIALS,
    Watcher,
    assert_group_ends,
    read_until,
    search,
    start,
    wait_for_a_spawned_process,
)

from tinysearch.core.errors import BudgetError, ConflictError, InputError, TinySearchError
from tinysearch.results.front import Front
from tinysearch.results.records import Rescore, TrialRecord
from tinysearch.results.rundir import RunDirectory
from tinysearch.search.data import load_dataset
from tinysearch.search.finetune import finetune
from tinysearch.search.problem import Problem
from tinysearch.search.request import Request
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.table import UpdateTable

FILES = {
    "request.json",
    "environment.json",
    "study.db",
    "trials.jsonl",
    "front.json",
    "policies",
    "pareto.png",
    ".lock",
}


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

    def front(problem: Problem, trials: Sequence[TrialRecord], rescores: Sequence[Rescore], *, among: int) -> Front:
        computed.append(compute(problem, trials, rescores, among=among))
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
    assert "Traceback" not in told, told
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
def test_processes_that_die_are_replaced_and_nothing_is_lost(finished: RunDirectory, tmp_path: Path) -> None:
    watcher = Assassin()
    out = search(tmp_path / "run", jobs=2, observer=watcher).path
    assert len(watcher.trials) == TRIALS
    assert (out / "front.json").read_bytes() == (finished.path / "front.json").read_bytes()


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
