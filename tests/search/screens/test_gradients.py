"""Gradients image by image, against autograd of one image after another."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tinysearch.core.errors import UnsupportedError
from tinysearch.search.screens.gradients import visit_gradients
from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2
from tinysearch.spaces.graph import symbolic_trace
from tinysearch.spaces.standardised import StandardisedConv2d
from tinysearch.spaces.trace import trace

ATTRIBUTE = {"weight": "weight", "scale": "weight", "bias": "bias"}


class Net(nn.Module):
    """Features under test, then a classifier of their mean."""

    def __init__(self, *features: nn.Module, width: int = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class Tokens(nn.Module):
    """Linear layers and layer norms over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.norm = nn.LayerNorm(8)
        self.map = nn.Linear(8, 8)
        self.whole = nn.LayerNorm((9, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = tokens + torch.relu(self.map(self.norm(tokens)))
        return self.head(self.whole(tokens).mean(1))


class Twice(Net):
    """Several readers of one value."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        return self.head((torch.sigmoid(y) * y + y).mean((2, 3)))


def seen_norm(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """A batch norm whose statistics and values are not those that it starts with."""
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "stride 2, bias": lambda: Net(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()),
    "1x1, stride 2": lambda: Net(nn.Conv2d(3, 8, 1, 2, bias=False)),
    "depthwise 5x5, stride 2": lambda: Net(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, 2, 2, groups=8)),
    "grouped": lambda: Net(nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.Conv2d(8, 12, 3, 1, 1, groups=4), width=12),
    "one input, many outputs": lambda: Net(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 6, 3, groups=3), width=6),
    "dilated, uneven": lambda: Net(nn.Conv2d(3, 8, (3, 2), (2, 1), (2, 0), (2, 3), bias=False)),
    "batch norm, in place": lambda: Net(
        nn.Conv2d(3, 8, 3, 1, 1, bias=False), seen_norm(nn.BatchNorm2d(8)), nn.ReLU6(inplace=True), nn.Conv2d(8, 8, 1)
    ),
    "group norm": lambda: Net(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 8, 1)),
    "standardised": lambda: Net(StandardisedConv2d(nn.Conv2d(3, 8, 3, 2, bias=False)), nn.GroupNorm(2, 8), nn.ReLU()),
    "reflected": lambda: Net(nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")),
    "as large as the input": lambda: Net(nn.Conv2d(3, 8, 3, padding="same")),
    "several readers": lambda: Twice(nn.Conv2d(3, 8, 3), seen_norm(nn.BatchNorm2d(8))),
    "linear over positions": Tokens,
}


def shown(network: nn.Module, images: Tensor, objective: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """The gradients of all tensors, by parameter name."""
    table = replace(trace(network, tuple(images.shape[1:])), lite_layers=())
    found: dict[str, Tensor] = {}

    def visit(row: int, part: str, gradients: Tensor) -> None:
        layer = table.rows[row]
        name = layer.name if layer.kind == "parameter" else f"{layer.name}.{ATTRIBUTE[part]}"
        assert name not in found
        found[name] = gradients

    shape = tuple(images.shape[1:])
    frozen = symbolic_trace(network.eval().requires_grad_(False), shape)
    visit_gradients(frozen, table, images, objective, visit)
    return found


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_one_image_after_another(name: str, channels_last: bool) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    images, direction = torch.randn(5, 3, 12, 12), torch.randn(3)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    found = shown(network, images, lambda logits: logits.square() @ direction)
    network.requires_grad_(True)
    expected: dict[str, list[Tensor]] = {}
    for image in images:
        network.zero_grad()
        (network(image[None]).square() @ direction).sum().backward()
        for parameter, tensor in network.named_parameters():
            expected.setdefault(parameter, []).append(tensor.grad.flatten().clone())
    assert set(found) == set(expected)
    for parameter, gradients in expected.items():
        reference = torch.stack(gradients)
        assert (found[parameter] - reference).norm() <= 1e-4 * reference.norm(), parameter


@pytest.mark.parametrize("tf_padding", [False, True])
def test_a_deep_network_agrees_to_the_last_digits_of_double_precision(tf_padding: bool) -> None:
    torch.manual_seed(0)
    network = MobileNetV2(0.35, 3, tf_padding=tf_padding).eval().double()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    found = shown(network, images, lambda logits: logits[:, 0])
    network.requires_grad_(True)
    parameters = dict(network.named_parameters())
    alone = [torch.autograd.grad(network(image[None])[0, 0], list(parameters.values())) for image in images]
    for name, gradients in zip(parameters, zip(*alone, strict=True), strict=True):
        reference = torch.stack(gradients).flatten(1)
        assert (found[name] - reference).norm() <= 1e-10 * reference.norm(), name


@pytest.mark.parametrize("name", ["attention", "pytorch_attention", "folding", "tokens_first"])
def test_networks_of_tokens_agree_to_the_last_digits_of_double_precision(name: str) -> None:
    import token_nets  # of the folder that conftest.py makes importable

    torch.manual_seed(0)
    network = getattr(token_nets, name)(3).eval().double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            seen_norm(module)
    # As many as there are tokens, so that a layer's first axis may be taken for the wrong one.
    images = torch.randn(16, 3, 16, 16, dtype=torch.float64)
    found = shown(network, images, lambda logits: logits.square()[:, 0])
    assert not any(parameter.requires_grad for parameter in network.parameters())
    network.requires_grad_(True)
    parameters = dict(network.named_parameters())
    alone = [torch.autograd.grad(network(image[None])[0, 0].square(), list(parameters.values())) for image in images]
    assert set(found) == set(parameters)
    for parameter, gradients in zip(parameters, zip(*alone, strict=True), strict=True):
        reference = torch.stack(gradients).flatten(1)
        assert (found[parameter] - reference).norm() <= 1e-9 * reference.norm().clamp_min(1e-9), parameter


def test_what_the_objective_does_not_depend_on_is_not_shown() -> None:
    network = Net(nn.Conv2d(3, 8, 1))
    assert shown(network, torch.randn(2, 3, 4, 4), lambda logits: logits.detach().sum(1).requires_grad_()) == {}


def test_hooks_are_taken_off_again_even_after_an_error() -> None:
    network = Net(nn.Conv2d(3, 8, 1))

    def fail(logits: Tensor) -> Tensor:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        shown(network, torch.randn(2, 3, 4, 4), fail)
    assert not any(module._forward_hooks for module in network.modules())


def test_what_is_overwritten_later_is_refused() -> None:
    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Conv2d(3, 3, 1)
            self.head = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x * 2
            y = self.map(x)
            return self.head(x.add_(y).mean((2, 3)))

    with pytest.raises(UnsupportedError, match="what map reads is overwritten later"):
        shown(Overwriting(), torch.randn(2, 3, 4, 4), lambda logits: logits.sum(1))
