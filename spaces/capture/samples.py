"""The batches that a network is traced on, and the tensors in what it gives."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Images in each of the two batches. One image would let operations pass that more do not.
BATCHES = (2, 3)


def samples(model: nn.Module, shapes: Sequence[tuple[int, ...]], batch: int) -> tuple[Tensor, ...]:
    """Random inputs, the same at every call, of the type and on the device of a network's parameters.

    Args:
        model: The network.
        shapes: Shape of each input without the batch.
        batch: How many images.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(batch, *shape, generator=generator).to(like) for shape in shapes)


def tensors_of(value: object) -> list[Tensor]:
    """The tensors in a value, in whatever tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for each in value for tensor in tensors_of(each)] if isinstance(value, tuple | list) else []
