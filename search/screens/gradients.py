"""The gradient of every tensor that may train, for each image by itself.

Hooks on every layer see its input x and the gradient g of its output. From those two follow the gradients of what the
layer holds, image by image: of a linear weight g x^T, of a convolution's weight the same summed over positions, for
each place of the kernel; of a bias or a shift the sum of g over positions, of a norm's scale that of g times the
normalised input. So for these the network runs forwards and backwards once, whatever the number of images.

Other tensors have no such rule: parameters by themselves, and layers whose first axis is not that of the images. Their
gradients are those of one image after another, which run through the network again.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...core.errors import InputError, UnsupportedError
from ...spaces.standardised import StandardisedConv2d, standardise
from ...spaces.trace import Trace
from .tensors import Part, Tensors, tensors_by_row, training

#: Images passed at once. More need more memory, and are no faster on one core.
CHUNK = 32
#: Is given a row, a part of it, and that part's gradients, (N, elements).
Visit = Callable[[int, Part, Tensor], None]


def visit_gradients(
    network: nn.Module, trace: Trace, images: Tensor, objective: Callable[[Tensor], Tensor], visit: Visit
) -> None:
    """Show the gradients of every tensor of every row, one tensor after another, from the last layer to the first.

    A tensor that the objective does not depend on is not shown. Those that are seen one image after another are shown
    last.

    Args:
        network: The network's graph in evaluation mode, none of whose parameters need a gradient; unchanged by this.
        trace: Its rows.
        images: (N, C, H, W).
        objective: Gives, of the logits of some images, (n, classes), a value for each, (n,), which depends on no other
            image.
        visit: Is shown each tensor's gradients.

    Raises:
        InputError: The objective is not finite.
        UnsupportedError: What a layer reads is overwritten later.
    """
    modules = dict(network.named_modules())
    tensors = tensors_by_row(network, trace)
    ruled = {row for row, layer in enumerate(trace.rows) if layer.kind in ("conv", "linear", "norm")}
    ruled -= _mixing(network, {trace.rows[row].name: row for row in ruled}, images)

    def keep(module: nn.Module, operands: tuple[Tensor, ...], output: Tensor, *, row: int) -> None:
        x = operands[0].detach()
        # On the tensor, not its module: what follows may overwrite it in place.
        output.register_hook(partial(show, row, module, x, x._version))  # type: ignore[no-untyped-call]

    def show(row: int, module: nn.Module, x: Tensor, version: int, grad: Tensor) -> None:
        if x._version != version:
            raise UnsupportedError(
                f"what {trace.rows[row].name} reads is overwritten later, so that it could not train: let "
                "the operation behind it make a new tensor"
            )
        for part, gradients in _gradients(module, x, grad, len(images)):
            visit(row, part, gradients)

    hooks = [modules[trace.rows[row].name].register_forward_hook(partial(keep, row=row)) for row in ruled]
    try:
        with torch.enable_grad():
            # The images need a gradient so that one flows to the first layer.
            finite(objective(network(images.detach().requires_grad_(True)))).sum().backward()  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
    one_by_one = {place: tensor for place, tensor in tensors.items() if place[0] not in ruled}
    for (row, part), gradients in _one_by_one(network, one_by_one, images, objective):
        visit(row, part, gradients)


def finite(values: Tensor) -> Tensor:
    """The values of an objective, which are checked: the sign of NaN would pass for a gradient of 0.

    Raises:
        InputError: They are not finite.
    """
    if not torch.isfinite(values).all():
        raise InputError("the network's answers are not finite: check the backbone's weights and the images")
    return values


def _one_by_one(
    network: nn.Module, tensors: Tensors, images: Tensor, objective: Callable[[Tensor], Tensor]
) -> Iterator[tuple[tuple[int, Part], Tensor]]:
    """The gradients of some tensors by plain autograd, (N, elements) each."""
    if not tensors:
        return
    found: dict[tuple[int, Part], list[Tensor]] = {place: [] for place in tensors}
    with training(tensors):
        for image in images:
            value = objective(network(image[None])).sum()
            gradients = torch.autograd.grad(value, list(tensors.values()), allow_unused=True)
            for each, gradient in zip(found.values(), gradients, strict=True):
                if gradient is not None:
                    each.append(gradient.flatten())
    yield from ((place, torch.stack(each)) for place, each in found.items() if each)


def _mixing(network: nn.Module, rows: dict[str, int], images: Tensor) -> set[int]:
    """The rows, of some by name, the first axis of whose output is not that of the images, or these and then others.

    Of two images the second is exchanged: the first half of what a layer makes must stay as it is.
    """
    outputs: dict[int, list[Tensor]] = {row: [] for row in rows.values()}

    def keep(module: nn.Module, operands: tuple[Tensor, ...], output: Tensor, *, row: int) -> None:
        outputs[row].append(output[: len(output) // 2].clone() if len(output) % 2 == 0 else output[:0])

    modules = dict(network.named_modules())
    hooks = [modules[name].register_forward_hook(partial(keep, row=row)) for name, row in rows.items()]
    first, second = images[:1], images[-1:]
    try:
        with torch.no_grad():
            for other in (second, second.flip(-1) + 1):
                network(torch.cat([first, other]))
    finally:
        for hook in hooks:
            hook.remove()
    return {row for row, (a, b) in outputs.items() if not len(a) or not torch.allclose(a, b, rtol=1e-3, equal_nan=True)}


def _gradients(module: nn.Module, x: Tensor, grad: Tensor, count: int) -> Iterator[tuple[Part, Tensor]]:
    """The gradients of each part of a layer from its input and that of its output, (count, elements) each."""
    if isinstance(module, nn.Conv2d):
        yield "weight", _by_image(_of_conv(module, x, grad), count)
    elif isinstance(module, nn.Linear):
        yield "weight", (_by_position(grad, count).mT @ _by_position(x, count)).flatten(1)
    else:
        yield "scale", _over_positions(module, grad * _normalised(module, x), count)
    if module.bias is not None:
        yield "bias", _over_positions(module, grad, count)


def _of_conv(conv: nn.Conv2d, x: Tensor, grad: Tensor) -> Tensor:
    assert conv.padding_mode == "zeros"  # as in every graph
    assert not isinstance(conv.padding, str)
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


def _over_positions(module: nn.Module, values: Tensor, count: int) -> Tensor:
    """The sum over all axes but that of the images and those of a layer's bias or norm, (count, elements)."""
    if isinstance(module, nn.Linear):
        return _by_position(values, count).sum(1)
    if isinstance(module, nn.LayerNorm):
        return _by_position(values.flatten(-len(module.normalized_shape)), count).sum(1)
    return _by_image(values.reshape(*values.shape[:2], -1).sum(2), count)


def _by_position(values: Tensor, count: int) -> Tensor:
    """Values whose last axis is that of features, (count, positions, features)."""
    return values.reshape(count, -1, values.shape[-1])


def _by_image(values: Tensor, count: int) -> Tensor:
    """Sums over the entries of an image, (count, ...), where a network has positions in the axis of the images."""
    return values if len(values) == count else torch.unflatten(values, 0, (count, -1)).sum(1)


def _normalised(module: nn.Module, x: Tensor) -> Tensor:
    """What a norm's scale is multiplied with."""
    if isinstance(module, _BatchNorm):
        return F.batch_norm(x, module.running_mean, module.running_var, eps=module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(x, module.num_groups, eps=module.eps)
    assert isinstance(module, nn.LayerNorm)
    return F.layer_norm(x, module.normalized_shape, eps=module.eps)
