"""One round in which finalists are scored again."""

from collections.abc import Iterator, Sequence

import pytest

from tinysearch.results.records import Rescore, TrialRecord
from tinysearch.search.finalists import Standing
from tinysearch.search.problem import Problem
from tinysearch.search.proxies.base import Score
from tinysearch.search.rescoring import score_again
from tinysearch.spaces import methods
from tinysearch.spaces.policy import UpdatePolicy


class Store:
    """Trials of the published methods, and what is scored again of them."""

    def __init__(self, problem: Problem) -> None:
        policies = [problem.on_device(policy) for policy in methods.named(problem.trace).values()]
        self.trials = [
            TrialRecord(
                number=number,
                hash=policy.hash,
                policy=policy.with_training(learning_rate=0.003).to_json(),
                row=None,
                state="complete",
            )
            for number, policy in enumerate(policies)
        ]
        self.rescores: list[Rescore] = []

    def all(self) -> list[TrialRecord]:
        return self.trials

    def add_rescore(self, rescore: Rescore) -> None:
        self.rescores.append(rescore)


@pytest.fixture
def now(problem: Problem) -> Standing:
    return Standing(problem.front([]), 2, (1, 3, 4))


def backwards(policies: Sequence[UpdatePolicy], facts: Sequence[object] = ()) -> Iterator[tuple[int, Score | str]]:
    """Scores the last first, by its rate, and fails at the first."""
    for place in reversed(range(len(policies))):
        score = Score(
            0.5 + place / 10, 0.01, 1.0, policies[place].training.learning_rate or 0, 0.5, b"\1\0\1", (5, 3, 9)
        )
        yield place, score if place else "broke"


def test_each_result_is_kept_when_it_is_told(problem: Problem, now: Standing) -> None:
    store = Store(problem)
    for count, rescore in enumerate(score_again(store, now, backwards), start=1):
        assert store.rescores[-1] == rescore
        assert len(store.rescores) == count
    last, middle, first = store.rescores
    assert (last.trial, last.round, last.accuracy, last.answers, last.images) == (4, 2, 0.7, "a0", (5, 3, 9))
    assert (middle.trial, middle.accuracy) == (3, 0.6)
    assert (first.trial, first.accuracy, first.error) == (1, None, "broke")


def test_a_policy_that_needs_another_rate_now_has_failed(problem: Problem, now: Standing) -> None:
    def evaluate(policies: Sequence[UpdatePolicy], facts: Sequence[object] = ()) -> Iterator[tuple[int, Score | str]]:
        yield 0, Score(0.5, 0.01, 1.0, 0.001, 0.5)

    (rescore,) = score_again(Store(problem), now, evaluate)
    assert rescore.accuracy is None
    assert rescore.error == "training diverged at the learning rate 0.003 that was found for it"


def test_policies_are_scored_at_the_rates_that_the_front_states(problem: Problem, now: Standing) -> None:
    asked: list[UpdatePolicy] = []

    def evaluate(policies: Sequence[UpdatePolicy], facts: Sequence[object] = ()) -> Iterator[tuple[int, Score | str]]:
        asked.extend(policies)
        return backwards(policies)

    store = Store(problem)
    list(score_again(store, now, evaluate))
    assert [policy.hash for policy in asked] == [store.trials[number].hash for number in now.due]
    assert {policy.training.learning_rate for policy in asked} == {0.003}
