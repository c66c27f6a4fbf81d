"""The default sampler: where it looks, and when it has enough."""

import numpy as np
import pytest

from tinysearch.results.limits import Limits
from tinysearch.search.samplers.auto import FEWEST, AutoSampler
from tinysearch.search.screening import screen, spread
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
    space = UpdateSpace(traced(SmallNet))
    found = screen(space, Task(space).score, Task(space).cost_rows, Limits())
    assert len(found) > 60
    chosen = spread(found, 60)
    assert 20 < len(chosen) <= 60
    assert found.scores[chosen].max() == found.scores.max()
    assert found.memory_bytes[chosen].min() < np.quantile(found.memory_bytes, 0.1)
    assert len(spread(found, len(found))) == len(found)
