"""The default sampler: where it looks, and when it has enough."""

from dataclasses import replace

import numpy as np
import pytest

from tinysearch.search.samplers.auto import FEWEST, AutoSampler, spread
from tinysearch.search.screening import Screened
from tinysearch.spaces.space import UpdateSpace
from tinysearch.testing.networks import SmallNet, traced
from tinysearch.testing.samplers import Task, tell


@pytest.fixture
def sampler() -> AutoSampler:
    space = UpdateSpace(traced(SmallNet))
    made = AutoSampler(space, 0)
    made.prepare(Task(space))
    return made


def test_it_begins_with_what_scores_most(sampler: AutoSampler) -> None:
    score = Task(sampler.space).score
    asked = np.stack([sampler.ask(attempt) for attempt in range(4)])
    scores = score(sampler.space.table(asked))
    assert scores[0] == max(scores)
    assert len({tuple(row) for row in asked}) == 4


def test_it_has_enough_when_nothing_is_to_be_gained(sampler: AutoSampler) -> None:
    assert sampler.enough() == ""
    told = 0
    while not sampler.enough():
        tell(sampler, sampler.ask())
        told += 1
        assert told < 100
    assert told >= FEWEST
    assert "expected to add" in sampler.enough()


def test_candidates_cover_the_front() -> None:
    rng = np.random.default_rng(0)
    memory = np.sort(rng.integers(1_000, 1_000_000, 5000))
    found = Screened(rng.integers(0, 2, (5000, 3)), rng.uniform(size=5000), memory, rng.uniform(0.1, 9, 5000), 0, 0.0)
    chosen = spread(found, 300)
    assert 100 < len(chosen) <= 300
    assert found.scores[chosen].max() == found.scores.max()
    assert memory[chosen].min() < 5_000
    assert memory[chosen].max() > 500_000
    assert len(spread(replace(found, rows=found.rows[:7], scores=found.scores[:7]), 300)) == 7
