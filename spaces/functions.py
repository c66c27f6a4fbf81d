"""Autograd functions that keep exactly what a policy needs for the backward pass, and nothing else.

For y = W x + b the gradient of W needs x, that of b needs the gradient of y alone, and that of x needs W and the
gradient of y (TinyTL, Cai et al. 2020, section 3.1). PyTorch's own convolutions and norms keep x whatever trains;
these keep it when, and only as far as, the weight trains. Parameters and buffers are referred to, never copied.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from .masks import SLOPES, derivative_mask, is_channels_last, masked, pack_bits, unpack_bits

_aten = torch.ops.aten

Pair = tuple[int, int]
#: Stride, padding, dilation and groups of a convolution, and zeros to put left, right, above and below besides.
Geometry = tuple[Pair, Pair, Pair, int, tuple[int, int, int, int]]


def compose(weight: Tensor, update: Tensor | None, index: Tensor | None, axis: int) -> Tensor:
    """The weight with its trained channels put in place.

    Args:
        weight: Frozen weight, (out, in, ...).
        update: Trained channels, (len(index), in, ...) for axis 0 or (out, len(index), ...) for axis 1; or None.
        index: Channel numbers of `update`.
        axis: 0 for output channels, 1 for input channels.
    """
    if update is None or index is None:
        return weight
    return weight.detach().index_copy(axis, index, update.detach().to(weight.dtype))


class MaskedActivation(Function):
    """An activation whose derivative is a constant times 0 or 1: one packed bit an element is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, op: str, sign: bool) -> Tensor:
        """Apply the activation, exactly; `sign` is a matter of the backward pass."""
        ctx.shape, ctx.channels_last = x.shape, is_channels_last(x)
        ctx.slope = 1.0 if sign else SLOPES.get(op, 1.0)
        ctx.save_for_backward(pack_bits(derivative_mask(x, op, sign=sign)))
        output: Tensor = getattr(F, op)(x)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Pass the gradient where the mask is set, times the slope."""
        (packed,) = ctx.saved_tensors
        grad = masked(grads[0], unpack_bits(packed, ctx.shape, channels_last=ctx.channels_last))
        return (grad if ctx.slope == 1.0 else grad * ctx.slope), None, None


class FrozenBatchNorm(Function):
    """Batch norm on its running statistics: the input is kept only if the scale trains."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
        """Normalise (N, C, H, W) channel by channel."""
        ctx.eps = eps
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, scale, mean, var)
        return F.batch_norm(x, mean, var, scale, shift, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, scale and shift, each only if asked for."""
        x, scale, mean, var = ctx.saved_tensors
        need_x, need_scale, need_shift = ctx.needs_input_grad[:3]
        grad = grads[0]
        if need_scale:
            mask = [need_x, True, need_shift]
            dx, dscale, dshift = _aten.native_batch_norm_backward(
                grad, x, scale, mean, var, None, None, False, ctx.eps, mask
            )
            return dx if need_x else None, dscale, dshift if need_shift else None, None, None, None
        dx = grad * (scale * torch.rsqrt(var + ctx.eps)).view(-1, 1, 1) if need_x else None
        return dx, None, grad.sum((0, 2, 3)) if need_shift else None, None, None, None


class Conv2d(Function):
    """2-D convolution, of which the weight, some of its channels, the bias or nothing trains."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        update: Tensor | None,
        bias: Tensor | None,
        index: Tensor | None,
        axis: int,
        geometry: Geometry,
    ) -> Tensor:
        """Convolve (N, C, H, W)."""
        stride, padding, dilation, groups, pads = geometry
        ctx.axis, ctx.geometry, ctx.shape, ctx.bias = axis, geometry, x.shape, bias is not None
        kept = None
        if ctx.needs_input_grad[1]:
            kept = x
        elif ctx.needs_input_grad[2] and index is not None:
            # index_select copies: a view would keep the whole input alive.
            kept = x.index_select(1, index) if axis == 1 or groups > 1 else x
        ctx.save_for_backward(kept, weight, update, index)
        full = compose(weight, update, index, axis)
        return F.conv2d(_pad(x, pads), full, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, weight or its trained channels, and bias, each only if asked for."""
        kept, weight, update, index = ctx.saved_tensors
        stride, padding, dilation, groups, pads = ctx.geometry
        need_x, need_weight, need_update, need_bias = ctx.needs_input_grad[:4]
        grad = grads[0]

        def backward(x: Tensor, w: Tensor, gy: Tensor, groups: int, mask: list[bool]) -> Any:
            zero = [0, 0]
            return _aten.convolution_backward(gy, x, w, None, stride, padding, dilation, False, zero, groups, mask)

        dx = dw = du = None
        if need_weight:
            dx, dw, _ = backward(_pad(kept, pads), weight, grad, groups, [need_x, True, False])
        else:
            if need_x:
                left, right, above, below = pads
                n, c, height, width = ctx.shape
                shape_only = _shape_only(grad, (n, c, height + above + below, width + left + right))
                full = compose(weight, update, index, ctx.axis)
                dx = backward(shape_only, full, grad, groups, [True, False, False])[0]
            if need_update:
                depthwise = groups > 1
                gy = grad.index_select(1, index) if ctx.axis == 0 or depthwise else grad
                count = len(index) if depthwise else 1
                du = backward(_pad(kept, pads), update, gy, count, [False, True, False])[1]
        if dx is not None:
            dx = _pad(dx, tuple(-zeros for zeros in pads))
        return dx, dw, du, grad.sum((0, 2, 3)) if need_bias else None, None, None, None


def _shape_only(like: Tensor, shape: Sequence[int]) -> Tensor:
    """A stand-in for an input that PyTorch asks for and reads nothing but the shape of.

    On the CPU it is unwritten memory, which costs nothing: a single expanded element would be written out in full.
    """
    if like.device.type == "cpu":
        order = torch.channels_last if is_channels_last(like) else torch.contiguous_format
        return torch.empty(tuple(shape), dtype=like.dtype, memory_format=order)
    return like.new_empty(1).expand(tuple(shape))


def _pad(x: Tensor, pads: tuple[int, ...]) -> Tensor:
    return F.pad(x, pads) if any(pads) else x


class Linear(Function):
    """y = x W^T + b, of which the weight, some of its channels, the bias or nothing trains."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        update: Tensor | None,
        bias: Tensor | None,
        index: Tensor | None,
        axis: int,
    ) -> Tensor:
        """Map (..., in) to (..., out)."""
        ctx.axis = axis
        kept = None
        if ctx.needs_input_grad[1]:
            kept = x
        elif ctx.needs_input_grad[2] and index is not None:
            kept = x.index_select(-1, index) if axis == 1 else x
        ctx.save_for_backward(kept, weight, update, index)
        return F.linear(x, compose(weight, update, index, axis), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, weight or its trained channels, and bias, each only if asked for."""
        kept, weight, update, index = ctx.saved_tensors
        need_x, need_weight, need_update, need_bias = ctx.needs_input_grad[:4]
        grad = grads[0]
        flat = grad.reshape(-1, grad.shape[-1])
        dx = grad @ compose(weight, update, index, ctx.axis) if need_x else None
        dw = du = None
        if need_weight:
            dw = flat.T @ kept.reshape(-1, kept.shape[-1])
        elif need_update:
            gy = flat.index_select(1, index) if ctx.axis == 0 else flat
            du = gy.T @ kept.reshape(-1, kept.shape[-1])
        return dx, dw, du, flat.sum(0) if need_bias else None, None, None


class AvgPool2d(Function):
    """Average pooling over k x k windows, stride k, which keeps nothing (PyTorch's keeps its input)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int) -> Tensor:
        """Pool (N, C, H, W) to (N, C, H // k, W // k)."""
        ctx.shape, ctx.kernel = x.shape, kernel
        return F.avg_pool2d(x, kernel)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Spread each gradient evenly over its window."""
        shape_only = _shape_only(grads[0], ctx.shape)
        k = [ctx.kernel, ctx.kernel]
        return _aten.avg_pool2d_backward(grads[0], shape_only, k, k, [0, 0], False, True, None), None
