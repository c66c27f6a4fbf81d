"""Which finalists are scored again, and which of that counts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tinysearch.results.front import Front
from tinysearch.results.records import Member, Rescore, RunInfo, TrialRecord
from tinysearch.search.finalists import CLEAR, SHARE, UNSURE, standing
from tinysearch.search.surrogate import SEED_SD

POINT = {"accuracy": 0.0, "peak_bytes": 1.0, "latency_s": 1.0}
IDEAL = {"accuracy": 1.0, "peak_bytes": 0.0, "latency_s": 0.0}


def member(trial: int, gain: float | None, *, tied: bool = False, as_good: float | None = None) -> Member:
    """A member that costs the more the higher its trial's number."""
    return Member(
        policy=f"policies/{trial:08x}.json",
        hash=f"{trial:08x}",
        accuracy=0.5 + (gain or 0.0),
        peak_bytes=trial,
        saved_bytes=1,
        flash_bytes=1,
        latency_s=0.1,
        macs=1,
        trial=trial,
        gain=gain,
        gain_se=None if gain is None else 0.02,
        tied=tied,
        cheaper_as_good=as_good,
    )


def front(*members: Member) -> Front:
    info = RunInfo(device="rpi4", dataset="digits", backbone="net", batch=8, proxy="few-shot", seed=0, trials=0)
    return Front(
        run=info,
        objectives=({"name": "accuracy", "minimise": False}, {"name": "peak_bytes"}, {"name": "latency_s"}),  # type: ignore[arg-type]
        reference_point=POINT,
        ideal_point=IDEAL,
        hypervolume=0.5,
        members=members,
    )


def trials(count: int, last: int | None = 0, state: str = "complete") -> list[TrialRecord]:
    return [
        TrialRecord(
            number=number,
            hash=f"{number:08x}",
            policy="{}",
            row=None,
            state=state,  # type: ignore[arg-type]
            method="last" if number == last else None,
            accuracy=0.5,
            accuracy_se=0.02,
        )
        for number in range(count)
    ]


def always(*members: Member) -> Callable[[Sequence[Rescore]], Front]:
    return lambda rescores: front(*members)


def again(number: int, *trials: int) -> list[Rescore]:
    return [Rescore(trial=trial, round=number, accuracy=0.5) for trial in trials]


TIED = (member(0, 0.0), member(1, 0.05, tied=True, as_good=0.01), member(2, 0.06, tied=True, as_good=0.3))


def test_a_recommendation_that_is_not_the_most_accurate_is_compared_with_it_and_with_the_head() -> None:
    assert standing(always(*TIED), trials(20), []).due == (0, 1, 2)


def test_members_whose_order_is_not_known_are_scored_again() -> None:
    def due(probability: float) -> tuple[int, ...]:
        members = (
            member(0, 0.0),
            member(1, 0.02, as_good=probability),
            member(2, 0.04, as_good=0.01),
            member(3, 0.1, tied=True, as_good=0.01),
        )
        return standing(always(*members), trials(20), []).due

    assert [due(p) for p in (0.0, UNSURE, UNSURE + 0.01, 0.5, 1 - UNSURE, 0.99)] == [(), (), (0, 1), (0, 1), (), ()]


def test_where_images_are_plenty_nothing_is_scored_again() -> None:
    """Also where the stated standard error is larger, by what no other images would change."""
    clear = CLEAR * math.sqrt(2 * 0.02**2 + 2 * SEED_SD**2) + 0.001
    members = (
        member(0, 0.0),
        member(1, clear - 0.01, tied=True, as_good=0.01),
        member(2, clear, tied=True, as_good=0.3),
    )
    assert standing(always(*members), trials(20), []).due == ()
    barely = (*members[:2], replace(members[2], gain=clear - 0.002))
    assert standing(always(*barely), trials(20), []).due == (0, 1, 2)


@pytest.mark.parametrize("members", [(), (member(0, 0.0, tied=True),), (member(4, None, tied=True),)])
def test_a_front_of_one_member_or_none_is_decided(members: tuple[Member, ...]) -> None:
    assert standing(always(*members), trials(40), []).due == ()


def test_without_the_head_alone_the_others_are_compared() -> None:
    members = (member(1, None, tied=True), member(2, None, tied=True, as_good=0.5))
    assert standing(always(*members), trials(20, last=None), []).due == (1, 2)


def test_members_that_equal_each_other_are_undecided() -> None:
    members = (member(0, 0.0), member(1, 0.05, tied=True), member(2, 0.05, tied=True, as_good=0.5))
    assert standing(always(*members), trials(20), []).due == (0, 1, 2)


@pytest.mark.parametrize(("tried", "due"), [(3, ()), (2 * SHARE, ()), (3 * SHARE - 1, ()), (3 * SHARE, (0, 1, 2))])
def test_no_more_are_scored_again_than_the_search_has_to_spare(tried: int, due: tuple[int, ...]) -> None:
    assert standing(always(*TIED), trials(tried), []).due == due


def test_what_was_not_trained_pays_for_nothing() -> None:
    assert standing(always(*TIED), trials(40, last=None, state="infeasible"), []).due == ()


def test_what_is_still_undecided_goes_on_as_long_as_something_is_to_spare() -> None:
    first, second = again(1, 0, 1, 2), again(2, 0, 1, 2)
    assert (standing(always(*TIED), trials(24), first).round, standing(always(*TIED), trials(24), first).due) == (
        2,
        (0, 1, 2),
    )
    now = standing(always(*TIED), trials(24), first + second)
    assert (now.round, now.due) == (3, ())


def test_a_round_that_was_cut_short_is_finished_with_the_same_finalists() -> None:
    """Whatever it has said so far."""

    def believe(rescores: Sequence[Rescore]) -> Front:
        return front(*TIED) if not rescores else front(member(0, 0.0), member(9, 0.1, tied=True))

    done = again(1, 2)
    now = standing(believe, trials(20), done)
    assert (now.round, now.due) == (1, (0, 1))
    assert [each.trial for each in now.front.members] == [0, 9]
    assert standing(believe, trials(20), done + again(1, 0, 1)).due == ()


def test_a_failure_is_not_tried_again() -> None:
    failed = [Rescore(trial=1, round=1, error="broke")]
    assert standing(always(*TIED), trials(12), failed).due == (0, 2)


def test_what_was_scored_again_of_earlier_finalists_does_not_count() -> None:
    counted: list[list[int]] = []

    def believe(rescores: Sequence[Rescore]) -> Front:
        counted.append([rescore.trial for rescore in rescores])
        return front(*TIED)

    standing(believe, trials(12), again(1, 0, 1, 2, 7) + again(2, 7))
    assert counted[-1] == [0, 1, 2]
