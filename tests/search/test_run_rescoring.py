"""Finalists of a run are scored again before its front is final."""

import sqlite3
from pathlib import Path

import pytest
import torch
from searches import SMALL, Watcher, assert_group_ends, read_until, search, start

from tinysearch.results.front import Front
from tinysearch.results.records import Rescore
from tinysearch.results.rundir import RunDirectory
from tinysearch.results.tables import render
from tinysearch.search.finalists import SHARE

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
    (old.path / "trials.jsonl").unlink()  # which there was not either
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
