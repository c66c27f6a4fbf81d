"""A backbone of a user's own, small enough that a search with it takes seconds: `tiny_net:build`."""

import torch
from torch import Tensor, nn


class Unit(nn.Module):
    """An inverted residual."""

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
        y = self.layers(x)
        return x + y if self.skip else y


class TinyNet(nn.Module):
    """A stem, three inverted residuals and a classifier, for images of 16 pixels a side."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.input_size = 16
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(Unit(8, 8, 1), Unit(8, 12, 2), Unit(12, 12, 1))
        self.head = nn.Linear(12, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def build(num_classes: int) -> nn.Module:
    """The network with norms that have seen data, as after a pretraining."""
    model = TinyNet(num_classes)
    model.train()
    with torch.no_grad():
        for _ in range(10):
            model(torch.randn(32, 3, 16, 16))
    return model.eval()


class OneConv(nn.Module):
    """One convolution below the classifier: a space of one segment."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.input_size = 16
        self.conv = nn.Conv2d(3, 4, 3, 2, 1, bias=False)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


def one_conv(num_classes: int) -> nn.Module:
    return OneConv(num_classes)


class Diverging(TinyNet):
    """Its logits overflow, so that the loss is never finite."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 1e30 * 1e30


def diverging(num_classes: int) -> nn.Module:
    return Diverging(num_classes)


class HeadOnly(nn.Module):
    """Nothing below the classifier: the space has one policy."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(3, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.pool(x), 1))


def head_only(num_classes: int) -> nn.Module:
    return HeadOnly(num_classes)


def deep(num_classes: int) -> nn.Module:
    """So many blocks that the space has more than a thousand genes."""
    model = TinyNet(num_classes)
    model.blocks = nn.Sequential(*(Unit(8, 8, 1) for _ in range(120)), Unit(8, 12, 1))
    return model


class Copies(torch.autograd.Function):
    """Passes its input on, and keeps a copy of it if there are more than three images."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x.clone() if len(x) > 3 else None)
        return x * 1

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        return grads[0]


class ByBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Copies.apply(x)


def by_batch(num_classes: int) -> nn.Module:
    """The same values under the same names, but more is kept of many images than of few, behind every block."""
    model = build(num_classes)
    for block in model.blocks:
        block.layers.append(ByBatch())
    return model.eval()


def dropping(num_classes: int) -> nn.Module:
    """Some of what the blocks see is dropped in training."""
    model = build(num_classes)
    model.stem.append(nn.Dropout(0.3))
    return model.eval()
