"""The losses that a program must have: PyTorch's, of the applied policy on the same images.

Programs and PyTorch add in other orders, and training makes more of a difference in the last digit: by a factor that is
small for most policies, and large where many layers train on the statistics of small maps or a sign mask turns over. So
PyTorch trains again with its weights changed in their last digit, and in double precision. How far that leads apart is
how far a right program may be.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ....spaces.engine.apply import assemble
from ....spaces.optimizers import OPTIMIZERS
from ....spaces.policy import UpdatePolicy
from .examples import Examples

#: Steps that are trained.
STEPS = 20
#: By how much a loss may differ in any case.
TOLERANCE = 1e-5
#: And how often that by which PyTorch differs from itself.
MARGIN = 8
#: Trainings with weights changed in the last digit, and by how much: of the digit's unit.
TRAININGS, DIGIT = 3, 2.0**-23


@dataclass(frozen=True)
class Golden:
    """What a program must compute.

    Attributes:
        losses: Of every image before the step that it is part of, nats.
        tolerances: By how much a program's may differ, for each.
    """

    losses: Sequence[float]
    tolerances: Sequence[float]


@dataclass(frozen=True)
class Training:
    """How a program trains.

    Attributes:
        batch: Images of a step.
        optimizer: Name of an optimizer.
        learning_rate: Its rate.
        steps: How many.
    """

    batch: int
    optimizer: str
    learning_rate: float
    steps: int = STEPS


def golden(backbone: nn.Module, policy: UpdatePolicy, examples: Examples, training: Training) -> Golden:
    """Train as the program does, with the images one after another, again and again.

    Args:
        backbone: The network, which is left unchanged.
        policy: What trains.
        examples: The images.
        training: How.
    """
    model = assemble(backbone, policy).cpu().train()
    losses = train(deepcopy(model), examples, training)
    others = [train(deepcopy(model).double(), examples, training)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(TRAININGS):
        others.append(train(_nudged(model, generator), examples, training))
    apart = (torch.tensor(others, dtype=torch.float64) - torch.tensor(losses, dtype=torch.float64)).abs().amax(0)
    return Golden(losses, (MARGIN * apart.cummax(0).values).clamp(min=TOLERANCE).tolist())


def train(model: fx.GraphModule, examples: Examples, training: Training) -> list[float]:
    """Train a model in its own precision; the loss of every image."""
    trains = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stepper = OPTIMIZERS.load(training.optimizer).make(trains, lr=training.learning_rate)
    images, labels = examples.tensor().to(trains[0].dtype), torch.from_numpy(examples.labels)
    losses: list[float] = []
    for step in range(training.steps):
        chosen = [(step * training.batch + n) % len(examples) for n in range(training.batch)]
        found = F.cross_entropy(model(images[chosen]), labels[chosen], reduction="none")
        stepper.zero_grad()
        found.mean().backward()  # type: ignore[no-untyped-call]
        stepper.step()
        losses += found.detach().tolist()
    return losses


def _nudged(model: fx.GraphModule, generator: torch.Generator) -> fx.GraphModule:
    """A copy whose weights differ in the last digit."""
    copy = deepcopy(model)
    values: list[Tensor] = [*copy.parameters(), *(b for b in copy.buffers() if b.is_floating_point())]
    with torch.no_grad():
        for value in values:
            value.mul_(1 + DIGIT * (2 * torch.rand(value.shape, generator=generator) - 1))
    return copy
