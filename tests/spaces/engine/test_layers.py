"""The layers on their own: grouped channels, memory formats, autocast, dropout, and what is refused."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinysearch.core.errors import UnsupportedError
from tinysearch.devices.measure import measure
from tinysearch.devices.step.saved import saved_bytes
from tinysearch.spaces import methods
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.engine.layers import Conv2d, Dropout, MaskedActivation
from tinysearch.spaces.policy import LayerUpdate, NormUpdate, UpdatePolicy
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace


def _predicted(model, policy, shape, batch):
    return int(saved_bytes(UpdateTable.of(trace(model, shape), [policy]), batch).sum())


def _measured(model, policy, shape, batch):
    images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(2))
    return measure(apply(model, policy), images, torch.zeros(batch, dtype=torch.long), repeats=1).saved_bytes


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(8, 8, 8), (8, 16, 8), (8, 12, 4), (6, 9, 3), (8, 12, 1)])
@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("which", ["first", "last", "odd"])
def test_gradient_of_a_set_of_channels_is_that_part_of_pytorchs(inputs, outputs, groups, axis, which):
    torch.manual_seed(0)
    conv = nn.Conv2d(inputs, outputs, 3, 2, 1, groups=groups).double()
    count = inputs if axis == "in" else outputs
    index = {"first": (0,), "last": (count - 1,), "odd": tuple(range(1, count, 2))}[which]
    layer = Conv2d(deepcopy(conv).requires_grad_(False))
    layer.train_channels(axis, index)
    x = torch.randn(3, inputs, 9, 9, dtype=torch.double)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    gradient = torch.randn_like(conv(x))
    conv(theirs).backward(gradient)
    layer(ours).backward(gradient)
    torch.testing.assert_close(ours.grad, theirs.grad)
    # An independent definition: the trained channels change, and the change is minus PyTorch's gradient there alone.
    mask = torch.zeros_like(conv.weight)
    for channel in index:
        if axis == "out":
            mask[channel] = 1
        else:
            per_group = inputs // groups
            rows = slice(channel // per_group * (outputs // groups), (channel // per_group + 1) * (outputs // groups))
            mask[rows, channel % per_group] = 1
    with torch.no_grad():
        layer.weight_update -= layer.weight_update.grad
    torch.testing.assert_close(layer.composed_weight(), (conv.weight - conv.weight.grad * mask).detach())


@pytest.mark.parametrize("op", ["relu", "relu6", "hardsigmoid"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 8, 1, 1), (1, 1, 4, 4), (3, 11)])
def test_masks_in_either_order_of_memory(op, shape):
    x = 4 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    last = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    theirs = x.clone().requires_grad_()
    getattr(F, op)(theirs).backward(gradient)
    for x_order in (torch.contiguous_format, last):
        for gradient_order in (torch.contiguous_format, last):
            ours = x.clone(memory_format=x_order).requires_grad_()
            MaskedActivation(op)(ours).backward(gradient.contiguous(memory_format=gradient_order))
            torch.testing.assert_close(ours.grad, theirs.grad)


def _gradients(model, images, labels, **context):
    with torch.autocast("cpu", dtype=torch.bfloat16, **context):
        loss = F.cross_entropy(model(images), labels)
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("seed", range(4))
def test_autocast_trains_as_pytorch_does(squeeze_net, squeeze_trace, seed):
    """bfloat16 has 8 bits: gradients under autocast are as far from those in full precision as PyTorch's own are."""
    space = UpdateSpace(squeeze_trace)
    row = space.sample(1, seed)[0]
    for position, gene in enumerate(space.genes):
        row[position] *= gene.kind not in ("sign", "lite", "statistics", "axis")
        if gene.kind == "weight":
            row[position] = (row[position] > 0) * (gene.levels - 1)
    model = apply(squeeze_net, space.decode(row)).train()
    images, labels = torch.randn(4, 3, 33, 33, generator=torch.Generator().manual_seed(3)), torch.arange(4)
    plain = deepcopy(squeeze_net).eval().requires_grad_(True)
    theirs = _gradients(deepcopy(plain), images, labels)
    exact = _gradients(plain, images, labels, enabled=False)
    for name, gradient in _gradients(model, images, labels).items():
        assert gradient.dtype == torch.float32
        scale = exact[name].norm() + 1e-3
        allowed = 0.02 + 2 * (theirs[name] - exact[name]).norm() / scale
        assert (gradient - exact[name]).norm() / scale < allowed, name


def test_partial_weights_under_autocast(mobilenet, mobilenet_trace):
    policy = methods.full(mobilenet_trace)
    layers = tuple(
        LayerUpdate(name=layer.name, weight={"axis": axis, "index": (0, 2)})
        for layer, axis in zip((x for x in mobilenet_trace if x.kind == "conv"), ["in", "out"] * 30, strict=False)
        if layer.name != "features.0.0"
    )
    model = apply(mobilenet, policy.model_copy(update={"layers": layers, "norms": ()})).train()
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    gradients = _gradients(model, images, labels)
    assert len(gradients) == len(layers) + 2
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


