"""The front of an additive score: exact where a space can be enumerated, within limits, and better than drawing."""

from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tinysearch.devices.costs import Costs, cost_rows
from tinysearch.devices.profile import load_device
from tinysearch.results.limits import Limits
from tinysearch.results.pareto import nondominated
from tinysearch.search.screening import Screened, rounds, screen
from tinysearch.search.screens.base import AdditiveScore
from tinysearch.spaces.space import Genotypes, UpdateSpace
from tinysearch.spaces.trace import trace

DEVICES = ("rpi4", "cortex-m7-int8")


def network(channels: int, layers: int, norms: bool) -> nn.Module:
    """Some convolutions, a pooling and a classifier."""
    parts: list[nn.Module] = []
    for layer in range(layers):
        parts += [nn.Conv2d(channels if layer else 3, channels, 3, 1 if layer else 2, 1, bias=not norms)]
        parts += [nn.BatchNorm2d(channels), nn.ReLU6()] if norms else [nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)).eval()


@cache
def space_of(channels: int, layers: int, norms: bool) -> UpdateSpace:
    torch.manual_seed(0)
    return UpdateSpace(trace(network(channels, layers, norms), (3, 16, 16)))


def random_score(space: UpdateSpace, seed: int) -> AdditiveScore:
    """Positive values; those of the head, which always trains, are 0 for even seeds."""
    values = np.random.default_rng(seed).lognormal(size=(3, len(space.trace.rows)))
    values[:, space.trace.head] *= seed % 2
    return AdditiveScore(space.trace, *values)


def cost_of(space: UpdateSpace, device: str) -> Callable[[Genotypes], Costs]:
    profile = load_device(device)
    return lambda rows: cost_rows(space, rows, profile)


def objectives(found: Screened) -> np.ndarray:
    return np.column_stack([-found.scores, found.memory_bytes, found.latency_s])


def whole_front(
    space: UpdateSpace, score: AdditiveScore, cost: Callable[[Genotypes], Costs], fixed: tuple[str, ...]
) -> np.ndarray:
    """The objectives of the front of all policies, found by costing each; genes of some kinds stay at 0."""
    rows = np.array(list(product(*(range(1 if g.kind in fixed else g.levels) for g in space.genes))))
    costs = cost(rows)
    values = np.column_stack([-score(space.table(rows)), costs.peak_bytes, costs.latency_s])
    return np.unique(values[nondominated(values)].round(12), axis=0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(8, 2, False), (8, 2, True)])
@pytest.mark.parametrize("approximations", [False, True])
def test_a_small_space_is_found_whole(device: str, shape: tuple[int, int, bool], approximations: bool) -> None:
    space, fixed = space_of(*shape), ("statistics",) if approximations else ("statistics", "sign")
    score, cost = random_score(space, 1), cost_of(space_of(*shape), device)
    found = screen(space, score, cost, Limits(), approximations=approximations)
    np.testing.assert_array_equal(
        np.unique(objectives(found).round(12), axis=0), whole_front(space, score, cost, fixed)
    )
    assert not found.gaps.any()


