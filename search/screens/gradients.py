"""The gradient of every tensor that may train, for each image by itself, in one backward pass.

Hooks on every layer see its input x and the gradient g of its output. From those two follow the gradients of what the
layer holds, image by image: of a linear weight g x^T, of a convolution's weight the same summed over positions, for
each place of the kernel; of a bias or a shift the sum of g over positions, of a norm's scale that of g times the
normalised input. So the network runs forwards and backwards once, whatever the number of images.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import InputError, UnsupportedError
from ...spaces.standardised import StandardisedConv2d, standardise
from ...spaces.trace import Trace

#: Images passed at once. More need more memory, and are no faster on one core.
CHUNK = 32
#: What a row may hold, as `AdditiveScore` calls it.
Part = Literal["weight", "bias", "scale"]
#: Is given a row, a part of it, and that part's gradients, (N, elements).
Visit = Callable[[int, Part, Tensor], None]


def visit_gradients(
    network: nn.Module, trace: Trace, images: Tensor, objective: Callable[[Tensor], Tensor], visit: Visit
) -> None:
    """Show the gradients of every tensor of every row, one tensor after another, from the last layer to the first.

    A tensor that the objective does not depend on is not shown.

    Args:
        network: The network in evaluation mode, none of whose parameters need a gradient; unchanged by this.
        trace: Its rows.
        images: (N, C, H, W).
        objective: Gives, of logits (N, classes), a value for each image (N,), which depends on no other image.
        visit: Is shown each tensor's gradients.

    Raises:
        InputError: The objective is not finite.
        UnsupportedError: A layer's first axis is not that of the images, or it pads with anything but zeros.
    """
    modules = dict(network.named_modules())

    def keep(module: nn.Module, operands: tuple[Tensor, ...], output: Tensor, *, row: int) -> None:
        if len(output) != len(images):
            raise UnsupportedError(f"{trace.rows[row].name} mixes the axis of the images with others")
        # On the tensor, not its module: what follows may overwrite it in place.
        output.register_hook(partial(show, row, module, operands[0].detach()))  # type: ignore[no-untyped-call]

    def show(row: int, module: nn.Module, x: Tensor, grad: Tensor) -> None:
        for part, gradients in _gradients(module, x, grad):
            visit(row, part, gradients)

    hooks = [
        modules[layer.name].register_forward_hook(partial(keep, row=row))
        for row, layer in enumerate(trace.rows)
        if layer.kind in ("conv", "linear", "norm")
    ]
    try:
        with torch.enable_grad():
            # The images need a gradient so that one flows to the first layer.
            values = objective(network(images.detach().requires_grad_(True)))
            if not torch.isfinite(values).all():  # the sign of NaN would pass for a gradient of 0
                raise InputError("the network's answers are not finite: check the backbone's weights and the images")
            values.sum().backward()  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()


def _gradients(module: nn.Module, x: Tensor, grad: Tensor) -> Iterator[tuple[Part, Tensor]]:
    """The gradients of each part of a layer from its input and that of its output, (N, elements) each."""
    if isinstance(module, nn.Conv2d):
        yield "weight", _of_conv(module, x, grad)
    elif isinstance(module, nn.Linear):
        yield "weight", (_by_position(grad).mT @ _by_position(x)).flatten(1)
    else:
        yield "scale", _over_positions(module, grad * _normalised(module, x))
    if module.bias is not None:
        yield "bias", _over_positions(module, grad)


def _of_conv(conv: nn.Conv2d, x: Tensor, grad: Tensor) -> Tensor:
    if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
        raise UnsupportedError(f"a conv with padding {conv.padding!r}, mode {conv.padding_mode}: use zeros and ints")
    (rows, columns), (down, across) = conv.padding, conv.stride
    x = F.pad(x, (columns, columns, rows, rows)) if rows or columns else x
    height, width = grad.shape[2:]
    depthwise = conv.groups == conv.in_channels == conv.out_channels
    places = []
    for i in range(conv.kernel_size[0]):
        for j in range(conv.kernel_size[1]):
            top, left = i * conv.dilation[0], j * conv.dilation[1]
            # What this place of the kernel is multiplied with, for every position of the output.
            seen = x[:, :, top : top + (height - 1) * down + 1 : down, left : left + (width - 1) * across + 1 : across]
            places.append(_products(seen, grad, conv.groups) if not depthwise else (seen * grad).sum((2, 3)))
    gradients = torch.stack(places, -1).flatten(1) if len(places) > 1 else places[0]
    return _through_standardisation(conv, gradients) if isinstance(conv, StandardisedConv2d) else gradients


def _products(seen: Tensor, grad: Tensor, groups: int) -> Tensor:
    """Sums over positions of the products of channels, (N, out, in / groups), flat after N."""
    inputs, outputs = (torch.unflatten(t, 1, (groups, -1)).flatten(3) for t in (seen, grad))
    return torch.matmul(outputs, inputs.mT).flatten(1)


def _through_standardisation(conv: nn.Conv2d, gradients: Tensor) -> Tensor:
    """The gradients of a weight from those of the standardised weight."""
    with torch.enable_grad():
        leaf = conv.weight.detach().requires_grad_(True)
        shaped = gradients.view(-1, *leaf.shape)
        (through,) = torch.autograd.grad(standardise(leaf), leaf, shaped, is_grads_batched=True)
    return through.flatten(1)


def _over_positions(module: nn.Module, values: Tensor) -> Tensor:
    """The sum over all axes but that of the images and those of a layer's bias or norm, (N, elements)."""
    if isinstance(module, nn.Linear):
        return _by_position(values).sum(1)
    if isinstance(module, nn.LayerNorm):
        return _by_position(values.flatten(-len(module.normalized_shape))).sum(1)
    return values.flatten(2).sum(2)


def _by_position(values: Tensor) -> Tensor:
    """Values whose last axis is that of features, (N, positions, features)."""
    return values.reshape(len(values), -1, values.shape[-1])


def _normalised(module: nn.Module, x: Tensor) -> Tensor:
    """What a norm's scale is multiplied with."""
    if isinstance(module, nn.BatchNorm2d):
        return F.batch_norm(x, module.running_mean, module.running_var, eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(x, module.num_groups, eps=module.eps)
    assert isinstance(module, nn.LayerNorm)
    return F.layer_norm(x, module.normalized_shape, eps=module.eps)
