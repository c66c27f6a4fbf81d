"""The surrogate: what noise does, what the score says, and what is shared."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinysearch.search.surrogate import ROUND_SD, SEED_SD, SHORT_SD, Evidence, Surrogate


def points(scores: list[float]) -> np.ndarray:
    scores_ = np.array(scores, np.float64)
    return np.column_stack([scores_, np.full_like(scores_, 17.0), np.full_like(scores_, 0.5), np.full_like(scores_, 9)])


def exact(accuracy: list[float], sd: float = 1e-4) -> Evidence:
    return Evidence(np.array(accuracy), sd**2 * np.eye(len(accuracy)))


def test_what_is_measured_exactly_is_believed() -> None:
    known = points([5, 6, 7])
    mean, covariance = Surrogate(known, exact([0.5, 0.53, 0.56])).predict(known)
    np.testing.assert_allclose(mean, [0.5, 0.53, 0.56], atol=0.01)
    assert (np.diag(covariance) < SHORT_SD**2).all()


def test_more_score_is_expected_to_be_more_accurate_also_beyond_the_evidence() -> None:
    mean, covariance = Surrogate(points([5, 6, 7]), exact([0.5, 0.53, 0.56])).predict(points([4, 6.5, 8]))
    assert mean[0] < 0.5 < 0.53 < mean[1] < 0.56 < mean[2]
    assert covariance[2, 2] > covariance[1, 1]


def test_a_lucky_result_is_drawn_to_its_likes() -> None:
    noisy = Evidence(np.array([0.6, 0.6, 0.7, 0.6]), 0.03**2 * np.eye(4))
    known = points([6, 6, 6, 6])
    mean, _ = Surrogate(known, noisy).predict(known)
    assert 0.6 < mean[2] < 0.65


def test_policies_that_collapse_do_not_move_what_is_believed_of_the_others() -> None:
    """Deep ones that end at chance, where the screen expects the most."""
    accuracy = np.array([0.43, 0.48, 0.55, 0.60, 0.63, 0.66, 0.10, 0.10, 0.58])
    score, depth = (
        np.array([1, 3, 6, 10, 14, 17, 60, 80, 12.0]),
        np.array([0.02, 0.1, 0.2, 0.3, 0.4, 0.45, 0.95, 1, 0.35]),
    )
    points = np.column_stack([np.log(score), np.log(3e6 + 1e6 * depth), depth, np.log(1e3 * score)])
    errors = np.sqrt(accuracy * (1 - accuracy) / 60)
    mean, _ = Surrogate(points, Evidence(accuracy, np.diag(errors**2))).predict(points)
    assert np.all(np.abs(mean - accuracy) < 2 * errors)


def test_one_result_is_enough() -> None:
    mean, covariance = Surrogate(points([6]), exact([0.6])).predict(points([6, 7]))
    assert mean[0] == pytest.approx(0.6, abs=1e-3)
    assert mean[1] > mean[0]
    assert covariance[1, 1] > covariance[0, 0] >= 0


@given(st.integers(2, 8), st.integers(10, 300), st.integers(0, 99))
def test_noise_is_the_covariance_of_the_answers(policies: int, queries: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    right = rng.integers(0, 2, (policies, queries), dtype=np.uint8)
    evidence = Evidence.of(list(right.mean(1)), [0.1] * policies, [row.tobytes() for row in right])
    p = right.mean(1)
    np.testing.assert_allclose(np.diag(evidence.noise), p * (1 - p) / queries + SEED_SD**2)
    difference = evidence.noise[0, 0] + evidence.noise[1, 1] - 2 * evidence.noise[0, 1]
    paired = (right[0].astype(float) - right[1]).var() / queries
    assert difference == pytest.approx(paired + 2 * SEED_SD**2)


def test_policies_that_err_on_the_same_queries_are_told_apart_better() -> None:
    """Both are hit by hard queries alike: their difference is surer than either."""
    hard = np.repeat([0, 1], 100).astype(np.uint8)
    other = hard.copy()
    other[:10] = 1
    known = points([6, 7])
    _, covariance = Surrogate(known, Evidence.of([0.5, 0.55], [0.035] * 2, [hard.tobytes(), other.tobytes()])).predict(
        known
    )
    difference = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert difference < covariance[0, 0] / 2


def test_without_answers_the_standard_errors_count() -> None:
    evidence = Evidence.of([0.5, 0.6], [0.03, 0.01], [b"", b""])
    np.testing.assert_allclose(evidence.noise, np.diag([0.03**2 + SEED_SD**2, 0.01**2 + SEED_SD**2]))


def test_believing_adds_what_was_expected() -> None:
    more = exact([0.5, 0.6]).believing(0.7)
    assert more.accuracy.tolist() == [0.5, 0.6, 0.7]
    assert more.noise.shape == (3, 3)
    assert more.noise[2, 2] == pytest.approx(1e-8)


def evidence(answers: list[np.ndarray], rounds: list[int], images: dict[int, list[int]]) -> Evidence:
    given = [each.astype(np.uint8).tobytes() for each in answers]
    return Evidence.of([float(each.mean()) for each in answers], [0.1] * len(answers), given, rounds, images)


def test_images_that_are_asked_for_again_are_hard_again() -> None:
    """Another order of the same images says nothing new of them; other images do."""
    hard = np.repeat([0, 1], 50)
    order = np.random.default_rng(0).permutation(100)
    images = list(range(100))
    same = evidence([hard, hard[order]], [0, 1], {0: images, 1: order.tolist()}).noise
    assert same[0, 1] == pytest.approx(0.25 / 100)
    assert same[0, 0] == same[1, 1] == pytest.approx(0.25 / 100 + SEED_SD**2 + ROUND_SD**2)
    other = evidence([hard, hard], [0, 1], {0: images, 1: list(range(100, 200))}).noise
    assert other[0, 1] == 0
    unknown = evidence([hard, hard], [0, 1], {0: images}).noise
    np.testing.assert_array_equal(unknown, other)


def test_of_images_that_are_asked_for_in_part_those_count() -> None:
    right = np.array([1, 0, 0, 1])
    noise = evidence([right, right], [0, 1], {0: [4, 5, 6, 7], 1: [7, 8, 9, 10]}).noise
    assert noise[0, 1] == pytest.approx(0.5 * 0.5 / 16)


def test_a_round_moves_all_its_policies_alike() -> None:
    right = [np.array([0, 1]), np.array([1, 0]), np.array([0, 1])]
    noise = evidence(right, [0, 0, 1], {0: [1, 2], 1: [3, 4]}).noise
    assert noise[0, 1] == pytest.approx(-0.25 / 2 + ROUND_SD**2)
    assert noise[0, 2] == 0


def test_images_that_do_not_fit_the_answers_say_nothing() -> None:
    right = np.array([0, 1, 1])
    noise = evidence([right, right], [0, 1], {0: [1, 2, 3], 1: [1, 2]}).noise
    assert noise[0, 1] == 0


@given(st.integers(1, 5), st.integers(0, 99))
def test_noise_is_a_covariance_whatever_is_asked_for(rounds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(0, rounds, 12).tolist()
    images = {number: rng.choice(40, 20).tolist() for number in range(rounds)}
    noise = evidence([rng.integers(0, 2, 20) for _ in numbers], numbers, images).noise
    assert np.linalg.eigvalsh(noise).min() > 0


def test_what_is_observed_again_is_believed_the_more() -> None:
    """A lucky first result is taken back by a second on other images."""
    known = points([6, 6.5, 7])
    rng = np.random.default_rng(0)
    answers = [rng.random(200) < p for p in (0.5, 0.52, 0.62, 0.53)]
    once = evidence(answers[:3], [0, 0, 0], {})
    twice = evidence(answers, [0, 0, 0, 1], {})
    (first, one), (second, two) = (
        Surrogate(known[rows], each).predict(known) for rows, each in (([0, 1, 2], once), ([0, 1, 2, 2], twice))
    )
    assert second[2] < first[2]
    assert two[2, 2] < one[2, 2]
