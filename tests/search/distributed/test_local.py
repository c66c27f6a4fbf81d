import multiprocessing
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from odd_proxies import Large, fair, make, unmakeable

from tinysearch.core.errors import InputError, MissingDataError, TinySearchError
from tinysearch.search.distributed.local import evaluator
from tinysearch.search.problem import Problem
from tinysearch.search.proxies.base import Score
from tinysearch.spaces.policy import UpdatePolicy

#: Longer than a fair policy takes by far, and a hanging one by far less.
TIMEOUT = 3.0


@pytest.fixture(scope="module")
def policies(problem: Problem) -> list[UpdatePolicy]:
    found = [problem.on_device(problem.space.decode(row)) for row in problem.space.sample(6, 5)]
    assert len({policy.hash for policy in found}) == 6
    return found


def asked(folder: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in (folder / "asked").read_text().splitlines())


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_policy_raises_is_its_own_failure(jobs: int, policies: list[UpdatePolicy], tmp_path: Path) -> None:
    habits = dict(zip([policy.hash for policy in policies], ["raise", "nan", "nothing", "memory"], strict=False))
    with evaluator(make(habits, tmp_path), jobs=jobs) as evaluate:
        found = dict(evaluate(policies))
        assert dict(evaluate(policies[4:])) == {0: fair(policies[4]), 1: fair(policies[5])}
    assert found == {
        0: "KeyError: 'no such thing\\nand more'",
        1: "ValueError: an accuracy of nan is none",
        2: "the proxy gave a NoneType, not a Score",
        3: "MemoryError",
        4: fair(policies[4]),
        5: fair(policies[5]),
    }


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_policy_that_hangs_or_dies_fails_and_the_others_are_scored(
    jobs: int, policies: list[UpdatePolicy], tmp_path: Path
) -> None:
    habits = dict(zip([policy.hash for policy in policies], ["hang", "die", "die once", "exit"], strict=False))
    with evaluator(make(habits, tmp_path), jobs=jobs, timeout=TIMEOUT) as evaluate:
        found = dict(evaluate(policies))
    died = "the process that scored it died twice, perhaps for want of memory"
    fairly = {place: fair(policies[place]) for place in (2, 4, 5)}
    assert found == {0: "took longer than 3 s", 1: died, 3: died} | fairly
    assert [asked(tmp_path)[policy.hash] for policy in policies] == [1, 2, 2, 2, 1, 1]


@pytest.mark.slow
@pytest.mark.timed
def test_a_process_that_dies_as_it_begins_is_no_reason_to_wait(policies: list[UpdatePolicy], tmp_path: Path) -> None:
    large = partial(Large, {}, tmp_path, bytes(4 << 20))
    with evaluator(large, jobs=2) as evaluate:
        for child in multiprocessing.active_children():
            child.kill()
        with pytest.raises(TinySearchError, match="ended as it began"):
            list(evaluate(policies))


@pytest.mark.slow
@pytest.mark.timed
def test_what_a_dead_process_left_behind_is_not_waited_for(policies: list[UpdatePolicy], tmp_path: Path) -> None:
    began = time.monotonic()
    habits = {policies[0].hash: "leave", policies[1].hash: "quit", policies[2].hash: "strange"}
    with evaluator(make(habits, tmp_path), jobs=2) as evaluate:
        found = dict(evaluate(policies))
    assert time.monotonic() - began < 55
    assert found[0] == "the process that scored it died twice, perhaps for want of memory"
    assert found[1] == "SystemExit: 0"
    assert str(found[2]).startswith("the proxy gave a score that cannot be sent")
    assert found[3] == fair(policies[3])


@pytest.mark.slow
def test_what_ends_the_work_ends_it_at_once(policies: list[UpdatePolicy], tmp_path: Path) -> None:
    habits = {policies[0].hash: "hang", policies[1].hash: "give up"}
    began = time.monotonic()
    with (
        pytest.raises(MissingDataError, match="the images are gone"),
        evaluator(make(habits, tmp_path), jobs=2) as evaluate,
    ):
        list(evaluate(policies))
    assert time.monotonic() - began < 300, "it waited for the policy that hangs"


@pytest.mark.slow
def test_a_proxy_that_cannot_be_made_says_why(policies: list[UpdatePolicy]) -> None:
    with (
        pytest.raises(TinySearchError, match="the proxy cannot be made: OSError: the disk is gone"),
        evaluator(unmakeable, jobs=2) as evaluate,
    ):
        list(evaluate(policies))


def test_what_cannot_be_sent_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"cannot be sent to other processes .*: take jobs=1"),
        evaluator(lambda: make({}, tmp_path)(), jobs=2),
    ):
        raise AssertionError("it was sent")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accuracy": 1.1}, "an accuracy of 1.1"),
        ({"accuracy_se": float("inf")}, "accuracy_se is inf"),
        ({"loss": float("nan")}, "the loss is nan"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"learning_rate": 0.0}, "the learning rate is 0"),
        ({"answers": [1, 0]}, "the answers are a list"),
        ({"learning_rate": 1e7}, "learning_rate is 1"),
        ({"seconds": float("nan")}, "seconds is nan"),
    ],
)
def test_a_score_is_one(change: dict[str, object], said: str) -> None:
    fields = {"accuracy": 0.5, "accuracy_se": 0.1, "loss": 1.0, "learning_rate": 1e-3, "seconds": 1.0}
    with pytest.raises(ValueError, match=said):
        Score(**(fields | change))  # type: ignore[arg-type]
