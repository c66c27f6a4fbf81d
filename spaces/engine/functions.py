"""Autograd functions of the other operations of an applied policy, which keep less than PyTorch's own.

The rules are those of `convolution`: an input is kept when, and only as far as, a weight or scale trains.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from . import channels
from .convolution import compose, lowered, norm_backward, shape_only, slope_of
from .masks import Activation, apply_bits, gradient_by, is_channels_last, pack_bits, what_to_keep

_aten = torch.ops.aten


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
        x = lowered(x)
        kept = None
        if ctx.needs_input_grad[1]:
            kept = x
        elif ctx.needs_input_grad[2] and index is not None:
            kept = x.index_select(-1, index) if axis == channels.IN else x
        ctx.save_for_backward(kept, weight, update, index)
        return F.linear(x, compose(weight, update, index, axis), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, weight or its trained channels, and bias, each only if asked for."""
        kept, weight, update, index = ctx.saved_tensors
        need_x, need_weight, need_update, need_bias = ctx.needs_input_grad[:4]
        grad = grads[0]
        flat = grad.reshape(-1, grad.shape[-1])
        dx = grad @ compose(weight, update, index, ctx.axis).to(grad.dtype) if need_x else None
        dw = du = None
        if need_weight:
            dw = flat.T @ kept.reshape(-1, kept.shape[-1])
        elif need_update:
            gy = flat.index_select(1, index) if ctx.axis == channels.OUT else flat
            du = gy.T @ kept.reshape(-1, kept.shape[-1])
        return dx, dw, du, flat.sum(0) if need_bias else None, None, None


class FrozenBatchNorm(Function):
    """Batch norm on its running statistics that no convolution takes over: the input is kept if the scale trains."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor | None, shift: Tensor | None, mean: Tensor, var: Tensor, eps: float
    ) -> Tensor:
        """Normalise (N, C, ...) channel by channel."""
        ctx.eps = eps
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, scale, mean, var)
        return F.batch_norm(x, mean, var, scale, shift, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, scale and shift, each only if asked for."""
        x, scale, mean, var = ctx.saved_tensors
        need_x, need_scale, need_shift = ctx.needs_input_grad[:3]
        grad = outputs[0]
        if need_scale:
            grads = norm_backward(grad, x, scale, mean, var, ctx.eps, (need_x, True, need_shift))
            return grads[0] if need_x else None, grads[1], grads[2] if need_shift else None, None, None, None
        slope = slope_of(scale, var, ctx.eps).to(grad.dtype)
        dx = grad * slope.view(-1, *[1] * (grad.ndim - 2)) if need_x else None
        others = [axis for axis in range(grad.ndim) if axis != 1]
        return dx, None, grad.sum(others) if need_shift else None, None, None, None


class MaskedActivation(Function):
    """An activation whose derivative is a constant times 0 or 1, of which a bit an element or the output is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: Activation) -> Tensor:
        """Apply the activation, exactly; a sign mask is a matter of the backward pass."""
        output, derivative = what_to_keep(x, activation)
        ctx.activation, ctx.channels_last = activation, is_channels_last(x)
        ctx.save_for_backward(derivative)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Multiply by the derivative."""
        (derivative,) = ctx.saved_tensors
        return gradient_by(grads[0], derivative, ctx.activation, channels_last=ctx.channels_last), None


class Dropout(Function):
    """Dropout that keeps one packed bit an element (PyTorch's on the CPU keeps 4 bytes)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        """Zero elements with probability p and scale the others by 1 / (1 - p)."""
        mask = torch.rand_like(x, dtype=torch.float32) >= p
        ctx.factor, ctx.channels_last = 1 / (1 - p) if p < 1 else 0.0, is_channels_last(mask)
        ctx.save_for_backward(pack_bits(mask))
        output: Tensor = x * mask * ctx.factor
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Pass the gradient where the elements stayed."""
        (packed,) = ctx.saved_tensors
        return apply_bits(grads[0], packed, channels_last=ctx.channels_last).mul_(ctx.factor), None


class AvgPool2d(Function):
    """Average pooling over k x k windows, stride k, which keeps nothing (PyTorch's keeps its input)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int) -> Tensor:
        """Pool (N, C, H, W) to (N, C, H // k, W // k)."""
        ctx.shape, ctx.kernel = x.shape, kernel
        return F.avg_pool2d(x, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Spread each gradient evenly over its window."""
        k = [ctx.kernel, ctx.kernel]
        like = shape_only(grads[0], ctx.shape)
        return _aten.avg_pool2d_backward(grads[0], like, k, k, [0, 0], False, True, None), None
