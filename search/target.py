"""A target that policies are fine-tuned for in full: its images, and the race that finds a policy's rate."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..spaces.engine.apply import apply
from ..spaces.optimizers import Optimizer
from ..spaces.policy import UpdatePolicy
from .data.images import Dataset, ImageSplit, normalisation_of
from .data.pictures import Augmentation, Pictures
from .proxies.classifier import Head, set_head
from .proxies.prototypes import FrozenBackbone
from .rates import best_rate
from .training import Answers, Recipe, Start, Step, answer, fit

#: Share of each class's training images that rates are judged by, and of the steps that they are judged after.
VALIDATION, RACE = 0.2, 0.25
#: Most images of each class that the first head is made of.
SHOT = 50

Positions = NDArray[np.int64]


class Target:
    """A data set as a backbone is fine-tuned for it; it computes where the backbone is.

    Args:
        backbone: The pretrained network, unchanged by this.
        head: Qualified name of its classifier.
        dataset: The target.
        size: Side of the images in pixels.
        train_images: Use the first so many of a shuffled training split; None uses all.
        test_images: Likewise for the test split.
        augmentation: How training images are varied; None leaves them.
        seed: Seed of the shuffling.

    Attributes:
        train: The training images.
        test: The test images.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: str,
        dataset: Dataset,
        size: int,
        *,
        train_images: int | None = None,
        test_images: int | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.backbone, self.head = backbone, head
        self._frozen = FrozenBackbone(backbone, head, (3, size, size))
        self._device = next(backbone.parameters()).device
        self._size, self._augmentation = size, augmentation
        rng = torch.Generator().manual_seed(seed)
        self._split = dataset.train
        self._chosen = _some(dataset.train, train_images, rng)
        self.train = self._pictures(dataset.train, self._chosen)
        self.test = self._pictures(dataset.test, _some(dataset.test, test_images, rng))

    @cached_property
    def prototypes(self) -> Head:
        """The head that training on all training images begins with."""
        return self._prototypes(self.train)

    @cached_property
    def race(self) -> tuple[Pictures, Pictures, Head]:
        """Of the training images, those to train on in a race and those to judge by, and the head to begin with."""
        labels = self._split.labels[self._chosen]
        judged = np.zeros(len(labels), np.bool_)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            count = max(1, round(VALIDATION * len(members))) if len(members) > 1 else 0
            judged[members[:count]] = True
        part, validation = (self._pictures(self._split, self._chosen[which]) for which in (~judged, judged))
        return part, validation, self._prototypes(part)

    def _pictures(self, split: ImageSplit, chosen: Positions) -> Pictures:
        normalisation = normalisation_of(self.backbone)
        return Pictures(split, chosen, self._size, normalisation, self._augmentation, self._device)

    def _prototypes(self, pictures: Pictures) -> Head:
        labels = pictures.labels.cpu()
        places = [torch.nonzero(labels == label)[:SHOT, 0] for label in sorted(set(labels.tolist()))]
        picked = torch.cat(places)
        return self._frozen.prototypes(pictures.inputs(picked), pictures.labels[picked.to(self._device)])


class FineTuning:
    """A policy that is trained for a target, from the same start again and again.

    Args:
        target: What it is trained for.
        policy: What trains, and by which optimizer.
        batch: Images of a step.
        seed: Seed of the lite residual modules' first weights.
        make_step: Makes what computes a step.

    Attributes:
        model: The applied policy, as the last training has left it.
    """

    def __init__(
        self,
        target: Target,
        policy: UpdatePolicy,
        batch: int,
        *,
        seed: int = 0,
        make_step: Callable[[nn.Module, Optimizer], Step] = Step,
    ) -> None:
        self.model = apply(target.backbone, policy, seed=seed)
        self._target, self._batch, self._make_step = target, batch, make_step
        self._optimizer = policy.training.stepper
        self._tuned = policy.training.learning_rate
        self._start = Start(self.model)

    def find_rate(self, steps: int, seed: int = 0) -> float:
        """The rate that is best on held-out training images after a quarter of so many steps.

        The search begins at the rate that the policy was tuned to, if it was, and ends there where no class has an
        image to hold out.

        Raises:
            FloatingPointError: Training diverged at every rate that was tried.
        """
        if not len(self._target.race[1]):
            return self._tuned or self._optimizer.default_rate
        return best_rate(self._optimizer, lambda rate: self.attempt(rate, steps, seed), self._tuned)

    def attempt(self, rate: float, steps: int, seed: int = 0) -> Answers:
        """Train on part of the training images for a quarter of so many steps, and answer the others."""
        part, validation, prototypes = self._target.race
        self._fit(part, prototypes, Recipe(max(1, round(RACE * steps)), self._batch, rate, seed))
        return answer(self.model, validation)

    def train(self, rate: float, steps: int, seed: int = 0) -> Answers:
        """Train on all training images, and answer the test images."""
        self._fit(self._target.train, self._target.prototypes, Recipe(steps, self._batch, rate, seed))
        return answer(self.model, self._target.test)

    def _fit(self, pictures: Pictures, prototypes: Head, recipe: Recipe) -> None:
        self._start.restore()
        set_head(self.model, self._target.head, prototypes)
        fit(self.model, pictures, self._optimizer, recipe, self._make_step)


def _some(split: ImageSplit, count: int | None, rng: torch.Generator) -> Positions:
    order: Positions = torch.randperm(len(split), generator=rng).numpy()
    return order if count is None else order[:count]
