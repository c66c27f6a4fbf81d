"""Beliefs of several networks: each one's own, with errors that go together as far as their answers do."""

import numpy as np
import pytest

from tinysearch.search.beliefs import Belief, joined
from tinysearch.search.surrogate import Evidence, Surrogate

QUERIES = 400


def points(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.column_stack([rng.uniform(0, 4, count), rng.uniform(13, 16, (count, 3))])


def belief(features: np.ndarray, right: np.ndarray, *, known: bool = True) -> Belief:
    """Of policies that answer so, (P, Q)."""
    answers = [row.astype(np.uint8).tobytes() for row in right]
    errors = np.sqrt(right.var(1) / right.shape[1])
    evidence = Evidence.of(list(right.mean(1)), list(errors), answers)
    return Belief.of(features, range(len(features)), evidence, answers if known else [b""] * len(answers))


def two(rng: np.random.Generator, *, known: bool = True) -> list[Belief]:
    """Two networks whose answers depend on how hard the queries are."""
    hard = rng.normal(size=QUERIES)
    made = []
    for count, level in ((4, 0.5), (3, 0.8)):
        right = hard + rng.normal(scale=0.3, size=(count, QUERIES)) < level
        made.append(belief(points(rng, count), right, known=known))
    return made


def test_one_network_believes_what_its_surrogate_says() -> None:
    rng = np.random.default_rng(0)
    (one, _) = two(rng)
    mean, covariance = joined([one])
    assert np.array_equal(mean, one.mean)
    assert np.array_equal(covariance, one.covariance)


def test_a_smoother_gives_the_means() -> None:
    """The mean follows the evidence linearly: by as much as the smoother says."""
    rng = np.random.default_rng(1)
    known = points(rng, 5)
    evidence = Evidence(rng.uniform(0.4, 0.6, 5), 1e-4 * np.eye(5))
    surrogate = Surrogate(known, evidence)
    ask = points(rng, 7)
    residual = evidence.accuracy - surrogate._mean(known, surrogate._best.slope)
    expected = surrogate._mean(ask, surrogate._best.slope) + surrogate.smoother(ask) @ residual
    assert surrogate.predict(ask)[0] == pytest.approx(expected)


def test_each_network_keeps_its_own_and_differences_are_surer() -> None:
    one, other = two(np.random.default_rng(2))
    mean, covariance = joined([one, other])
    apart_mean, apart = joined(two(np.random.default_rng(2), known=False))
    assert np.array_equal(mean, np.concatenate([one.mean, other.mean]))
    assert np.array_equal(mean, apart_mean)
    assert np.array_equal(covariance[:4, :4], one.covariance)
    assert np.array_equal(covariance[4:, 4:], other.covariance)
    assert (covariance[:4, 4:] > 0).all()
    assert (apart[:4, 4:] == 0).all()
    assert np.linalg.eigvalsh(covariance).min() > -1e-12

    def variance(of: np.ndarray) -> float:
        return of[0, 0] + of[5, 5] - 2 * of[0, 5]

    assert variance(covariance) < 0.8 * variance(apart)


def test_the_errors_of_two_networks_go_together_as_drawing_queries_again_says() -> None:
    """Drawn from the same population many times, the means differ together by about the covariance that is claimed."""
    rng = np.random.default_rng(3)
    features = points(rng, 3), points(rng, 3)
    means, claimed = [], []
    for _ in range(150):
        hard = rng.normal(size=QUERIES)
        drawn = [belief(of, hard + rng.normal(scale=0.3, size=(3, QUERIES)) < 0.5) for of in features]
        mean, covariance = joined(drawn)
        means.append(mean)
        claimed.append(covariance[0, 3])
    seen = np.cov(np.array(means).T)[0, 3]
    assert np.mean(claimed) == pytest.approx(seen, rel=0.35)
