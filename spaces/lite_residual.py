"""Lite residual modules (TinyTL, Cai et al. 2020, section 3.2): small trained branches beside frozen blocks.

A module stands in parallel with a block. It halves the resolution first, so that what it must keep is small, and it
starts as the zero function, so that adding it changes nothing until it is trained.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .lite_shape import NORM_GROUP, LiteShape


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


def _group_norm(channels: int) -> nn.GroupNorm:
    groups = channels // NORM_GROUP if channels % NORM_GROUP == 0 else 1
    return nn.GroupNorm(groups, channels)
