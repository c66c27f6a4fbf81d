"""Rules that end a search, alone and together."""

from math import inf

import pytest

from tinysearch.search.stopping import AfterSeconds, AfterTrials, FirstOf, Progress


@pytest.mark.parametrize(("tried", "left"), [(0, 5), (4, 1), (5, 0), (7, 0)])
def test_trials_are_counted_over_all_sessions(tried: int, left: int) -> None:
    assert AfterTrials(5).left(Progress(tried, 0.0)) == left


@pytest.mark.parametrize(("seconds", "left"), [(0.0, inf), (1.9, inf), (2.0, 0), (3.0, 0)])
def test_the_time_leaves_everything_until_it_is_over(seconds: float, left: float) -> None:
    assert AfterSeconds(2.0).left(Progress(9, seconds)) == left


def test_the_first_rule_that_leaves_nothing_gives_the_reason() -> None:
    stop = FirstOf((AfterTrials(5), AfterSeconds(2.0)))
    assert stop.left(Progress(3, 1.0)) == 2
    assert stop.left(Progress(3, 2.0)) == stop.left(Progress(5, 1.0)) == 0
    assert stop.reason(Progress(3, 2.0)) == "the time of 2 s is over"
    assert stop.reason(Progress(5, 1.0)) == "5 policies were tried"
