"""The network that gradients are taken of."""

from dataclasses import replace

import pytest
import torch

from tinysearch.search.proxies.classifier import set_head
from tinysearch.search.proxies.prototypes import FrozenBackbone
from tinysearch.search.screens import ScreenTask
from tinysearch.search.screens.gradients import visit_gradients
from tinysearch.search.screens.probe import probe
from tinysearch.spaces import methods
from tinysearch.spaces.engine.apply import apply
from tinysearch.testing.screens import task_of


@pytest.fixture(scope="module")
def task() -> ScreenTask:
    return task_of([0, 1, 2, 3] * 3)


def shown(task: ScreenTask) -> dict[tuple[str, str], torch.Tensor]:
    everything = torch.arange(len(task.labels))
    found = {}

    def visit(row: int, part: str, gradients: torch.Tensor) -> None:
        found[task.trace.rows[row].name, part] = gradients

    visit_gradients(probe(task, everything), task.trace, task.images, lambda logits: logits.square().sum(1), visit)
    return found


def test_it_computes_what_the_backbone_does_under_its_prototypes(task: ScreenTask) -> None:
    fitted = torch.arange(8)
    frozen = FrozenBackbone(task.backbone, task.head, task.trace.input_shape)
    plain = set_head(frozen.module, task.head, frozen.prototypes(task.images[:8], task.labels[:8]))
    assert torch.allclose(probe(task, fitted)(task.images), plain(task.images), rtol=1e-4, atol=1e-3)


def test_every_tensor_of_every_row_is_shown(task: ScreenTask) -> None:
    expected = set()
    for layer in task.trace.rows:
        if layer.params:
            expected.add((layer.name, "scale" if layer.kind == "norm" else "weight"))
        if layer.bias:
            expected.add((layer.name, "bias"))
    assert any(".lite_residual." in name for name, _ in expected)
    assert set(shown(task)) == expected


def test_last_norms_of_lite_residual_modules_have_the_gradients_that_they_begin_with(task: ScreenTask) -> None:
    """Those of an applied policy, whose modules add nothing yet."""
    found = shown(task)
    everything = torch.arange(len(task.labels))
    policy = methods.tinytl(task.trace, "L")
    model = apply(task.backbone, policy, seed=task.seed).eval()
    frozen = FrozenBackbone(task.backbone, task.head, task.trace.input_shape)
    set_head(model, task.head, frozen.prototypes(task.images[everything], task.labels[everything]))
    model(task.images).square().sum().backward()
    assert policy.lite_residuals
    for lite in policy.lite_residuals:
        name = f"{lite.block}.lite_residual.norm2"
        norm = model.get_submodule(name)
        for part, parameter in (("scale", norm.weight), ("bias", norm.bias)):
            total = found[name, part].sum(0)
            assert (total - parameter.grad).norm() < 1e-3 * parameter.grad.norm()


def test_lite_residual_modules_change_no_gradient_of_the_backbone(task: ScreenTask) -> None:
    with_modules = shown(task)
    blocks = tuple(replace(block, lite=()) for block in task.trace.blocks)
    bare = replace(task, trace=replace(task.trace, lite_layers=(), blocks=blocks))
    without = shown(bare)
    assert set(without) < set(with_modules)
    for key, gradients in without.items():
        assert (gradients - with_modules[key]).norm() <= 1e-3 * gradients.norm(), key
