from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinysearch.search.rates import best_rate
from tinysearch.search.training import Answers
from tinysearch.spaces.optimizers import ADAM

QUERIES = 400


def answers(right: int, loss: float = 1.0) -> Answers:
    """So many right, the first ones."""
    return Answers(torch.arange(QUERIES) < right, torch.full((QUERIES,), loss))


def walk(rights: list[int], start: float | None = None) -> tuple[float, list[float]]:
    """The rate found where each of Adam's gives so many right answers, and those that were tried."""
    tried = []

    def attempt(rate: float) -> Answers:
        tried.append(rate)
        right = rights[ADAM.rates.index(rate)]
        return answers(right) if right >= 0 else answers(0, float("nan"))

    return best_rate(ADAM, attempt, start), tried


@given(st.permutations(range(0, 250, 50)))
def test_what_is_found_is_no_worse_than_where_the_walk_began(rights: list[int]) -> None:
    rate, tried = walk(list(rights))
    assert tried[0] == ADAM.default_rate
    assert len(tried) == len(set(tried))
    assert rights[ADAM.rates.index(rate)] == max(rights[ADAM.rates.index(each)] for each in tried)


@given(st.integers(0, 4), st.integers(-1, 4))
def test_a_single_peak_is_found_and_a_rate_that_diverges_is_not(peak: int, most: int) -> None:
    rights = [300 - 50 * abs(place - peak) if place <= max(most, 0) else -1 for place in range(5)]
    rate, _ = walk(rights)
    assert ADAM.rates.index(rate) == min(peak, max(most, 0))


def test_a_few_answers_more_do_not_lead_away() -> None:
    assert walk([0, 100, 200, 201, 0])[0] == ADAM.default_rate
    assert walk([0, 100, 200, 202, 0])[0] == ADAM.rates[3]  # 2 more right, none less: more than a standard error


def test_the_walk_begins_where_it_is_told() -> None:
    assert walk([100] * 5, start=9e-3)[1][0] == ADAM.rates[4]
    assert walk([100] * 5, start=1e-9)[1][0] == ADAM.rates[0]


def test_divergence_everywhere_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match=r"every learning rate down to 0\.0001"):
        walk([-1] * 5)


def test_any_number_of_rates() -> None:
    assert best_rate(replace(ADAM, rates=(1e-2,)), lambda _: answers(1)) == 1e-2
