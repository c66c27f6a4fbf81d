"""The gradient of the loss on some images, tensor by tensor."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...spaces.trace import Trace
from .gradients import CHUNK, finite
from .tensors import Part, tensors_by_row, training


def loss_gradients(network: nn.Module, trace: Trace, images: Tensor, labels: Tensor) -> dict[tuple[int, Part], Tensor]:
    """The gradient of the mean cross-entropy, (elements,), by row and part.

    A tensor that it does not depend on is left out.

    Args:
        network: The network in evaluation mode, none of whose parameters need a gradient; unchanged by this.
        trace: Its rows.
        images: (N, C, H, W).
        labels: Their classes, (N,).

    Raises:
        InputError: The loss is not finite.
    """
    tensors = tensors_by_row(network, trace)
    sums: dict[tuple[int, Part], Tensor] = {}
    with training(tensors):
        for some, answers in zip(torch.split(images, CHUNK), torch.split(labels, CHUNK), strict=True):
            loss = finite(F.cross_entropy(network(some), answers, reduction="none")).sum() / len(images)
            gradients = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
            for place, gradient in zip(tensors, gradients, strict=True):
                if gradient is not None:
                    flat = gradient.flatten()
                    sums[place] = sums[place] + flat if place in sums else flat
    return sums