class Net(nn.Module):
    """Dropout in two places, one ReLU used three times, a norm without parameters, and a flattened head."""

    def __init__(self, drop: float = 0.3) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.conv2, self.norm2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8, affine=False)
        self.conv3, self.norm3 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.relu, self.drop1, self.drop2 = nn.ReLU(inplace=True), nn.Dropout(drop), nn.Dropout(drop)
        self.fc, self.head = nn.Linear(8 * 16, 6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.drop1(self.relu(self.norm2(self.conv2(x))))
        x = self.relu(self.norm3(self.conv3(x)))
        return self.head(self.drop2(self.fc(x.flatten(1))))


def _net_policy(**changes):
    return UpdatePolicy.model_validate({"backbone": "Net", "input_shape": (3, 8, 8), "head": "head"} | changes)


@pytest.mark.parametrize("deepest", ["conv1", "conv2", "conv3", "fc"])
@pytest.mark.parametrize("weight", ["none", "all", {"axis": "in", "index": (0, 2)}, {"axis": "out", "index": (1,)}])
def test_shared_activations_dropout_and_bare_norms_keep_what_is_predicted(deepest, weight):
    torch.manual_seed(0)
    model = Net()
    policy = _net_policy(layers=(LayerUpdate(name=deepest, weight=weight, bias=True),))
    for batch in (1, 3):
        assert _predicted(model, policy, (3, 8, 8), batch) == _measured(model, policy, (3, 8, 8), batch)


def test_shared_activations_and_bare_norms_have_pytorchs_gradients():
    torch.manual_seed(0)
    plain = Net(drop=0.0)
    plain.train()(torch.randn(16, 3, 8, 8))  # running statistics
    plain = plain.eval().requires_grad_(True).double()
    names = ("conv1", "conv2", "conv3", "fc")
    policy = _net_policy(layers=tuple(LayerUpdate(name=name, weight="all", bias=True) for name in names))
    model = apply(plain, policy).train()
    images = torch.randn(3, 3, 8, 8, dtype=torch.double)
    for network in (model, plain):
        F.cross_entropy(network(images), torch.arange(3)).backward()
    expected = dict(plain.named_parameters())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected[name].grad)


@pytest.mark.parametrize("p", [0.25, 1.0])
def test_dropout_passes_the_gradient_where_it_passed_the_value(p):
    torch.manual_seed(0)
    layer = Dropout(p)
    x = torch.ones(40, 101, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert float((y == 0).float().mean()) == pytest.approx(p, abs=0.02)
    assert set(np.unique(y.detach().numpy().round(5))) <= {0.0, np.float32(round(1 / (1 - p), 5)) if p < 1 else 0.0}
    assert torch.equal(layer.eval()(x), x)


class Tied(nn.Module):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.one, self.two, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Linear(3, 2)
        self.norm = nn.BatchNorm2d(3, affine=False, track_running_stats=what != "no statistics")
        self.drop = nn.Dropout2d(0.1)
        if what == "parameter":
            self.two.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.two(self.one(x))
        if self.what == "conv":
            x = self.one(x)
        elif self.what == "norm":
            x = self.norm(self.norm(x))
        elif self.what == "no statistics":
            x = self.norm(x)
        elif self.what == "dropout2d":
            x = self.drop(x)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("conv", "one is called twice"),
        ("norm", "norm is called twice"),
        ("parameter", r"one.weight and two.weight are one parameter"),
        ("no statistics", "track_running_stats"),
        ("dropout2d", "Dropout2d"),
    ],
)
def test_what_cannot_be_predicted_is_refused_by_trace_and_apply(what, words):
    model = Tied(what)
    with pytest.raises(UnsupportedError, match=words):
        trace(model, (3, 4, 4))
    with pytest.raises(UnsupportedError, match=words):
        apply(model, UpdatePolicy(backbone="Tied", input_shape=(3, 4, 4), head="head"))


def test_a_gradient_of_a_gradient_is_refused(mobilenet, mobilenet_trace):
    model = apply(mobilenet, methods.bias(mobilenet_trace)).train()
    loss = F.cross_entropy(model(torch.randn(2, 3, 32, 32)), torch.arange(2))
    bias = model.get_parameter("features.0.1.bias")
    (gradient,) = torch.autograd.grad(loss, bias, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_scale_that_trains_without_a_shift(mobilenet, mobilenet_trace):
    norms = tuple(NormUpdate(name=x.name, scale=True) for x in mobilenet_trace if x.kind == "norm")
    policy = methods.last(mobilenet_trace).model_copy(update={"norms": norms})
    model = apply(mobilenet, policy).train()
    plain = deepcopy(mobilenet).eval().requires_grad_(True)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for network in (model, plain):
        F.cross_entropy(network(images), torch.arange(3)).backward()
    expected = dict(plain.named_parameters())
    for norm in norms:
        name = f"{norm.name}.weight"
        torch.testing.assert_close(model.get_parameter(name).grad, expected[name].grad, rtol=1e-3, atol=1e-5)
        assert model.get_parameter(f"{norm.name}.bias").grad is None
