"""Tasks of a source: what is held out, how large they are, and sources that are too small."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinysearch.core.errors import InputError
from tinysearch.search.data.images import ArraySplit, Dataset
from tinysearch.search.data.pictures import Augmentation
from tinysearch.search.meta_training.source import FEWEST_CLASSES, Source, TaskSizes, divide

PLAIN = ((0.5,) * 3, (0.5,) * 3)


def dataset(counts: list[int]) -> Dataset:
    """A source with so many images a class; image i is filled with i."""
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(len(counts)), counts))
    pixels = np.broadcast_to((np.arange(len(labels)) % 256).astype(np.uint8)[:, None, None], (len(labels), 4, 4))
    split = ArraySplit(pixels, labels)
    return Dataset("small", tuple(f"class {c}" for c in range(len(counts))), split, split, "made here")


def source(counts: list[int], sizes: TaskSizes, seed: int = 0, augmentation: Augmentation | None = None) -> Source:
    return Source.of(dataset(counts), 4, PLAIN, augmentation, sizes, seed)


@given(counts=st.lists(st.integers(2, 12), min_size=2, max_size=40), seed=st.integers(0, 9))
def test_nothing_is_both_learnt_from_and_judged_by(counts: list[int], seed: int) -> None:
    data = dataset(counts)
    labels = data.train.labels
    try:
        kept, held, words = divide(data, seed)
    except InputError:
        assert len(counts) < 10
        assert sum(count >= 4 for count in counts) < 2
        return
    assert sorted([*kept, *held]) == list(range(len(labels)))
    kept_counts, held_counts = (np.bincount(labels[part], minlength=len(counts)) for part in (kept, held))
    if len(counts) >= 10:
        assert not (kept_counts * held_counts).any()
        assert words == f"{(held_counts > 0).sum()} of {len(counts)} classes"
        assert (held_counts > 0).sum() == max(3, round(0.2 * len(counts)))
    else:
        assert (kept_counts >= 2).all()
        assert set(held_counts[held_counts > 0]) <= set(range(2, 7))
        assert [bool(held) for held in held_counts] == [count >= 4 for count in counts]
        assert words == f"{len(held)} of {len(labels)} images"


def test_another_seed_holds_out_others() -> None:
    data = dataset([20] * 30)
    assert divide(data, 0)[1].tolist() == divide(data, 0)[1].tolist() != divide(data, 1)[1].tolist()


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([9], "1 class has training images"),
        ([9, 1, 9], "class 'class 1' has one training image"),
        ([3, 3, 9], "two classes or more need 4 training images"),
    ],
)
def test_a_source_that_is_too_small_is_refused_with_the_reason(counts: list[int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        divide(dataset(counts), 0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"way": 1}, "way is 1: it must be at least 2"), ({"shot": 0}, "shot is 0"), ({"queries": 0}, "queries is 0")],
)
def test_impossible_sizes_are_named(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TaskSizes(**wrong)


def test_tasks_differ_in_size_within_bounds_and_every_class_has_support_and_queries() -> None:
    tasks = source([40] * 12, TaskSizes(way=8, shot=6, queries=3)).learning
    ways, shots = set(), set()
    for number in range(60):
        task = tasks.draw(number)
        support, query = torch.bincount(task.support_labels), torch.bincount(task.query_labels)
        assert len(support) == len(query)
        assert set(query.tolist()) == {3}
        assert len(set(support.tolist())) == 1
        assert len(task.images) == len(task.support_labels) + len(task.query_labels)
        ways.add(len(support))
        shots.add(int(support[0]))
    assert ways == set(range(FEWEST_CLASSES, 9))
    assert shots == set(range(1, 7))


@pytest.mark.parametrize("counts", [[4, 4], [2, 3, 40, 4, 5], [4, 60]])
def test_few_and_uneven_classes_give_tasks_too(counts: list[int]) -> None:
    made = source(counts, TaskSizes(way=10, shot=10, queries=10))
    for number in range(20):
        for tasks, most in ((made.learning, len(counts)), (made.judging, sum(count >= 4 for count in counts))):
            task = tasks.draw(number)
            assert 2 <= len(torch.bincount(task.support_labels)) <= most
            assert task.support_labels.unique().tolist() == task.query_labels.unique().tolist()


def test_a_task_depends_on_seed_and_number_alone_and_images_to_judge_by_are_as_they_are() -> None:
    shifted = Augmentation(shift=0.25)
    sizes = TaskSizes(way=5, shot=3, queries=3)
    one, again, other = (source([20] * 6, sizes, seed, shifted) for seed in (0, 0, 1))
    again.learning.draw(5)
    assert torch.equal(one.learning.draw(7).images, again.learning.draw(7).images)
    assert not torch.equal(one.learning.draw(7).query_labels, other.learning.draw(7).query_labels) or not torch.equal(
        one.learning.draw(7).images, other.learning.draw(7).images
    )
    plain = source([20] * 6, sizes, 0)
    assert torch.equal(one.judging.draw(3).images, plain.judging.draw(3).images)
