"""The convolution of an applied policy, with the frozen norm and the masked activation behind it, in one function.

For y = W x + b the gradient of W needs x, that of b needs the gradient of y alone, and that of x needs W and the
gradient of y (TinyTL, Cai et al. 2020, section 3.1). PyTorch's own convolutions keep x whatever trains; this one keeps
it when, and only as far as, the weight trains. Parameters and buffers are referred to, never copied, and what follows
from them alone is computed anew in the backward pass.

A batch norm whose scale and statistics are frozen is y = slope (W x + b - mean) + shift: a convolution with the weight
slope W. Neither pass then goes over the norm's activations, and

    dL/dx = g conv slope W,  dL/dW = slope (g conv x),  dL/db = slope sum g,  dL/dshift = sum g.

Under autocast the input is lowered as PyTorch's own layers lower it, and it is the lowered one that is kept.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..standardised import standardise
from . import channels
from .masks import Activation, activate, gradient_by, is_channels_last, what_to_keep

_aten = torch.ops.aten

Pair = tuple[int, int]
#: Stride, padding, dilation and groups of a convolution, and zeros to put left, right, above and below besides.
Geometry = tuple[Pair, Pair, Pair, int, tuple[int, int, int, int]]


class Statistics(NamedTuple):
    """Running statistics of a batch norm."""

    mean: Tensor
    var: Tensor
    eps: float


class ConvCall(NamedTuple):
    """A convolution that is still to be computed, with what comes behind it.

    Attributes:
        x: Input, (N, C, H, W).
        weight: Weight, (C', C / groups, kh, kw).
        update: Trained channels of the weight, or None.
        bias: Bias of the convolution, or None.
        scale: Scale of the norm, or None.
        shift: Shift of the norm, or None.
        chosen: Which channels `update` holds; see `channels`.
        axis: Along which axis.
        geometry: Stride, padding, dilation, groups, and further zeros around the input.
        standardised: Whether the weight is standardised first.
        norm: Statistics of the norm, or None without.
        activation: The activation, or None without.
    """

    x: Tensor
    weight: Tensor
    update: Tensor | None
    bias: Tensor | None
    scale: Tensor | None
    shift: Tensor | None
    chosen: Tensor | None
    axis: int
    geometry: Geometry
    standardised: bool = False
    norm: Statistics | None = None
    activation: Activation | None = None


def convolve(call: ConvCall) -> Tensor:
    """Compute a call: (N, C, H, W) to (N, C', H', W')."""
    trained = call[:6]
    if torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in trained):
        output: Tensor = Conv2d.apply(*call)  # type: ignore[no-untyped-call]
        return output
    with torch.no_grad():
        output = _folded(call, lowered(call.x))
        return output if call.activation is None else activate(output, call.activation.op, inplace=True)


def _folded(call: ConvCall, x: Tensor) -> Tensor:
    """The convolution with the norm folded into it."""
    if call.norm is None:
        return _convolved(call, x)
    mean, var, eps = call.norm
    slope = slope_of(call.scale, var, eps)
    centre = mean if call.bias is None else mean - call.bias
    offset = -centre * slope if call.shift is None else torch.addcmul(call.shift, centre, slope, value=-1)
    return _convolved(call, x, slope, offset)


def _convolved(call: ConvCall, x: Tensor, slope: Tensor | None = None, offset: Tensor | None = None) -> Tensor:
    stride, padding, dilation, groups, pads = call.geometry
    full = _full_weight(call.weight, call.update, call.chosen, call.axis, groups, call.standardised, slope)
    bias = call.bias if slope is None else offset
    return F.conv2d(_pad(x, pads), full, bias, stride, padding, dilation, groups)


def _full_weight(
    weight: Tensor,
    update: Tensor | None,
    index: Tensor | None,
    axis: int,
    groups: int,
    standardised: bool,
    slope: Tensor | None,
) -> Tensor:
    full = compose(weight, update, index, axis, groups)
    full = standardise(full) if standardised else full
    return full if slope is None else full * slope.view(-1, 1, 1, 1)


def compose(weight: Tensor, update: Tensor | None, index: Tensor | None, axis: int, groups: int = 1) -> Tensor:
    """The weight with its trained channels put in place; see `channels` for `index` and `axis`."""
    if update is None or index is None:
        return weight
    return channels.insert(weight, update.to(weight.dtype), index, axis, groups)


def norm_backward(
    grad: Tensor,
    x: Tensor,
    scale: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input, scale and shift of a batch norm on its running statistics; only those that are wanted."""
    # CUDA's kernel asks for the statistics of the batch and does not read them.
    unread = x.new_empty(0)
    grads: tuple[Tensor, Tensor, Tensor] = _aten.native_batch_norm_backward(
        grad, x, scale, mean, var, unread, unread, False, eps, wanted
    )
    return grads


def slope_of(scale: Tensor | None, var: Tensor, eps: float) -> Tensor:
    """Scale over deviation of a frozen norm, (C,)."""
    inverse = torch.rsqrt(var + eps)
    return inverse if scale is None else inverse.mul_(scale)


class Conv2d(Function):
    """2-D convolution, of which the weight, some of its channels, the bias, the norm's affine or nothing trains.

    A norm whose scale trains is not folded: its input is kept, as PyTorch's own norm does.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        """Compute the call that the arguments are the fields of."""
        call = ConvCall(*arguments)
        x = lowered(call.x)
        kept: Tensor | None = None
        normed: Tensor | None = None
        derivative: Tensor | None = None
        if call.norm is not None and ctx.needs_input_grad[4]:
            normed = _convolved(call, x)
            output = F.batch_norm(normed, call.norm.mean, call.norm.var, call.scale, call.shift, eps=call.norm.eps)
        else:
            output = _folded(call, x)
        if ctx.needs_input_grad[1]:
            kept = x
        elif ctx.needs_input_grad[2] and call.chosen is not None:
            read = channels.reads(call.weight, call.chosen, call.axis, call.geometry[3])
            # index_select copies: a view would keep the whole input alive.
            kept = x if read is None else x.index_select(1, read)
        if call.activation is not None:
            ctx.channels_last = is_channels_last(output)
            output, derivative = what_to_keep(output, call.activation, inplace=True)
        ctx.axis, ctx.geometry, ctx.shape = call.axis, call.geometry, x.shape
        ctx.standardised, ctx.activation = call.standardised, call.activation
        mean, var, ctx.eps = call.norm or (None, None, 0.0)
        ctx.save_for_backward(kept, call.weight, call.update, call.chosen, call.scale, mean, var, normed, derivative)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, weight or its trained channels, bias and shift, each only if asked for."""
        kept, weight, update, index, scale, mean, var, normed, derivative = ctx.saved_tensors
        groups, pads = ctx.geometry[3:]
        need_x, need_weight, need_update, need_bias, need_scale, need_shift = ctx.needs_input_grad[:6]
        grad = grads[0]
        if ctx.activation is not None:
            grad = gradient_by(grad, derivative, ctx.activation, channels_last=ctx.channels_last)
        dx = dw = du = db = dscale = dshift = slope = None
        if need_scale:
            before = need_x or need_weight or need_update or need_bias
            grad, dscale, dshift = norm_backward(grad, normed, scale, mean, var, ctx.eps, (before, True, need_shift))
        elif var is not None:
            slope = slope_of(scale, var, ctx.eps)
        if need_x or need_weight:
            full = weight
            if need_x:
                full = _full_weight(weight, update, index, ctx.axis, groups, ctx.standardised, slope)
            x = _pad(kept, pads) if need_weight else shape_only(grad, _padded(ctx.shape, pads))
            dx, dw = _backward(grad, x, full.to(grad.dtype), ctx.geometry, groups, need_x, need_weight)
            if dx is not None and any(pads):
                dx = F.pad(dx, [-zeros for zeros in pads])
        if need_update:
            du = _update_gradient(grad, _pad(kept, pads), weight, index, ctx)
        if slope is not None:
            if dw is not None:
                dw = dw * slope.view(-1, 1, 1, 1)
            if du is not None:
                slopes = slope.view(-1, 1, 1, 1).expand_as(weight)
                du = du * channels.select(slopes, index, ctx.axis, groups)
        if dw is not None and ctx.standardised:
            dw = _through_standardisation(dw, weight)
        if need_bias or (need_shift and not need_scale):
            total = grad.sum((0, 2, 3))
            dshift = dshift if need_scale else total
            db = total if slope is None else total * slope
        gradients = (dx, dw, du, db, dscale, dshift)
        asked = zip(gradients, ctx.needs_input_grad, strict=False)
        return *(gradient if needed else None for gradient, needed in asked), None, None, None, None, None, None


def _backward(
    grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, groups: int, need_x: bool, need_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    stride, padding, dilation = geometry[:3]
    mask = [need_x, need_weight, False]
    dx, dw, _ = _aten.convolution_backward(
        grad, x, weight, None, stride, padding, dilation, False, [0, 0], groups, mask
    )
    return dx, dw


def _update_gradient(grad: Tensor, x: Tensor, weight: Tensor, index: Tensor, ctx: Any) -> Tensor:
    """Gradient of the trained channels of a weight: those rows or columns of dW and no others."""
    gradients = []
    for part in channels.parts(x, grad, weight, index, ctx.axis, ctx.geometry[3]):
        like = shape_only(part.grad, part.shape)
        gradient = _backward(part.grad, part.x, like, ctx.geometry, part.groups, False, True)[1]
        assert gradient is not None
        gradients.append(gradient)
    return channels.join(gradients, weight, ctx.axis, ctx.geometry[3])


def _through_standardisation(grad: Tensor, weight: Tensor) -> Tensor:
    """The gradient of a weight from that of the standardised weight."""
    with torch.enable_grad():
        leaf = weight.detach().requires_grad_(True)
        (through,) = torch.autograd.grad(standardise(leaf), leaf, grad.to(leaf.dtype))
    return through


def lowered(x: Tensor) -> Tensor:
    """An input in the type that autocast computes in, if it is on."""
    kind = x.device.type
    if torch.is_autocast_enabled(kind) and x.is_floating_point():
        return x.to(torch.get_autocast_dtype(kind))
    return x


def shape_only(like: Tensor, shape: Sequence[int]) -> Tensor:
    """A stand-in for an operand that PyTorch asks for and reads nothing but the shape of.

    On the CPU it is unwritten memory, which costs nothing: a single expanded element would be written out in full.
    """
    if like.device.type == "cpu":
        order = torch.channels_last if is_channels_last(like) else torch.contiguous_format
        return torch.empty(tuple(shape), dtype=like.dtype, memory_format=order)
    return like.new_empty(1).expand(tuple(shape))


def _pad(x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    return F.pad(x, pads) if any(pads) else x


def _padded(shape: Sequence[int], pads: tuple[int, int, int, int]) -> tuple[int, ...]:
    (n, c, height, width), (left, right, above, below) = shape, pads
    return n, c, height + above + below, width + left + right
