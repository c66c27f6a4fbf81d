"""The gradient of the loss on some images, tensor by tensor."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...spaces.trace import Trace
from .gradients import CHUNK, Part, visit_gradients


def loss_gradients(network: nn.Module, trace: Trace, images: Tensor, labels: Tensor) -> dict[tuple[int, Part], Tensor]:
    """The gradient of the mean cross-entropy, (elements,), by row and part; for the arguments see `visit_gradients`."""
    sums: dict[tuple[int, Part], Tensor] = {}

    def visit(row: int, part: Part, gradients: Tensor) -> None:
        total = gradients.sum(0) / len(images)
        sums[row, part] = sums[row, part] + total if (row, part) in sums else total

    for some, answers in zip(torch.split(images, CHUNK), torch.split(labels, CHUNK), strict=True):
        visit_gradients(network, trace, some, partial(F.cross_entropy, target=answers, reduction="none"), visit)
    return sums
