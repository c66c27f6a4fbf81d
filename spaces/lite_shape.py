"""Which lite residual module can stand beside a block (TinyTL, Cai et al. 2020, section 3.2); known without torch."""

from collections.abc import Sequence
from dataclasses import dataclass

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

    def __str__(self) -> str:
        """In words, for messages."""
        pool = "halved" if self.pool else "whole"
        return f"{self.in_channels} to {self.out_channels} channels, stride {self.stride}, kernel {self.kernel}, {pool}"


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
