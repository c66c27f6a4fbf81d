"""Derivatives that are 0 or 1, kept as one packed bit an element.

On the CPU NumPy does this work: at these sizes its comparisons and products with booleans take from an eighth to a half
of PyTorch's time (`python benchmarks/masks.py`).
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

#: The constant that the derivative is where the mask is set.
SLOPES = {"hardsigmoid": 1 / 6}


def derivative_mask(x: Tensor, op: str, *, sign: bool) -> Tensor:
    """Where an activation's derivative is not 0, as a boolean tensor.

    Args:
        x: Input of the activation, any shape.
        op: relu, relu6 or hardsigmoid; with `sign` any.
        sign: Take the sign of the input instead: set where x >= 0 (MobileTL, Chiang et al. 2023).
    """
    values = x.detach()
    if not _numpy_can(values):
        mask: Tensor = _compare(values, op, sign)
        return mask
    return torch.from_numpy(_compare(values.numpy(), op, sign))


def pack_bits(mask: Tensor) -> Tensor:
    """Pack a boolean (N, ...) of n elements a sample into uint8 (N, ceil(n / 8)), in the order of memory."""
    ordered = mask.permute(0, 2, 3, 1) if is_channels_last(mask) else mask
    flat = ordered.reshape(len(mask), -1)
    if flat.device.type == "cpu":
        return torch.from_numpy(np.packbits(flat.numpy(), axis=1))
    padded = F.pad(flat, (0, -flat.shape[1] % 8)).view(len(flat), -1, 8).to(torch.uint8)
    return (padded << _shifts(flat.device)).sum(-1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, shape: torch.Size, *, channels_last: bool = False) -> Tensor:
    """Undo `pack_bits`: a boolean tensor of the given shape and memory format."""
    count = shape[1:].numel()
    if packed.device.type == "cpu":
        bits = torch.from_numpy(np.unpackbits(packed.numpy(), axis=1, count=count)).view(torch.bool)
    else:
        bits = ((packed.unsqueeze(-1) >> _shifts(packed.device)) & 1).flatten(1)[:, :count].bool()
    if channels_last:
        n, c, h, w = shape
        return bits.view(n, h, w, c).permute(0, 3, 1, 2)
    return bits.view(shape)


def masked(grad: Tensor, mask: Tensor) -> Tensor:
    """The gradient where the mask is set, 0 elsewhere."""
    if not _numpy_can(grad):
        return grad * mask
    with np.errstate(invalid="ignore"):  # a training that diverges says so by its loss
        return torch.from_numpy(np.multiply(grad.detach().numpy(), mask.numpy()))


def is_channels_last(x: Tensor) -> bool:
    """Whether a tensor lies channel by channel within each pixel, and not pixel by pixel within each channel."""
    return x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _compare(x: Any, op: str, sign: bool) -> Any:
    """For tensors and arrays alike."""
    if sign:
        return x >= 0
    if op == "relu":
        return x > 0
    low, high = (0, 6) if op == "relu6" else (-3, 3)
    return (x > low) & (x < high)


def _numpy_can(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and not torch.compiler.is_compiling()


def _shifts(device: torch.device) -> Tensor:
    return torch.arange(7, -1, -1, device=device, dtype=torch.uint8)
