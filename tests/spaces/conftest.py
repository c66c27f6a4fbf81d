"""Small networks with every operation that policies know."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2
from tinysearch.spaces.trace import Trace, trace


class SqueezeBlock(nn.Module):
    """An inverted residual with hard swish, squeeze-and-excite and an odd kernel."""

    def __init__(self, channels: int, hidden: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.act1 = nn.Hardswish()
        self.depthwise = nn.Conv2d(hidden, hidden, 5, stride, 2, groups=hidden, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(hidden, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.excite = nn.Conv2d(4, hidden, 1)
        self.gate = nn.Hardsigmoid()
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act1(self.norm1(self.expand(x)))
        y = self.norm2(self.depthwise(y))
        y = y * self.gate(self.excite(self.relu(self.squeeze(self.pool(y)))))
        y = self.norm3(self.project(F.relu6(y)))
        return x + y if self.stride == 1 else y


class SqueezeNet(nn.Module):
    """Two such blocks, a grouped conv, and functional operations in the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2)
        self.blocks = nn.Sequential(SqueezeBlock(8, 16, 1), SqueezeBlock(8, 16, 2))
        self.lower = nn.Conv2d(8, 8, 3, 2)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=2)
        self.norm = nn.GroupNorm(3, 12)
        self.act = nn.SiLU()
        self.fc = nn.Linear(12, 10)
        self.head = nn.Linear(10, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu(self.stem(F.pad(x, (x.shape[-1] % 2, 1, x.shape[-2] % 2, 1)))))
        x = self.lower(F.pad(x, (0, 1, 0, 1)))
        x = self.act(self.norm(self.grouped(x)))
        return self.head(F.relu(self.fc(x.mean((2, 3)).flatten(1))))


def _with_statistics(model: nn.Module) -> nn.Module:
    """Give norms statistics and scales that are not those of a fresh network."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def squeeze_net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _with_statistics(SqueezeNet())


@pytest.fixture(scope="session")
def mobilenet() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _with_statistics(MobileNetV2(0.1, 10))


@pytest.fixture(scope="session", params=["attention", "pytorch_attention", "folding", "tokens_first"])
def token_net(request) -> nn.Module:
    """Networks with parameters by themselves, with sizes and views."""
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.syspath_prepend(Path(__file__).resolve().parent.parent / "user")
        import token_nets

        torch.manual_seed(0)
        return _with_statistics(getattr(token_nets, request.param)(5))


@pytest.fixture(scope="session")
def token_trace(token_net) -> Trace:
    return trace(token_net, (3, 16, 16))


@pytest.fixture(scope="session")
def squeeze_trace(squeeze_net) -> Trace:
    return trace(squeeze_net, (3, 33, 33))


@pytest.fixture(scope="session")
def mobilenet_trace(mobilenet) -> Trace:
    return trace(mobilenet, (3, 32, 32))
