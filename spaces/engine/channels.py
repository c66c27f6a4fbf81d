"""Sets of channels of a weight: taken out, put back, and which channels of the input their gradient reads.

A weight is (out, in / groups, ...). Its output channels are its rows, whatever the groups. Input channels are counted
over all groups: channel c of a grouped conv with n inputs a group is position c % n of group c // n, and what it
feeds are the rows of that group. So a set of them is (set, out / groups, ...), and (out, set, ...) without groups.
"""

from typing import NamedTuple

import torch
from torch import Tensor

#: Axes of a weight.
OUT, IN = 0, 1


def select(weight: Tensor, index: Tensor, axis: int, groups: int) -> Tensor:
    """A copy of the channels `index` of a weight along `axis`."""
    if axis == OUT or groups == 1:
        return weight.index_select(axis, index)
    return _by_input(weight, groups).index_select(0, index)


def insert(weight: Tensor, channels: Tensor, index: Tensor, axis: int, groups: int) -> Tensor:
    """A copy of a weight with `channels` in the places `index` along `axis`."""
    if axis == OUT or groups == 1:
        return weight.index_copy(axis, index, channels)
    return _by_input(_by_input(weight, groups).index_copy(0, index, channels), groups)


def reads(weight: Tensor, index: Tensor, axis: int, groups: int) -> Tensor | None:
    """The input channels that the gradient of these channels reads; None for all of them.

    Rows read all inputs, or those of their groups, but then the whole input is kept by reference: only in a
    depthwise conv, whose rows are its inputs, are they a set that is known beforehand.
    """
    return index if axis == IN or depthwise(weight, groups) else None


def depthwise(weight: Tensor, groups: int) -> bool:
    """Whether each input channel is convolved alone into one output channel."""
    return 1 < groups == weight.shape[0] and weight.shape[1] == 1


class Part(NamedTuple):
    """One convolution that gives the gradient of some of the channels: its operands, groups and weight's shape."""

    x: Tensor
    grad: Tensor
    shape: tuple[int, ...]
    groups: int


def parts(x: Tensor, grad: Tensor, weight: Tensor, index: Tensor, axis: int, groups: int) -> list[Part]:
    """The convolutions that give the gradient of a set of channels, in the order of the set.

    Args:
        x: What was kept: the channels that `reads` names, or all of them, (N, ..., H, W).
        grad: Gradient of the output, (N, out, H, W).
        weight: The whole weight, of which the shape is read.
        index: The channels, ascending.
        axis: `OUT` or `IN`.
        groups: Groups of the conv.

    Returns:
        One part without groups, or if a group has one input channel; else one for each group with chosen channels.
    """
    ins, outs, kernel = weight.shape[1], weight.shape[0] // groups, weight.shape[2:]
    if groups == 1:
        grad = grad.index_select(1, index) if axis == OUT else grad
        return [Part(x, grad, (grad.shape[1], x.shape[1], *kernel), 1)]
    if ins == 1:  # a channel is a group: (set, out / groups) rows of one input each
        if axis == IN:
            grad = torch.unflatten(grad, 1, (groups, outs)).index_select(1, index).flatten(1, 2)
            return [Part(x, grad, (len(index) * outs, 1, *kernel), len(index))]
        x = x if depthwise(weight, groups) else x.index_select(1, index // outs)
        return [Part(x, grad.index_select(1, index), (len(index), 1, *kernel), len(index))]
    result = []
    chosen = index.tolist()
    for group in range(groups):
        places = [n for n, channel in enumerate(chosen) if channel // (ins if axis == IN else outs) == group]
        if not places:
            continue
        first, count = places[0], len(places)
        if axis == IN:
            operands = x.narrow(1, first, count), grad.narrow(1, group * outs, outs)
        else:
            operands = x.narrow(1, group * ins, ins), grad.index_select(1, index[first : first + count])
        result.append(Part(*operands, (operands[1].shape[1], operands[0].shape[1], *kernel), 1))
    return result


def join(gradients: list[Tensor], weight: Tensor, axis: int, groups: int) -> Tensor:
    """The gradient of a set of channels, laid out as `select` does, from those of its `parts`."""
    if groups > 1 and axis == IN:
        if weight.shape[1] == 1:
            return torch.unflatten(gradients[0], 0, (-1, weight.shape[0] // groups)).squeeze(2)
        gradients = [gradient.transpose(0, 1) for gradient in gradients]
    return gradients[0] if len(gradients) == 1 else torch.cat(gradients)


def _by_input(weight: Tensor, groups: int) -> Tensor:
    """(out, in / groups, ...) as (in, out / groups, ...), and back."""
    return torch.unflatten(weight, 0, (groups, -1)).transpose(1, 2).flatten(0, 1)
