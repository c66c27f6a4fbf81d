"""Small networks that the suites work with."""

import torch
from torch import Tensor, nn

from ..spaces.trace import Trace, trace

#: Side of the images of these networks, in pixels.
SIZE = 16


class _Unit(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        hidden = 2 * channels
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.skip = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.skip else y


class SmallNet(nn.Module):
    """A stem, three inverted residuals and a classifier."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.input_size = SIZE
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(_Unit(8, 8, 1), _Unit(8, 12, 2), _Unit(12, 12, 1))
        self.head = nn.Linear(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


class OneConv(nn.Module):
    """One convolution below the classifier: its space has two genes."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.input_size = SIZE
        self.conv = nn.Conv2d(3, 4, 3, 2, 1, bias=False)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        logits: Tensor = self.head(torch.relu(self.conv(x)).mean((2, 3)))
        return logits


class HeadOnly(nn.Module):
    """Nothing below the classifier: its space has one policy and no genes."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.input_size = SIZE
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(3, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images."""
        logits: Tensor = self.head(torch.flatten(self.pool(x), 1))
        return logits


def make(kind: type[nn.Module]) -> nn.Module:
    """One of these networks, the same at every call, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return kind().eval()


def traced(kind: type[nn.Module]) -> Trace:
    """The trace of one of these networks."""
    return trace(make(kind), (3, SIZE, SIZE))


def images(count: int, size: int = SIZE, seed: int = 0) -> Tensor:
    """Random images, (count, 3, size, size)."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
