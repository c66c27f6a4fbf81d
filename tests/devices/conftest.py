"""Networks and random policies for the tests of the cost models."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2
from tinysearch.spaces.lite_shape import lite_shape
from tinysearch.spaces.operations import SIGN_MASK
from tinysearch.spaces.policy import Channels, LayerUpdate, LiteUpdate, NormUpdate, UpdatePolicy
from tinysearch.spaces.trace import Trace, trace

RandomPolicy = Callable[[Trace, int], UpdatePolicy]


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, 8, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(8, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.fc2(self.relu(self.fc1(self.pool(x)))))


class Unit(nn.Module):
    """An inverted residual with everything that MobileNetV3 has, and a sigmoid gate as its last row if asked."""

    def __init__(self, c: int, out: int, stride: int, *, gated: bool = False) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(c, 3 * c, 1, bias=False), nn.BatchNorm2d(3 * c), nn.Hardswish())
        self.depthwise = nn.Sequential(
            nn.Conv2d(3 * c, 3 * c, 5, stride, 2, groups=3 * c), nn.GroupNorm(3, 3 * c), nn.SiLU()
        )
        self.excite = SqueezeExcite(3 * c)
        self.project = nn.Sequential(nn.Conv2d(3 * c, out, 1, bias=False), nn.BatchNorm2d(out))
        self.last = nn.Sigmoid() if gated else nn.Identity()
        self.skip = stride == 1 and c == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.project(self.excite(self.depthwise(self.expand(x)))))
        return x + y if self.skip else y


class SmallNet(nn.Module):
    """Squeeze-and-excite, hard swish, hard sigmoid, SiLU, a grouped conv, group and layer norms, pools."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.Hardswish())
        self.pool = nn.AvgPool2d(2)
        self.blocks = nn.Sequential(Unit(12, 12, 1), Unit(12, 20, 2, gated=True), Unit(20, 20, 1))
        self.mix = nn.Conv2d(20, 20, 3, 1, 1, groups=4)
        self.top = nn.MaxPool2d(2)
        self.norm = nn.LayerNorm(20)
        self.hidden = nn.Linear(20, 18)
        self.act = nn.ReLU()
        self.head = nn.Linear(18, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.top(self.mix(self.blocks(self.pool(self.stem(x)))))
        return self.head(self.act(self.hidden(self.norm(x.mean((2, 3))))))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small batches run faster so, and on a busy machine many times faster."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mobilenet() -> MobileNetV2:
    torch.manual_seed(0)
    return MobileNetV2(0.35, 10)


@pytest.fixture(scope="session")
def small_net() -> SmallNet:
    torch.manual_seed(0)
    return SmallNet()


@pytest.fixture(scope="session")
def mobilenet_trace(mobilenet: MobileNetV2) -> Trace:
    return trace(mobilenet, (3, 96, 96))


@pytest.fixture(scope="session")
def small_trace(small_net: SmallNet) -> Trace:
    return trace(small_net, (3, 50, 50))


@pytest.fixture(scope="session")
def random_policy() -> RandomPolicy:
    """A policy drawn from everything that can be said of a trace; the seed decides how much trains, and how deep."""
    return _random_policy


def _random_policy(found: Trace, seed: int) -> UpdatePolicy:
    rng = np.random.default_rng(seed)
    start = int(rng.integers(0, len(found)))
    share = rng.choice([0.0, 0.1, 0.5, 1.0], size=4)
    layers: list[LayerUpdate] = []
    norms: list[NormUpdate] = []
    for row in range(start, len(found)):
        layer = found.layers[row]
        if layer.kind in ("conv", "linear") and row != found.head and rng.random() < share[0]:
            weight = _random_weight(found, row, rng)
            bias = bool(layer.bias and rng.random() < 0.5)
            if weight != "none" or bias:
                layers.append(LayerUpdate(name=layer.name, weight=weight, bias=bias))
        elif layer.kind == "norm" and rng.random() < share[1]:
            scale, shift, statistics = (bool(flag) for flag in rng.random(3) < 0.5)
            norms.append(NormUpdate(name=layer.name, scale=scale, shift=shift, statistics=statistics))
    acts = [layer.name for layer in found.layers if layer.op in SIGN_MASK and rng.random() < share[2]]
    lites = []
    for block in found.blocks:
        shape = lite_shape(block.in_shape, block.out_shape, found.input_shape)
        if shape is not None and rng.random() < share[3] * 0.6:
            lites.append(
                LiteUpdate(
                    block=block.name,
                    in_channels=shape.in_channels,
                    out_channels=shape.out_channels,
                    stride=shape.stride,
                    kernel=shape.kernel,
                    pool=shape.pool,
                    shift=bool(rng.random() < 0.5),
                )
            )
    return UpdatePolicy(
        backbone=found.name,
        input_shape=found.input_shape,
        head=found.layers[found.head].name,
        layers=tuple(layers),
        norms=tuple(norms),
        lite_residuals=tuple(lites),
        sign_masks=tuple(acts),
    )


def _random_weight(found: Trace, row: int, rng: np.random.Generator) -> Channels | str:
    layer = found.layers[row]
    if not layer.sliceable:
        return "all"
    kind = rng.choice(["none", "all", "in", "out"])
    if kind in ("none", "all"):
        return str(kind)
    channels = layer.in_channels if kind == "in" else layer.out_channels
    count = int(rng.integers(1, channels + 1))  # all of them, too
    index = tuple(sorted(rng.choice(channels, count, replace=False).tolist()))
    return Channels(axis=kind, index=index)
