"""Pictures: decoded once, prepared as a backbone wants them, and varied within bounds."""

import numpy as np
import pytest
import torch

from tinysearch.search.data import pictures
from tinysearch.search.data.images import ArraySplit, Subset
from tinysearch.search.data.pictures import Augmentation, Pictures

NORMALISATION = ((0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def split() -> ArraySplit:
    rng = np.random.default_rng(0)
    return ArraySplit(rng.integers(0, 256, (10, 8, 8, 3), dtype=np.uint8), np.arange(10) % 3)


def test_they_are_the_images_chosen_in_that_order(split: ArraySplit) -> None:
    made = Pictures(split, np.array([7, 2, 5]), 8, NORMALISATION)
    assert made.labels.tolist() == [1, 2, 2]
    expected = split.load([5, 7], 8).float() / 127.5 - 1
    torch.testing.assert_close(made.inputs(torch.tensor([2, 0])), expected, rtol=1e-5, atol=1e-6)


def test_each_is_decoded_once(split: ArraySplit, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    image = ArraySplit._image
    monkeypatch.setattr(ArraySplit, "_image", lambda self, index: decoded.append(index) or image(self, index))
    made = Pictures(split, np.arange(10), 8, NORMALISATION)
    first = made.inputs(torch.tensor([1, 1, 3]))
    assert torch.equal(made.inputs(torch.tensor([1, 3]))[0], first[0])
    assert sorted(decoded) == [1, 3]
    monkeypatch.setattr(pictures, "KEPT_BYTES", 0)
    large = Pictures(split, np.arange(10), 8, NORMALISATION)
    for _ in range(2):
        torch.testing.assert_close(large.inputs(torch.tensor([1, 1, 3])), first)


def test_unless_asked_for_nothing_is_varied(split: ArraySplit) -> None:
    made, picked = Pictures(split, np.arange(10), 8, NORMALISATION), torch.arange(4)
    assert torch.equal(made.varied(picked, torch.Generator()), made.inputs(picked))


def test_shifts_repeat_the_edge_and_stay_in_bounds() -> None:
    ramp = torch.arange(12, dtype=torch.uint8).expand(200, 3, 12, 12).contiguous()
    varied = Augmentation(shift=0.25)(ramp, torch.Generator().manual_seed(0))
    moves = varied[:, 0, 0].int() - torch.arange(12)
    middle = moves[:, 5]
    assert set(middle.tolist()) == set(range(-3, 4))
    for row, move in zip(varied[:, 0, 0], middle.tolist(), strict=True):
        assert row.tolist() == [min(max(place + move, 0), 11) for place in range(12)]


def test_flips_mirror_half() -> None:
    ramp = torch.arange(6, dtype=torch.uint8).expand(400, 3, 6, 6).contiguous()
    varied = Augmentation(flip=True)(ramp, torch.Generator().manual_seed(0))
    mirrored = varied[:, 0, 0, 0] == 5
    assert torch.equal(varied[mirrored], ramp[mirrored].flip(-1))
    assert torch.equal(varied[~mirrored], ramp[~mirrored])
    assert 150 < int(mirrored.sum()) < 250


def test_a_balanced_subset_has_so_many_of_each_class(split: ArraySplit) -> None:
    few = Subset.balanced(split, 2, seed=1)
    assert sorted(few.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    assert torch.equal(few.load([0], 8), split.load([few._chosen[0]], 8))
    assert len(Subset.balanced(split, 99)) == 10
    assert Subset.balanced(split, 2, seed=1)._chosen.tolist() == few._chosen.tolist()
