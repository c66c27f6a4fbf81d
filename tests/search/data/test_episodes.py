"""Episodes: disjoint, balanced, reproducible, and fair to small classes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysearch.core.errors import InputError
from tinysearch.search.data import load_dataset
from tinysearch.search.data.episodes import Episode, draw_episode, draw_folds
from tinysearch.search.data.images import ArraySplit, to_float


def sample_episodes(split: ArraySplit, *, episodes: int, **asked: int | None) -> list[Episode]:
    """The first so many episodes."""
    return [draw_episode(split, number=number, **asked) for number in range(episodes)]


def numbered_split(counts: list[int]) -> ArraySplit:
    """A split whose image i is filled with i, classes interleaved by a fixed shuffle."""
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(len(counts)), counts))
    assert len(labels) < 256
    return ArraySplit(
        np.broadcast_to(np.arange(len(labels), dtype=np.uint8)[:, None, None], (len(labels), 2, 2)), labels
    )


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(2, 20), min_size=2, max_size=8),
    shot=st.integers(1, 12),
    extra_queries=st.integers(0, 40),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_episodes_are_disjoint_balanced_and_true_to_the_split(counts, shot, extra_queries, seed, data):
    split = numbered_split(counts)
    way = data.draw(st.none() | st.integers(2, len(counts)))
    used = way or len(counts)
    queries = used + extra_queries
    for episode in sample_episodes(split, episodes=2, shot=shot, queries=queries, size=2, seed=seed, way=way):
        both = np.concatenate([episode.support_indices, episode.query_indices])
        assert len(set(both)) == len(both)
        assert len(episode.class_ids) == used
        for images, labels, indices in (
            (episode.support_images, episode.support_labels, episode.support_indices),
            (episode.query_images, episode.query_labels, episode.query_indices),
        ):
            assert torch.equal(images[:, 0, 0, 0], torch.from_numpy(indices).to(torch.uint8))
            ids = split.labels[indices]
            assert labels.dtype == torch.int64
            assert np.array_equal(np.array(episode.class_ids)[labels], ids)
            if way is None:
                assert np.array_equal(labels, ids)
        for label, class_id in enumerate(episode.class_ids):
            support = int((episode.support_labels == label).sum())
            query = int((episode.query_labels == label).sum())
            least, most = queries // used, -(-queries // used)
            assert 1 <= support <= shot
            assert 1 <= query <= most
            if counts[class_id] >= shot + most:
                assert support == shot
                assert least <= query <= most
            else:
                assert support + query >= min(counts[class_id], shot + least)
        if min(counts) >= shot + -(-queries // used):
            assert len(episode.query_labels) == queries


def same(a, b):
    return np.array_equal(a.support_indices, b.support_indices) and np.array_equal(a.query_indices, b.query_indices)


def test_the_seed_decides_and_the_number_of_episodes_does_not():
    split = numbered_split([20] * 10)
    draw = {"shot": 5, "queries": 50, "size": 2}
    first = sample_episodes(split, episodes=3, seed=1, **draw)
    again = sample_episodes(split, episodes=2, seed=1, **draw)
    other = sample_episodes(split, episodes=2, seed=2, **draw)
    assert all(same(a, b) for a, b in zip(first, again, strict=False))
    assert not same(first[0], first[1])
    assert not same(first[0], other[0])
    # Seed 1's episode 1 is not seed 2's episode 0.
    assert not same(first[1], other[0])


def test_a_larger_shot_keeps_the_queries_and_adds_to_the_support():
    split = numbered_split([20] * 4)
    small, large = (sample_episodes(split, episodes=1, shot=shot, queries=20, size=2, seed=0)[0] for shot in (2, 10))
    assert set(small.query_indices) == set(large.query_indices)
    assert set(small.support_indices) < set(large.support_indices)


def test_a_small_class_shares_in_the_ratio_asked_for():
    episode = sample_episodes(numbered_split([30, 8, 2]), episodes=1, shot=9, queries=9, size=2, seed=0)[0]
    assert torch.bincount(episode.support_labels).tolist() == [9, 6, 1]
    assert torch.bincount(episode.query_labels).tolist() == [3, 2, 1]


def test_images_come_in_mixed_order():
    episode = sample_episodes(numbered_split([20] * 10), episodes=1, shot=10, queries=100, size=2, seed=0)[0]
    assert len(set(episode.support_labels[:10].tolist())) > 3
    assert len(set(episode.query_labels[:10].tolist())) > 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"queries": 2}, "2 queries are too few for 3 classes"),
        ({"way": 4}, "4 classes cannot be drawn from 3"),
        ({"way": 1}, "take 2 to 3"),
        ({"shot": 0}, "shot must be at least 1"),
        ({"seed": -1}, "seed"),
        ({"size": 0}, "size"),
    ],
)
def test_impossible_requests_are_refused(wrong, message):
    request = {"episodes": 1, "shot": 1, "queries": 3, "size": 2, "seed": 0} | wrong
    with pytest.raises(InputError, match=message):
        sample_episodes(numbered_split([5, 5, 5]), **request)


@pytest.mark.parametrize(("counts", "message"), [([5, 1], "class 1 has one image"), ([5], "two classes"), ([], "two")])
def test_impossible_splits_are_refused(counts, message):
    with pytest.raises(InputError, match=message):
        sample_episodes(numbered_split(counts), episodes=1, shot=1, queries=4, size=2, seed=0)


def test_normalisation_is_that_of_the_field():
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    result = to_float(images, (mean, std))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected.float())
    assert torch.equal(images, before)
    minus_one_to_one = to_float(
        torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2), ((0.5,) * 3,) * 2
    )
    assert minus_one_to_one[0, 0, 0].tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("images", "normalisation"),
    [
        (torch.zeros(1, 3, 2, 2), ((0.5,) * 3, (0.5,) * 3)),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), ((0.5,) * 3, (0.5,) * 3)),
        (torch.zeros(1, 3, 2, 2, dtype=torch.uint8), ((0.5,) * 3, (0.5, 0.0, 0.5))),
        (torch.zeros(1, 3, 2, 2, dtype=torch.uint8), ((0.5,), (0.5,))),
    ],
)
def test_wrong_images_or_normalisation_are_refused(images, normalisation):
    with pytest.raises(InputError):
        to_float(images, normalisation)


def test_real_digits_give_the_balance_asked_for():
    train = load_dataset("digits").train
    (episode,) = sample_episodes(train, episodes=1, shot=20, queries=500, size=16, seed=0)
    assert torch.bincount(episode.support_labels).tolist() == [20] * 10
    assert torch.bincount(episode.query_labels).tolist() == [50] * 10
    assert episode.support_images.shape == (200, 3, 16, 16)


@given(counts=st.lists(st.integers(2, 9), min_size=2, max_size=6), folds=st.integers(2, 4), seed=st.integers(0, 99))
def test_folds_query_every_image_once(counts: list[int], folds: int, seed: int) -> None:
    split = numbered_split(counts)
    episodes = draw_folds(split, folds, shot=100, queries=10_000, size=2, seed=seed)
    assert len(episodes) == folds
    queried = np.concatenate([episode.query_indices for episode in episodes])
    assert sorted(queried) == list(range(len(split)))
    for episode in episodes:
        assert sorted([*episode.query_indices, *episode.support_indices]) == list(range(len(split)))
        assert (episode.support_labels.numpy() == split.labels[episode.support_indices]).all()
        assert set(split.labels[episode.support_indices]) == set(split.labels)


def test_folds_keep_to_what_is_asked_for() -> None:
    episodes = draw_folds(numbered_split([30] * 4), 3, shot=5, queries=24, size=2, seed=0)
    assert [len(episode.query_indices) for episode in episodes] == [8, 8, 8]
    assert [len(episode.support_indices) for episode in episodes] == [20, 20, 20]
