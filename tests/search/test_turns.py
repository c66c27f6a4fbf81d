"""Whose turn it is, among searches that count together."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from tinysearch.results.records import TrialRecord
from tinysearch.search.samplers.auto import FEWEST, OPENING, AutoSampler
from tinysearch.search.stopping import AfterSeconds, AfterTrials, FirstOf, Progress
from tinysearch.search.turns import Together, Turns
from tinysearch.spaces.space import UpdateSpace
from tinysearch.testing.networks import SmallNet, traced
from tinysearch.testing.samplers import Task, tell


class Scripted:
    """A search whose rounds are given, and its sampler; a promise for each round that it has had."""

    def __init__(self, rounds: Sequence[int], promises: Sequence[float], *, stored: int = 0, enough: str = "") -> None:
        self.rounds, self.promises, self.stored = rounds, promises, stored
        self.ended, self._enough, self._had = "", enough, 0
        self.stop: Together | None = None

    def steps(self) -> Iterator[TrialRecord | None]:
        number = 0
        for size in self.rounds:
            assert self.stop is not None
            if self.stop.left() <= 0 and number >= self.stored:
                self.ended = self.stop.reason()
                return
            for _ in range(size):
                if number >= self.stored:
                    yield TrialRecord(number=number, hash="0" * 16, policy="", row=None, state="failed")
                number += 1
            self._had += 1
            yield None
        self.ended = "over"

    def promise(self) -> float:
        return self.promises[self._had - 1]

    def enough(self) -> str:
        return self._enough


def taken(searches: Sequence[Scripted], trials: int = 100, tried: int = 0) -> tuple[list[int], str]:
    stop = Together(AfterTrials(trials), tried)
    for search in searches:
        search.stop = stop
    turns = Turns(searches, searches, stop)  # type: ignore[arg-type]
    return [place for place, _ in turns], turns.ended


def test_each_opens_twice_and_then_a_round_goes_to_what_promises_most() -> None:
    searches = [
        Scripted([1, 1, 2, 2], [9, 0.1, 0.01, 0]),
        Scripted([1, 1, 2, 2], [9, 0.3, 0.2, 0.0]),
        Scripted([1, 1, 9], [9, 0.05, 0]),
    ]
    places, _ = taken(searches, 14)
    assert places == [0, 1, 2, 0, 1, 2, 1, 1, 1, 1, 0, 0, *[2] * 9]


def test_what_is_in_the_stores_is_gone_through_in_the_same_order() -> None:
    def searches(*stored: int) -> list[Scripted]:
        promises = [9, 0.1, 0.05, 0.01, 0.0], [9, 0.2, 0.03, 0.02, 0.0]
        return [
            Scripted([1, 1, 2, 2, 2], own, stored=done) for own, done in zip(promises, stored or (0, 0), strict=True)
        ]

    whole, reason = taken(searches(), 8)
    again, same = taken(searches(2, 3), 8, tried=5)
    assert whole == [0, 1, 0, 1, 1, 1, 0, 0]
    assert again == [1, 0, 0]
    assert reason == same == "8 policies were tried"


def test_a_budget_ends_all_of_them() -> None:
    assert taken([Scripted([1, 9], [1, 1]), Scripted([1], [1])], 1) == ([0], "1 policies were tried")
    stop = Together(FirstOf((AfterTrials(5), AfterSeconds(1e-9))), 0)
    assert stop.left(Progress(0, 0.0)) == 0
    assert "time" in stop.reason(Progress(0, 0.0))


def test_one_that_has_nothing_new_leaves_the_turns_to_others() -> None:
    places, reason = taken([Scripted([1], [0.9, 0.9]), Scripted([1, 1, 2], [9, 0.1, -np.inf])])
    assert places == [0, 1, 1, 1, 1]
    assert reason == "there is nothing new to try"


def test_enough_for_what_promises_most_is_enough_for_all() -> None:
    searches = [Scripted([1, 1], [9, 0.2], enough="noise"), Scripted([1, 1, 4], [9, 0.1, 0.1])]
    places, reason = taken(searches)
    assert places == [0, 1, 0, 1]
    assert reason == "over"  # what its search says


def test_none_that_can_be_trained_ends_it() -> None:
    assert taken([Scripted([1, 1, 4], [9, -np.inf]), Scripted([1, 1, 4], [9, -np.inf])])[0] == [0, 1, 0, 1]


# --- samplers that know each other -----------------------------------------------------------------------------------


@pytest.fixture
def rivals() -> list[AutoSampler]:
    """Samplers of two networks that have the head alone, the first of which is far better."""
    samplers = []
    for _ in range(2):
        space = UpdateSpace(traced(SmallNet))
        samplers.append(AutoSampler(space, 0))
        samplers[-1].prepare(Task(space))
    for sampler in samplers:
        sampler.rivals = [other for other in samplers if other is not sampler]
    return samplers


def trial(sampler: AutoSampler, accuracy: float, **changes: Any) -> TrialRecord:
    row = np.zeros(len(sampler.space), np.int64)
    policy = sampler.space.decode(row)
    cost = Task(sampler.space).cost_rows(row[None])
    fields = {
        "number": 0,
        "hash": policy.hash,
        "policy": policy.to_json(),
        "row": tuple(map(int, row)),
        "state": "complete",
        "accuracy": accuracy,
        "accuracy_se": 0.01,
        "peak_bytes": int(cost.peak_bytes[0]),
        "latency_s": float(cost.latency_s[0]),
    }
    return TrialRecord(**fields | changes)


def test_a_network_that_is_dominated_promises_next_to_nothing(rivals: list[AutoSampler]) -> None:
    good, poor = rivals
    assert good.promise() == poor.promise() == -np.inf
    poor.learn(trial(poor, 0.5))
    alone = poor.promise()
    good.learn(trial(good, 0.9))
    assert good.promise() > 0
    assert poor.promise() < 0.01 * min(alone, good.promise())


def test_what_a_rival_learns_changes_what_is_promised_and_its_order_does_not_matter(rivals: list[AutoSampler]) -> None:
    one, other = rivals
    one.learn(trial(one, 0.7))
    before = one.promise()
    other.learn(trial(other, 0.75))
    after = one.promise()
    assert after < before
    assert one.promise() == after


def test_there_is_not_enough_before_each_head_and_the_fewest(rivals: list[AutoSampler]) -> None:
    one, other = rivals
    assert other.enough() == ""
    one.learn(trial(one, 0.99))
    told = 1
    while not one.enough():
        assert other.enough() == ""  # of which nothing is known
        tell(one, one.ask())
        told += 1
        assert told < 100
    assert told >= FEWEST + OPENING
