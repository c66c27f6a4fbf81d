"""Searches that are killed, doubled and copied, and that find the disk full: benchmarks/reliability.py does more."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from searches import OPTIONS, read_until, search, start

from tinysearch.results.rundir import RunDirectory
from tinysearch.search.run import run

FEW = {"shot": 5, "queries": 40, "steps": 2}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    torch.set_num_threads(1)
    return search(tmp_path_factory.mktemp("finished") / "run", proxy=FEW)


def outcome(path: Path) -> tuple[object, ...]:
    """What a search came to, but for times."""
    found = RunDirectory.load(path)
    trials = [replace(trial, seconds=0.0, started="") for trial in found.trials()]
    return (path / "front.json").read_bytes(), trials, [replace(each, seconds=0.0) for each in found.rescores()]


def begin(out: Path, tmp_path: Path, **more: Any) -> "subprocess.Popen[str]":
    """The search on the command line, by one process."""
    config = tmp_path / "options.yaml"
    config.write_text(json.dumps(OPTIONS | FEW | {"jobs": 1}))
    command = [sys.executable, "-m", "tinysearch", "run", "-c", str(config), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def at_most(size: int) -> Callable[[], None]:
    """Let no file of a process grow beyond a size, as if the disk were full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
@pytest.mark.timed
def test_a_search_killed_at_random_moments_comes_to_the_same(finished: RunDirectory, tmp_path: Path) -> None:
    chance = random.Random(1)
    out = tmp_path / "run"
    kept = 0
    for _ in range(3):
        process = start(out, tmp_path, "--jobs", "1", **FEW)
        read_until(process, "kept in")
        time.sleep(chance.uniform(0, 1.5))
        process.kill()
        process.communicate()
        finished_now = len(RunDirectory.load(out).trials()) if (out / "trials.jsonl").exists() else 0
        assert finished_now >= kept
        kept = finished_now
    search(out, proxy=FEW)
    assert outcome(out) == outcome(finished.path)
    assert not list(out.rglob(".unfinished-*"))


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.parametrize("size", [1_000, 60_000, 140_000])
def test_a_full_disk_is_one_line_and_loses_nothing(size: int, finished: RunDirectory, tmp_path: Path) -> None:
    """Of the request, of the record or the study when it is made, and of a trial."""
    out = tmp_path / "run"
    process = begin(out, tmp_path, preexec_fn=at_most(size))
    _, told = process.communicate(timeout=120)
    assert process.returncode == 9, told
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith("tinysearch: error: ")
    assert "finished trials are kept" in told.splitlines()[-1]
    assert not list(out.rglob(".unfinished-*"))
    search(out, proxy=FEW)
    assert outcome(out) == outcome(finished.path)


@pytest.mark.slow
@pytest.mark.timed
def test_of_two_processes_on_one_folder_one_is_refused(finished: RunDirectory, tmp_path: Path) -> None:
    out = tmp_path / "run"
    both = [begin(out, tmp_path) for _ in range(2)]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 6], told
    assert (
        sum("another process is writing this run: wait for it, or choose another --out" in text for text in told) == 1
    )
    assert outcome(out) == outcome(finished.path)


@pytest.mark.slow
@pytest.mark.timed
def test_a_copy_of_a_run_that_is_written_is_read_and_gone_on_with(finished: RunDirectory, tmp_path: Path) -> None:
    out, copy = tmp_path / "run", tmp_path / "copy"
    process = start(out, tmp_path, "--jobs", "1", **FEW)
    read_until(process, r"^\[4/")
    shutil.copytree(out, copy)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 4 <= len(RunDirectory.load(copy).trials()) <= len(finished.trials())
    search(copy, proxy=FEW)
    assert outcome(copy) == outcome(finished.path)


def test_a_run_whose_files_lost_their_ends_comes_to_the_same(finished: RunDirectory, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished.path, tmp_path / "run"))
    os.truncate(out / "study.db", 100_000)
    os.truncate(out / "trials.jsonl", (out / "trials.jsonl").stat().st_size // 2)
    with pytest.warns(UserWarning, match="made again of trials"):
        search(out, proxy=FEW)
    assert outcome(out) == outcome(finished.path)


def test_reading_writes_nothing(finished: RunDirectory) -> None:
    """So a folder without permission will do."""
    before = {path: path.stat().st_mtime_ns for path in [finished.path, *finished.path.rglob("*")]}
    found = RunDirectory.load(finished.path)
    assert found.trials()
    assert found.front.members
    assert found.rescores() is not None
    assert {path: path.stat().st_mtime_ns for path in [finished.path, *finished.path.rglob("*")]} == before


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinysearch.core.errors import StorageError

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match="cannot keep a run there: Read-only file system: make room"):
        run(out=tmp_path / "run", proxy=FEW, jobs=1, **OPTIONS)  # type: ignore[arg-type]


def test_a_request_of_a_newer_version_is_read_and_not_gone_on_with(finished: RunDirectory, tmp_path: Path) -> None:
    from tinysearch.core.errors import ConflictError

    out = Path(shutil.copytree(finished.path, tmp_path / "run"))
    text = (out / "request.json").read_text().replace('"version": 1', '"version": 2, "mood": "blue"')
    (out / "request.json").write_text(text)
    with pytest.warns(UserWarning, match=r"newer format \(version 2\); ignored: mood"):
        assert RunDirectory.load(out).front.members
    with pytest.raises(ConflictError, match="written by a newer version of TinySearch: go on with that"):
        search(out, proxy=FEW)
    assert (out / "request.json").read_text() == text
