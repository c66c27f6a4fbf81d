"""What every screen must do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ..search.screens import AdditiveScore, Screen, ScreenTask
from ..spaces import methods
from ..spaces.table import UpdateTable
from ..spaces.trace import trace
from .networks import SIZE, HeadOnly, SmallNet, images, traced


def task_of(labels: list[int], *, seed: int = 0, classes: int = 4) -> ScreenTask:
    """A task of random images with some labels, for a small network of some classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        backbone = SmallNet(classes)
    pixels = images(len(labels)).contiguous(memory_format=torch.channels_last)
    return ScreenTask(backbone, trace(backbone, (3, SIZE, SIZE)), pixels, torch.tensor(labels), seed)


def arrays(score: AdditiveScore) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """All values of a score, (3, R)."""
    return np.stack([score.weight, score.bias, score.scale])


class ScreenSuite:
    """Tests of a screen; the fixture `screen` gives it."""

    @pytest.fixture
    def screen(self) -> Screen:
        """A function from a task to a score."""
        raise NotImplementedError("give the screen by a fixture of this name")

    def test_values_are_finite_and_where_something_trains(self, screen: Screen) -> None:
        """A value for each row; none below 0, and 0 where a row has no such tensor."""
        task = task_of([0, 1, 2, 3] * 6)
        score = screen(task)
        rows = task.trace.rows
        assert score.trace is task.trace
        assert arrays(score).shape == (3, len(rows))
        assert np.isfinite(arrays(score)).all()
        assert (arrays(score) >= 0).all()
        for row, layer in enumerate(rows):
            assert layer.kind in ("conv", "linear") or not score.weight[row]
            assert layer.kind == "norm" or not score.scale[row]
            assert layer.bias or not score.bias[row]

    def test_policies_are_scored_and_the_whole_network_highest(self, screen: Screen) -> None:
        """More scores no lower."""
        task = task_of([0, 1, 2, 3] * 6)
        policies = [methods.full(task.trace), *methods.named(task.trace).values()]
        full, *others = (
            float(value)
            for value, policy in zip(screen(task)(UpdateTable.of(task.trace, policies)), policies, strict=True)
            if not policy.lite_residuals
        )
        assert full > 0
        assert max(others) <= full

    def test_the_task_is_left_as_it_is(self, screen: Screen) -> None:
        """The backbone's weights, buffers, modes and hooks, and the images."""
        task = task_of([0, 1, 2, 3] * 3)
        task.backbone.train()
        state = {name: value.clone() for name, value in task.backbone.state_dict().items()}
        before = task.images.clone()
        screen(task)
        assert all(torch.equal(value, state[name]) for name, value in task.backbone.state_dict().items())
        assert torch.equal(task.images, before)
        assert not task.images.requires_grad
        for module in task.backbone.modules():
            assert module.training
            assert not module._forward_hooks
        for parameter in task.backbone.parameters():
            assert parameter.requires_grad
            assert parameter.grad is None

    def test_same_seed_same_values_whatever_the_random_state(self, screen: Screen) -> None:
        """A screen neither reads the global random state nor moves it."""
        task = task_of([0, 1, 2, 3] * 4, seed=3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            first = arrays(screen(task))
            after: Tensor = torch.rand(1)
            torch.manual_seed(0)
            assert torch.equal(torch.rand(1), after)
            np.random.seed(7)  # noqa: NPY002
            torch.manual_seed(7)
            assert np.array_equal(arrays(screen(task)), first)

    def test_gradients_may_be_switched_off(self, screen: Screen) -> None:
        """Callers may be in `torch.no_grad`."""
        task = task_of([0, 1, 2, 3] * 2)
        with torch.no_grad():
            assert np.array_equal(arrays(screen(task)), arrays(screen(task)))

    @pytest.mark.parametrize(
        "labels",
        [[0, 1, 2, 3], [0, 0, 0, 0, 0, 1, 2, 3], [3, 1, 0, 2, 2], [0, 1, 2, 3] * 20],
        ids=["one image a class", "classes of one image", "one class of two", "more than a chunk"],
    )
    def test_few_images_give_finite_values(self, screen: Screen, labels: list[int]) -> None:
        """Whatever can be divided of them."""
        assert np.isfinite(arrays(screen(task_of(labels)))).all()

    def test_one_class_and_one_image_give_finite_values(self, screen: Screen) -> None:
        """There is nothing to tell apart."""
        assert np.isfinite(arrays(screen(task_of([0], classes=1)))).all()
        assert np.isfinite(arrays(screen(task_of([0] * 5, classes=1)))).all()

    def test_layers_whose_gradients_vanish_give_finite_values(self, screen: Screen) -> None:
        """An activation may be dead, and images may all be the same."""
        task = task_of([0, 1, 2, 3] * 3)
        with torch.no_grad():
            task.backbone.get_parameter("blocks.2.layers.1.weight").zero_()
            task.backbone.get_parameter("blocks.2.layers.1.bias").fill_(-1.0)
        assert np.isfinite(arrays(screen(task))).all()
        assert np.isfinite(arrays(screen(replace(task, images=torch.zeros_like(task.images))))).all()

    def test_a_network_that_is_nothing_but_a_classifier_has_a_score(self, screen: Screen) -> None:
        """It has neither blocks nor convolutions."""
        task = replace(task_of([0, 1, 2, 3] * 2), backbone=HeadOnly(), trace=traced(HeadOnly))
        assert np.isfinite(arrays(screen(task))).all()
