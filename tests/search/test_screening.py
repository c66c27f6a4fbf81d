"""The screen's front, held against the truth where every policy can be counted."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysearch.devices.costs import Costs, cost_rows
from tinysearch.devices.profile import load_device
from tinysearch.results.limits import Limits
from tinysearch.results.pareto import nondominated
from tinysearch.search.screening import UNSCORED, gains, screen
from tinysearch.search.screens import AdditiveScore
from tinysearch.spaces.space import Genotypes, UpdateSpace
from tinysearch.testing.networks import HeadOnly, OneConv, SmallNet, traced

Cost = Callable[[Genotypes], Costs]


@pytest.fixture(scope="module")
def space() -> UpdateSpace:
    return UpdateSpace(traced(SmallNet))


def score_of(space: UpdateSpace, seed: int = 0) -> AdditiveScore:
    weight, bias, scale = np.random.default_rng(seed).uniform(0.1, 2, (3, len(space.trace.rows)))
    return AdditiveScore(space.trace, weight, bias, scale)


def cost_of(space: UpdateSpace, device: str = "rpi4") -> Cost:
    profile = load_device(device)
    return lambda rows: cost_rows(space, rows, profile)


@pytest.mark.parametrize("device", ["rpi4", "cortex-m7"])
def test_of_a_small_space_the_front_is_the_true_one(device: str) -> None:
    space = UpdateSpace(traced(OneConv))
    levels = [range(1 if gene.kind in UNSCORED else gene.levels) for gene in space.genes]
    every = np.array(list(itertools.product(*levels)))
    score, cost = score_of(space), cost_of(space, device)
    costs = cost(every)
    values = np.column_stack([-score(space.table(every)), costs.peak_bytes, costs.latency_s])
    true = np.unique(values[nondominated(values)], axis=0)
    found = screen(space, score, cost, Limits())
    told = np.column_stack([-found.scores, found.memory_bytes, found.latency_s])
    np.testing.assert_allclose(np.unique(told, axis=0), true)


def test_scores_and_costs_are_those_of_the_rows(space: UpdateSpace) -> None:
    score, cost = score_of(space), cost_of(space)
    found = screen(space, score, cost, Limits(), rounds=3)
    costs = cost(found.rows)
    np.testing.assert_array_equal(found.memory_bytes, costs.peak_bytes)
    np.testing.assert_allclose(found.latency_s, costs.latency_s)
    np.testing.assert_allclose(found.scores, score(space.table(found.rows)))
    assert nondominated(np.column_stack([-found.scores, found.memory_bytes, found.latency_s])).all()


def test_more_memory_and_time_never_score_less(space: UpdateSpace) -> None:
    found = screen(space, score_of(space), cost_of(space), Limits(), rounds=3)
    best = [found.best(memory) for memory in np.sort(found.memory_bytes)]
    scores = [found.scores[place] for place in best if place is not None]
    assert scores == sorted(scores)
    assert found.best(memory_bytes=1) is None
    assert found.scores[found.best() or 0] == found.scores.max()


@settings(max_examples=15, deadline=None)
@given(share=st.floats(0.05, 1), seed=st.integers(0, 99))
def test_limits_are_kept(share: float, seed: int) -> None:
    space = UpdateSpace(traced(SmallNet))
    cost = cost_of(space)
    least, most = (
        int(cost(row).peak_bytes[0]) for row in (np.zeros((1, len(space)), np.int64), space.levels[None] - 1)
    )
    limit = int(least + share * (most - least))
    found = screen(space, score_of(space, seed), cost, Limits(peak_bytes=limit), seed=seed, rounds=2)
    assert len(found)
    assert (found.memory_bytes <= limit).all()


def test_same_seed_same_front(space: UpdateSpace) -> None:
    first, again = (screen(space, score_of(space), cost_of(space), Limits(), seed=5, rounds=3) for _ in range(2))
    np.testing.assert_array_equal(first.rows, again.rows)


def test_what_the_score_cannot_see_is_left_alone(space: UpdateSpace) -> None:
    found = screen(space, score_of(space), cost_of(space), Limits(), rounds=5)
    unseen = [place for place, gene in enumerate(space.genes) if gene.kind in UNSCORED]
    assert unseen
    assert not found.rows[:, unseen].any()


def test_a_score_of_nothing_leaves_the_head_alone(space: UpdateSpace) -> None:
    nothing = np.zeros(len(space.trace.rows))
    found = screen(space, AdditiveScore(space.trace, nothing, nothing, nothing), cost_of(space), Limits(), rounds=3)
    assert found.rows.tolist() == [[0] * len(space)]


def test_a_space_without_genes_has_one_policy() -> None:
    space = UpdateSpace(traced(HeadOnly))
    found = screen(space, score_of(space), cost_of(space), Limits())
    assert found.rows.shape == (1, 0)


def test_where_nothing_fits_nothing_is_found(space: UpdateSpace) -> None:
    assert len(screen(space, score_of(space), cost_of(space), Limits(peak_bytes=1))) == 0


def test_gains_add_up_to_the_score(space: UpdateSpace) -> None:
    score = score_of(space)
    worth, pairs = gains(space, score)
    row = np.zeros(len(space), np.int64)
    expected = score(space.table(row[None]))[0]
    for place, gene in enumerate(space.genes):
        if gene.kind in ("weight", "norm"):
            row[place] = gene.levels - 1
            expected += worth[(pairs[:, 0] == place) & (pairs[:, 1] == gene.levels - 1)][0]
    assert score(space.table(row[None]))[0] == pytest.approx(expected)
