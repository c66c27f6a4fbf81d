"""Images divided into parts."""

import torch

from tinysearch.search.screens.parts import divide


def test_classes_are_dealt_evenly_and_every_image_once() -> None:
    labels = torch.tensor([0] * 9 + [1] * 6 + [2] * 3)
    parts = divide(labels, 3, 0)
    assert sorted(torch.cat(parts).tolist()) == list(range(18))
    for part in parts:
        assert torch.bincount(labels[part]).tolist() == [3, 2, 1]


def test_classes_of_one_image_are_in_the_first_part() -> None:
    labels = torch.tensor([0, 1, 2, 0, 0, 0])
    first, second = divide(labels, 2, 0)
    assert set(labels[first].tolist()) == {0, 1, 2}
    assert labels[second].tolist() == [0, 0]


def test_a_part_that_would_be_empty_is_the_one_before() -> None:
    first, second, third = divide(torch.tensor([2, 0, 1]), 3, 0)
    assert sorted(first.tolist()) == [0, 1, 2]
    assert first.tolist() == second.tolist() == third.tolist()
    first, second, third = divide(torch.tensor([0, 0, 1, 1]), 3, 0)
    assert second.tolist() == third.tolist() != first.tolist()


def test_a_seed_says_which_and_in_what_order() -> None:
    labels = torch.arange(60) % 3
    first, again, other = (torch.cat(divide(labels, 2, seed)).tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert divide(labels, 2, 0)[0].tolist() != sorted(divide(labels, 2, 0)[0].tolist())
