"""Training under a policy on the whole training split, and accuracy on the test split: what a proxy predicts."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..core.errors import InputError
from ..spaces.engine.apply import apply
from ..spaces.policy import UpdatePolicy
from .data import Dataset, ImageSplit
from .data.images import normalisation_of, to_float

#: Test images run at once.
CHUNK = 100


@dataclass(frozen=True)
class Trained:
    """A model that was trained, and what it answers.

    Attributes:
        accuracy: Share of test images answered right.
        accuracy_se: Its standard error, from the number of test images.
        loss: Mean cross-entropy on the test images, nats.
        model: The trained model.
    """

    accuracy: float
    accuracy_se: float
    loss: float
    model: nn.Module


def train(
    backbone: nn.Module,
    policy: UpdatePolicy,
    dataset: Dataset,
    *,
    steps: int,
    batch: int,
    learning_rate: float | None,
    train_images: int | None,
    test_images: int | None,
    seed: int,
) -> Trained:
    """Train what a policy says and measure; for the arguments see `finetune`.

    Raises:
        InputError: A number is not positive, or the policy is for another backbone.
    """
    counts = {"steps": steps, "batch": batch, "train_images": train_images, "test_images": test_images}
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"finetune: {name} is {count}: it must be at least 1")
    if learning_rate is not None and not 0 < learning_rate < math.inf:
        raise InputError(f"finetune: learning_rate is {learning_rate}: it must be positive")
    rng = torch.Generator().manual_seed(seed)
    size, normalisation = policy.input_shape[1], normalisation_of(backbone)
    model = apply(backbone, policy, seed=seed)
    head = model.get_submodule(policy.head)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    optimizer = policy.training.stepper
    rate = learning_rate or policy.training.learning_rate or optimizer.default_rate
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stepper = optimizer.make(trained, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(stepper, steps)
    chosen = _subset(dataset.train, train_images, rng)
    labels = torch.from_numpy(dataset.train.labels[chosen])
    model.train()
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < min(batch, len(labels)):
            order = torch.cat([order, torch.randperm(len(labels), generator=rng)])
        picked, order = order[:batch], order[batch:]
        stepper.zero_grad(set_to_none=True)
        images = dataset.train.load(chosen[picked.numpy()], size)
        loss = F.cross_entropy(model(to_float(images, normalisation)), labels[picked])
        loss.backward()  # type: ignore[no-untyped-call]
        stepper.step()
        schedule.step()
    model.eval()
    tested = _subset(dataset.test, test_images, rng)
    logits = []
    with torch.inference_mode():
        for start in range(0, len(tested), CHUNK):
            part = dataset.test.load(tested[start : start + CHUNK], size)
            logits.append(model(to_float(part, normalisation)))
    scores, truth = torch.cat(logits), torch.from_numpy(dataset.test.labels[tested])
    accuracy = float((scores.argmax(1) == truth).double().mean())
    se = math.sqrt(max(accuracy * (1 - accuracy), 1 / len(truth)) / len(truth))
    return Trained(accuracy, se, float(F.cross_entropy(scores, truth)), model)


def _subset(split: ImageSplit, count: int | None, rng: torch.Generator) -> Any:
    order = torch.randperm(len(split), generator=rng).numpy()
    return order if count is None else order[:count]
