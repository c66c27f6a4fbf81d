"""Lite residual modules (TinyTL, Cai et al. 2020, section 3.2): small trained branches beside frozen blocks.

A module stands in parallel with a block. It halves the resolution first, so that what it must keep is small, and it
starts as the zero function, so that adding it changes nothing until it is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

#: Width of a group of the modules' group norms, in channels (TinyTL, section 4.1).
NORM_GROUP = 8
#: Resolution at which the paper shrinks kernels to the feature map (TinyTL's public code).
KERNEL_RESOLUTION = 128


@dataclass(frozen=True, slots=True)
class LiteShape:
    """What decides a lite residual module's structure.

    Attributes:
        in_channels: Channels that enter the block.
        out_channels: Channels that leave it.
        stride: Stride of the block.
        kernel: Kernel of the group convolution.
        pool: Whether the map is halved first; a 1 x 1 map cannot be.
    """

    in_channels: int
    out_channels: int
    stride: int
    kernel: int
    pool: bool = True


class LiteResidual(nn.Module):
    """Pool, group conv, norm, ReLU, 1x1 conv, norm; upsampled and added to the block's output."""

    def __init__(self, shape: LiteShape) -> None:
        super().__init__()
        hidden = max(NORM_GROUP, (shape.in_channels + NORM_GROUP // 2) // NORM_GROUP * NORM_GROUP)
        groups = 2 if shape.in_channels % 2 == 0 else 1
        kernel, stride = shape.kernel, shape.stride if shape.pool else 1
        self.pool = nn.AvgPool2d(2) if shape.pool else nn.AdaptiveAvgPool2d(1)
        self.conv1 = nn.Conv2d(shape.in_channels, hidden, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        self.norm1 = _group_norm(hidden)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(hidden, shape.out_channels, 1, bias=False)
        self.norm2 = _group_norm(shape.out_channels)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out")
        nn.init.kaiming_normal_(self.conv2.weight, mode="fan_out")
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor, branch: Tensor) -> Tensor:
        """Add the module's answer to the block's.

        Args:
            x: What enters the block, (N, C_in, H, W).
            branch: What leaves it, (N, C_out, H', W').
        """
        y = self.act(self.norm1(self.conv1(self.pool(x))))
        y = self.norm2(self.conv2(y))
        return branch + F.interpolate(y, size=branch.shape[-2:], mode="bilinear", align_corners=False)


def lite_shape(in_shape: Sequence[int], out_shape: Sequence[int], input_shape: Sequence[int]) -> LiteShape | None:
    """The module that TinyTL would put beside a block, or None where none can stand.

    Args:
        in_shape: What enters the block, (C, H, W).
        out_shape: What leaves it, (C, H, W).
        input_shape: The network's input, (C, H, W); the kernel is 5, or less where the block's map is smaller than
            that when the network runs at 128 pixels.
    """
    if len(in_shape) != 3 or len(out_shape) != 3:
        return None
    size = min(in_shape[1:])
    stride = round(in_shape[1] / out_shape[1])
    nominal = max(1, round(size * KERNEL_RESOLUTION / min(input_shape[1:])))
    pool = size >= 2
    kernel = 5
    while kernel > nominal or (not pool and kernel > 1):
        kernel -= 2
    return LiteShape(in_shape[0], out_shape[0], stride, kernel, pool)


def _group_norm(channels: int) -> nn.GroupNorm:
    groups = channels // NORM_GROUP if channels % NORM_GROUP == 0 else 1
    return nn.GroupNorm(groups, channels)
