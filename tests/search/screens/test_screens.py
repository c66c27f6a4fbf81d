"""The registry of screens, and what is special in each."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tinysearch.core.errors import InputError
from tinysearch.search.screens import SCREENS, ScreenTask, make_screen
from tinysearch.search.screens.fisher import fisher
from tinysearch.search.screens.loss import loss_gradients
from tinysearch.search.screens.parts import divide
from tinysearch.search.screens.probe import probe
from tinysearch.search.screens.sign_alignment import sign_alignment
from tinysearch.spaces import methods
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace
from tinysearch.testing.screens import arrays, task_of


def test_the_built_in_screens_have_names_and_summaries() -> None:
    assert SCREENS.names() == "there are tangent, fisher, sign-alignment, count"
    assert all(entry.summary for entry in SCREENS.entries())
    with pytest.raises(InputError, match="no screen named 'tangents': there are tangent"):
        make_screen("tangents", task_of([0, 1, 2, 3]))


def test_a_program_adds_its_own_and_what_is_none_is_refused() -> None:
    task = task_of([0, 1, 2, 3])
    with pytest.raises(InputError, match="a str, where a function from a ScreenTask"):
        SCREENS.add("mine", "tangent")
    SCREENS.add("mine", lambda task: 3.0)
    try:
        with pytest.raises(InputError, match="the screen 'mine' of this program failed: TypeError: it gives a float"):
            make_screen("mine", task)
    finally:
        SCREENS.remove("mine")


@pytest.mark.parametrize("name", ["tangent", "fisher", "sign-alignment"])
@pytest.mark.parametrize("image", range(12))
def test_answers_that_are_not_finite_are_refused(name: str, image: int) -> None:
    """Whichever part the image is in."""
    task = task_of([0, 1, 2, 3] * 3)
    task.images[image, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="the network's answers are not finite: check"):
        make_screen(name, task)


@pytest.mark.parametrize("backbone", ["attention", "pytorch_attention", "folding", "tokens_first"])
@pytest.mark.parametrize("name", ["tangent", "fisher", "sign-alignment", "count"])
def test_networks_of_tokens_are_scored(name: str, backbone: str) -> None:
    import token_nets  # of the folder that conftest.py makes importable

    torch.manual_seed(0)
    net = getattr(token_nets, backbone)(4).eval()
    table = trace(net, (3, 16, 16))
    images = torch.randn(24, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    score = make_screen(name, ScreenTask(net, table, images, torch.arange(24) % 4))
    if name in ("tangent", "fisher"):
        rows = [row for row, layer in enumerate(table.rows) if layer.kind == "parameter"]
        assert (score.scale[rows] > 0).all()
        assert all(score.weight[row] > 0 for row, layer in enumerate(table) if layer.kind in ("conv", "linear"))
    last, full = score(UpdateTable.of(table, [methods.last(table), methods.full(table)]))
    assert last < full


def test_values_that_are_not_finite_are_refused() -> None:
    task = task_of([0, 1, 2, 3])
    SCREENS.add("mine", lambda task: replace(make_screen("count", task), bias=np.full(len(task.trace.rows), np.nan)))
    try:
        with pytest.raises(InputError, match="values of the screen 'mine' are not finite: check"):
            make_screen("mine", task)
    finally:
        SCREENS.remove("mine")


def test_counting_scores_the_number_of_weights() -> None:
    task = task_of([0, 1, 2, 3])
    trace = task.trace
    table = UpdateTable.of(trace, [methods.last(trace), methods.bias(trace), methods.full(trace)])
    convs = sum(layer.kind in ("conv", "linear") for layer in trace.layers)
    assert make_screen("count", task)(table).tolist() == [1, 1, convs]


@pytest.mark.parametrize("images", [24, 148])
def test_loss_gradients_are_those_of_autograd(images: int) -> None:
    """Of fewer images than are held at once, and of more."""
    task = task_of([0, 1, 2, 3] * (images // 4))
    network = probe(task, torch.arange(8))
    found = loss_gradients(network, task.trace, task.images, task.labels)
    network.requires_grad_(True)
    F.cross_entropy(network(task.images), task.labels).backward()
    for layer in task.trace.layers:
        if layer.params:
            reference = network.get_parameter(f"{layer.name}.weight").grad.flatten()
            part = "scale" if layer.kind == "norm" else "weight"
            value = found[task.trace.index[layer.name], part]
            assert (value - reference).norm() <= 1e-4 * reference.norm() + 1e-7, layer.name


def test_fisher_sums_the_squares_of_the_gradient() -> None:
    task = task_of([0, 1, 2, 3] * 6)
    score = fisher(task)
    network = probe(task, *divide(task.labels, 1, 0))
    for (row, part), gradient in loss_gradients(network, task.trace, task.images, task.labels).items():
        assert getattr(score, part)[row] == pytest.approx(float(gradient.square().sum()), rel=1e-3)


def test_sign_alignment_looks_at_three_parts() -> None:
    task = task_of([0, 1, 2, 3] * 9)
    fitted, support, query = divide(task.labels, 3, 0)
    network = probe(task, fitted)
    towards, wanted = (
        loss_gradients(network, task.trace, task.images[part], task.labels[part]) for part in (support, query)
    )
    score = sign_alignment(task)
    aligned = {key: float((towards[key].sign() * wanted[key]).sum()) for key in towards}
    assert min(aligned.values()) < 0 < max(aligned.values())
    for (row, part), value in aligned.items():
        assert getattr(score, part)[row] == pytest.approx(max(value, 0) ** 0.5, rel=1e-4, abs=1e-6)


def test_a_head_of_one_image_a_class_leaves_something_to_learn() -> None:
    values = arrays(fisher(task_of([0, 1, 2, 3])))
    assert np.isfinite(values).all()
    assert values.max() > 0
