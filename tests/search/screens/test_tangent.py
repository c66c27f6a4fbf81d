"""The tangent-kernel score against its formula."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tinysearch.search.screens.parts import divide
from tinysearch.search.screens.probe import probe
from tinysearch.search.screens.tangent import IMAGES, kernel_value, tangent
from tinysearch.testing.screens import arrays, task_of


def test_values_are_those_of_kernels_of_single_images() -> None:
    """With gradients by autograd, one image after another, of the direction that the seed stands for."""
    task = task_of([0, 1, 2, 3] * 6, seed=2)
    score = tangent(task)
    fitted, others = divide(task.labels, 2, 2)
    network = probe(task, fitted)
    direction = torch.randn(4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direction = (direction - direction.mean()).float()
    direction /= direction.norm()
    network.requires_grad_(True)
    rows: dict[str, list[torch.Tensor]] = {}
    for image in task.images[others]:
        network.zero_grad()
        (network(image[None]) @ direction).sum().backward()
        for name, parameter in network.named_parameters():
            rows.setdefault(name, []).append(parameter.grad.flatten().double())
    assert len(others) == 12
    for name, gradients in rows.items():
        jacobian = torch.stack(gradients)
        kernel = jacobian @ jacobian.T
        strength = kernel.trace() / len(others)
        directions = kernel.trace() ** 2 / kernel.square().sum()
        layer, _, attribute = name.rpartition(".")
        row = task.trace.index[layer]
        norm = task.trace.rows[row].kind == "norm"
        values = score.bias if attribute == "bias" else score.scale if norm else score.weight
        assert values[row] == pytest.approx(math.sqrt(strength * directions), rel=1e-4), name


@pytest.mark.parametrize("size", [1e-25, 1e-10, 1.0, 1e10, 1e30])
def test_a_value_grows_with_the_gradients_and_neither_overflows_nor_vanishes(size: float) -> None:
    gradients = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    assert kernel_value(gradients * size) == pytest.approx(size * kernel_value(gradients), rel=1e-4)


def test_a_value_counts_directions() -> None:
    assert kernel_value(torch.eye(4)) == pytest.approx(2.0)  # tr 1, pr 4
    assert kernel_value(torch.eye(4)[:1].expand(4, 4)) == pytest.approx(1.0)  # tr 1, pr 1
    assert kernel_value(torch.zeros(4, 3)) == 0.0
    assert kernel_value(torch.tensor([[3.0, -4.0]])) == pytest.approx(5.0)


def test_the_biases_of_the_head_move_every_image_alike() -> None:
    task = task_of([0, 1, 2, 3] * 5)
    assert tangent(task).bias[task.trace.head] == pytest.approx(1.0)


def test_no_more_images_are_looked_at_than_said() -> None:
    """Images beyond those change nothing: neither the head's half nor what is taken of the other."""
    task = task_of([0, 1, 2, 3] * 50)
    _, others = divide(task.labels, 2, 0)
    images = task.images.clone()
    images[others[IMAGES:]] += 1
    assert np.array_equal(arrays(tangent(replace(task, images=images))), arrays(tangent(task)))


def test_another_seed_gives_other_values() -> None:
    labels = [0, 1, 2, 3] * 5
    assert not np.allclose(arrays(tangent(task_of(labels))), arrays(tangent(task_of(labels, seed=1))))
