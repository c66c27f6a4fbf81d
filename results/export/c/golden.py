"""The losses that a program must have: PyTorch's, of the applied policy on the same images."""

import torch
import torch.nn.functional as F
from torch import nn

from ....spaces.engine.apply import assemble
from ....spaces.optimizers import OPTIMIZERS
from ....spaces.policy import UpdatePolicy
from .examples import Examples

#: Steps that are trained.
STEPS = 20
#: By how much a loss may differ: other orders of addition.
TOLERANCE = 1e-5


def golden_losses(
    backbone: nn.Module,
    policy: UpdatePolicy,
    examples: Examples,
    *,
    batch: int,
    optimizer: str,
    learning_rate: float,
    steps: int = STEPS,
) -> list[float]:
    """Train as the program does, with the images one after another, again and again.

    Args:
        backbone: The network, which is left unchanged.
        policy: What trains.
        examples: The images.
        batch: Images of a step.
        optimizer: Name of an optimizer.
        learning_rate: Its rate.
        steps: How many.

    Returns:
        The loss of every image before the step that it is part of, nats.
    """
    model = assemble(backbone, policy).cpu().train()
    trains = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stepper = OPTIMIZERS.load(optimizer).make(trains, lr=learning_rate)
    images, labels = examples.tensor(), torch.from_numpy(examples.labels)
    losses: list[float] = []
    for step in range(steps):
        chosen = [(step * batch + n) % len(examples) for n in range(batch)]
        found = F.cross_entropy(model(images[chosen]), labels[chosen], reduction="none")
        stepper.zero_grad()
        found.mean().backward()  # type: ignore[no-untyped-call]
        stepper.step()
        losses += found.detach().tolist()
    return losses
