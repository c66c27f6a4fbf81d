"""Images divided into parts: a head is fitted to one, gradients are taken on the others."""

import torch
from torch import Tensor


def divide(labels: Tensor, count: int, seed: int) -> list[Tensor]:
    """Deal the images of each class to some parts in turn, so that every class is in the first.

    A class of one image is in the first part alone. A part that would be empty, as the second is where every class has
    one image, is the part before it again.

    Args:
        labels: Classes, int64 (N,) with N >= 1.
        count: How many parts.
        seed: Same seed, same parts.

    Returns:
        The indices of each part's images, in random order.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    turn = torch.empty_like(labels)
    for label in torch.unique(labels):
        members = order[labels[order] == label]
        turn[members] = torch.arange(len(members)) % count
    parts: list[Tensor] = []
    for part in range(count):
        members = order[turn[order] == part]
        parts.append(members if len(members) else parts[-1])
    return parts