@pytest.mark.parametrize("device", DEVICES)
def test_without_enumeration_nearly_all_of_the_front_is_found(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(8, 2, True)
    score, cost = random_score(space, 2), cost_of(space, device)
    exact = screen(space, score, cost, Limits())
    monkeypatch.setattr(rounds, "ENUMERATED", 0)
    monkeypatch.setattr(rounds, "DRAWN", 2000)
    found = screen(space, score, cost, Limits(), budget=3000)
    for place in range(len(exact)):
        best = found.best(exact.memory_bytes[place], exact.latency_s[place])
        assert best is not None
        assert found.scores[best] >= 0.99 * exact.scores[place]


@pytest.mark.parametrize("device", DEVICES)
def test_no_policy_that_was_drawn_is_above_the_bound(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(8, 4, True)
    score, cost = random_score(space, 3), cost_of(space, device)
    monkeypatch.setattr(rounds, "DRAWN", 2000)
    found = screen(space, score, cost, Limits(), budget=6000)
    rows = space.sample(4000)
    rows[:, [g.kind in ("sign", "statistics") for g in space.genes]] = 0
    costs, scores = cost(rows), score(space.table(rows))
    for place, gap in zip(found.checked, found.gaps, strict=True):
        fitting = (costs.peak_bytes <= found.memory_bytes[place]) & (costs.latency_s <= found.latency_s[place])
        bound = found.scores[place] / (1 - gap)
        assert scores[fitting].max(initial=0) <= bound * (1 + 1e-9)


def test_the_same_seed_finds_the_same_front(monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(8, 4, True)
    monkeypatch.setattr(rounds, "DRAWN", 2000)
    one, two = (
        screen(space, random_score(space, 4), cost_of(space, "rpi4"), Limits(), seed=7, budget=5000) for _ in range(2)
    )
    np.testing.assert_array_equal(one.rows, two.rows)
    np.testing.assert_array_equal(one.gaps, two.gaps)
    assert one.candidates == two.candidates <= 5000


def test_where_nothing_scores_the_head_alone_is_found() -> None:
    space = space_of(8, 4, True)
    nothing = np.zeros(len(space.trace.rows))
    found = screen(space, AdditiveScore(space.trace, nothing, nothing, nothing), cost_of(space, "rpi4"), Limits())
    assert found.rows.shape == (1, len(space))
    assert not found.rows.any()


def test_a_network_of_a_head_alone_has_one_policy() -> None:
    torch.manual_seed(0)
    space = UpdateSpace(trace(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), (3, 8, 8)))
    found = screen(space, random_score(space, 5), cost_of(space, "cortex-m7-int8"), Limits())
    assert found.rows.shape == (1, 0)


def test_limits_that_nothing_keeps_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for enumerated in (rounds.ENUMERATED, 0):
        monkeypatch.setattr(rounds, "ENUMERATED", enumerated)
        space = space_of(8, 2, True)
        found = screen(space, random_score(space, 6), cost_of(space, "rpi4"), Limits(peak_bytes=1))
        assert len(found) == len(found.gaps) == len(found.checked) == 0
        assert found.best() is None


def test_seeds_stay_where_nothing_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of(8, 4, True)
    whole = space.levels - 1
    whole[[g.kind in ("sign", "statistics", "axis") for g in space.genes]] = 0
    monkeypatch.setattr(rounds, "DRAWN", 2000)
    found = screen(space, random_score(space, 7), cost_of(space, "rpi4"), Limits(), seeds=whole[None], budget=1)
    assert (found.rows == whole).all(1).any()


@settings(max_examples=15)
@given(
    st.integers(0, 1000), st.sampled_from(DEVICES), st.floats(0, 1), st.floats(0, 1), st.booleans(), st.integers(1, 4)
)
def test_members_keep_to_limits_and_none_dominates_another(
    seed: int, device: str, memory: float, latency: float, approximations: bool, layers: int
) -> None:
    space = space_of(4, layers, True)
    cost = cost_of(space, device)
    ends = cost(np.stack([np.zeros(len(space), np.int64), space.levels - 1]))
    limits = Limits(
        peak_bytes=ends.peak_bytes[0] + memory * (ends.peak_bytes[1] - ends.peak_bytes[0]),
        latency_s=ends.latency_s[0] + latency * (ends.latency_s[1] - ends.latency_s[0]),
    )
    score = random_score(space, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "DRAWN", 500)
        found = screen(space, score, cost, limits, seed=seed, approximations=approximations, budget=1500)
    assert not limits.exceeded(found.costs).any()
    np.testing.assert_allclose(found.latency_s, cost(found.rows).latency_s, rtol=1e-12)
    assert nondominated(objectives(found)).all()
    np.testing.assert_array_equal(found.scores, score(space.table(found.rows)))
    np.testing.assert_array_equal(found.memory_bytes, cost(found.rows).peak_bytes)
    assert (np.diff(found.memory_bytes) >= 0).all()
    assert ((found.gaps >= 0) & (found.gaps <= 1)).all()
    if not approximations:
        assert not found.rows[:, [g.kind in ("sign", "statistics") for g in space.genes]].any()
