import numpy as np
import pytest

from tinysearch.results.contenders import Contenders
from tinysearch.results.pareto import OBJECTIVES, as_minimised, hypervolume, nondominated


def values(trials):
    return as_minimised([[getattr(trial, each.name) for each in OBJECTIVES] for trial in trials], OBJECTIVES)


@pytest.mark.parametrize("seed", range(20))
def test_front_and_hypervolume_are_those_of_all_trials_to_the_last_digit(trial, seed):
    """With accuracies of few images, and times that repeat, many share a value."""
    chance = np.random.default_rng(seed)
    every = [
        trial(
            number,
            accuracy=chance.integers(0, 20) / 20,
            peak_bytes=int(chance.integers(1, 40)) * 10_000,
            latency_s=float(chance.integers(1, 40)) / 100,
        )
        for number in range(int(chance.integers(1, 250)))
    ]
    contenders = Contenders(OBJECTIVES)
    for record in chance.permutation(np.array(every, dtype=object)):
        contenders.add(record)
    left = contenders.trials
    points, few = values(every), values(left)
    assert [each for each, best in zip(left, nondominated(few), strict=True) if best] == [
        each for each, best in zip(every, nondominated(points), strict=True) if best
    ]
    worst, best = [-0.1, 5e5, 0.5], [-1.0, 0.0, 0.0]
    assert hypervolume(few, worst, best) == hypervolume(points, worst, best)
    assert len(left) <= len(every)


def test_only_complete_trials_are_contenders(trial):
    contenders = Contenders(OBJECTIVES)
    for state in ("failed", "infeasible"):
        contenders.add(trial(0, state=state, accuracy=None))
    assert contenders.trials == []


def test_what_is_worse_in_everything_goes(trial):
    contenders = Contenders(OBJECTIVES)
    contenders.add(trial(1, accuracy=0.5, peak_bytes=100, latency_s=0.2))
    contenders.add(trial(2, accuracy=0.6, peak_bytes=90, latency_s=0.1))
    contenders.add(trial(3, accuracy=0.5, peak_bytes=100, latency_s=0.2))
    assert [each.number for each in contenders.trials] == [2]
    contenders.add(trial(0, accuracy=0.6, peak_bytes=95, latency_s=0.1))
    assert [each.number for each in contenders.trials] == [0, 2]
