"""Activations whose derivative is 0 or a constant: it is kept as one packed bit an element, or read off the output.

On the CPU NumPy does this work: at these sizes its comparisons and products with booleans take from an eighth to a half
of PyTorch's time (`python benchmarks/masks.py`). On any other device the tensors stay where they are.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..operations import READ_OFF_OUTPUT

_aten = torch.ops.aten

#: The constant that the derivative is where the mask is set.
SLOPES = {"hardsigmoid": 1 / 6}


class Activation(NamedTuple):
    """An activation and what stands for its derivative.

    Attributes:
        op: Its name in `torch.nn.functional`.
        sign: Take 1 where the input is not negative (MobileTL, Chiang et al. 2023) instead of the exact derivative.
        output_kept: Whether a layer that reads the output keeps all of it anyway.
    """

    op: str
    sign: bool = False
    output_kept: bool = False

    @property
    def read_off(self) -> bool:
        """Whether the derivative is read off the output, and no mask is needed."""
        return self.output_kept and not self.sign and self.op in READ_OFF_OUTPUT


def activate(x: Tensor, op: str, *, inplace: bool = False) -> Tensor:
    """The activation's value."""
    output: Tensor = getattr(F, op)(x, inplace=inplace)
    return output


def what_to_keep(x: Tensor, activation: Activation, *, inplace: bool = False) -> tuple[Tensor, Tensor]:
    """The activation's value, and what `gradient_by` needs: packed bits, or the value itself."""
    if activation.read_off:
        output = activate(x, activation.op, inplace=inplace)
        return output, output
    bits = pack_bits(derivative_mask(x, activation.op, sign=activation.sign))
    return activate(x, activation.op, inplace=inplace), bits


def gradient_by(grad: Tensor, kept: Tensor, activation: Activation, *, channels_last: bool) -> Tensor:
    """The gradient of the input from that of the output.

    Args:
        grad: Gradient of the output.
        kept: What `what_to_keep` gave.
        activation: The activation.
        channels_last: Whether its input was channels last.
    """
    if not activation.read_off:
        slope = 1.0 if activation.sign else SLOPES.get(activation.op, 1.0)
        product = apply_bits(grad, kept, channels_last=channels_last)
        return product if slope == 1.0 else product.mul_(slope)
    if activation.op == "relu":
        return _aten.threshold_backward(grad, kept, 0)  # type: ignore[no-any-return]
    return _aten.hardtanh_backward(grad, kept, 0, 6)  # type: ignore[no-any-return]


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
    if flat.device.type == "cpu" and not torch.compiler.is_compiling():
        return torch.from_numpy(np.packbits(flat.numpy(), axis=1))
    padded = F.pad(flat, (0, -flat.shape[1] % 8)).view(len(flat), -1, 8).to(torch.uint8)
    return (padded << _shifts(flat.device)).sum(-1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, shape: torch.Size, *, channels_last: bool = False) -> Tensor:
    """Undo `pack_bits`: a boolean tensor of the given shape and memory format."""
    count = shape[1:].numel()
    if packed.device.type == "cpu" and not torch.compiler.is_compiling():
        bits = torch.from_numpy(np.unpackbits(packed.numpy(), axis=1, count=count)).view(torch.bool)
    else:
        bits = ((packed.unsqueeze(-1) >> _shifts(packed.device)) & 1).flatten(1)[:, :count].bool()
    if channels_last:
        n, c, h, w = shape
        return bits.view(n, h, w, c).permute(0, 3, 1, 2)
    return bits.view(shape)


def apply_bits(grad: Tensor, packed: Tensor, *, channels_last: bool = False) -> Tensor:
    """The gradient where a packed mask is set, 0 elsewhere."""
    if not _numpy_can(grad):
        return grad * unpack_bits(packed, grad.shape, channels_last=channels_last)
    bits = np.unpackbits(packed.numpy(), axis=1, count=grad.shape[1:].numel()).view(np.bool_)
    if channels_last:
        n, c, h, w = grad.shape
        bits = bits.reshape(n, h, w, c).transpose(0, 3, 1, 2)
    with np.errstate(invalid="ignore"):  # a training that diverges says so by its loss
        return torch.from_numpy(np.multiply(grad.numpy(), bits.reshape(grad.shape)))


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
