from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from odd_proxies import fair
from searches import Watcher, search

from tinysearch.results.rundir import RunDirectory
from tinysearch.search.proxies import PROXIES, Proxy, ProxyKind, Score
from tinysearch.spaces.policy import UpdatePolicy

TRIALS = 20


class Flaky(Proxy):
    """Fails over every third policy as long as a file is there; notes what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, policy: UpdatePolicy) -> Score:
        with (self._folder / "asked").open("a") as file:
            file.write(policy.hash + "\n")
        if int(policy.hash, 16) % 3 == 0 and (self._folder / "broken").exists():
            raise RuntimeError("out of memory")
        return fair(policy)


@pytest.fixture
def flaky(tmp_path: Path) -> Iterator[Callable[..., RunDirectory]]:
    """A search with a proxy that is broken at first."""
    (tmp_path / "broken").touch()
    PROXIES.add("flaky", ProxyKind("flaky", "fails at first", lambda task, settings: partial(Flaky, tmp_path)))

    def run(name: str = "run", **changes: Any) -> RunDirectory:
        options = {"proxy": "flaky", "sampler": "nsga2", "trials": TRIALS, "rescore": 0}
        return search(tmp_path / name, **(options | changes))

    yield run
    PROXIES.remove("flaky")


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines()


def test_what_failed_is_tried_again_and_joins_the_front(flaky: Callable[..., RunDirectory], tmp_path: Path) -> None:
    before = flaky().trials()
    failed = [trial.number for trial in before if trial.state == "failed"]
    assert len(failed) >= 3
    told = RunDirectory.load(tmp_path / "run").front.warnings
    assert f"{len(failed)} of {TRIALS} policies could not be scored; the first: out of memory" in "\n".join(told)
    assert all(before[number].error == "out of memory" for number in failed)
    first = asked(tmp_path)
    watcher = Watcher()
    assert [t.state for t in flaky(retry_failed=True, observer=watcher).trials()] == [t.state for t in before]
    assert [trial.number for trial in watcher.trials] == failed, "they fail again while it is broken"
    (tmp_path / "broken").unlink()
    after = flaky(retry_failed=True)
    assert {trial.state for trial in after.trials()} == {"complete"}
    assert [t for t in after.trials() if t.number not in failed] == [t for t in before if t.number not in failed]
    assert sorted(asked(tmp_path)[len(first) :]) == sorted(2 * [before[number].hash for number in failed])
    best = max(after.trials(), key=lambda trial: trial.accuracy or 0)
    assert best.hash in {member.hash for member in after.front.members}


def test_a_search_goes_on_after_that_as_if_nothing_had_been_tried_again(
    flaky: Callable[..., RunDirectory], tmp_path: Path
) -> None:
    flaky("mended")
    flaky("left")
    (tmp_path / "broken").unlink()
    flaky("mended", retry_failed=True)
    further, left = (flaky(name, trials=TRIALS + 8).trials() for name in ("mended", "left"))
    assert [trial.hash for trial in further] == [trial.hash for trial in left]
    assert len(further) == len({trial.hash for trial in further}) == TRIALS + 8


def test_larger_rounds_are_another_search_and_jobs_none(flaky: Callable[..., RunDirectory], tmp_path: Path) -> None:
    (tmp_path / "broken").unlink()
    small, large = flaky("small"), flaky("large", round_size=8)
    assert "round_size" not in small.request
    assert large.request["round_size"] == 8
    assert [t.hash for t in small.trials()] != [t.hash for t in large.trials()]
    with_processes = flaky("processes", round_size=8, jobs=2)
    assert (with_processes.path / "front.json").read_bytes() == (large.path / "front.json").read_bytes()
