"""Searches with a small network, in this process and on the command line, and an observer of them."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinysearch.results.front import Front
from tinysearch.results.records import Rescore, TrialRecord
from tinysearch.results.rundir import RunDirectory
from tinysearch.search.problem import Problem
from tinysearch.search.run import run

TRIALS = 12
#: A proxy that learns enough for a front of several members; options of the command line too.
SMALL = {"shot": 40, "queries": 100, "steps": 25}
#: What `python -m tinysearch run` and `search` below are both asked.
OPTIONS = {"backbone": "tiny_net:build", "weights": "none", "trials": TRIALS, "seed": 3, "sampler": "nsga2"}


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
