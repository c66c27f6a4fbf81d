"""A cell of the ground truth: one data set, and what each of many policies reaches on its test split."""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from ...core.errors import InputError
from ...devices.costs import cost_table
from ...devices.profile import load_device
from ...spaces.policy import UpdatePolicy
from ...spaces.table import UpdateTable
from ...spaces.trace import Trace
from . import ranking
from .ranking import Floats

#: The device whose costs `within="memory"` holds constant.
DEVICE = "rpi4"
#: What may be held constant.
Within = Literal["count", "memory"]


@dataclass(frozen=True, eq=False)
class FewShot:
    """What the few-shot proxy said of each policy, with the settings that it had then; arrays are (P,).

    Attributes:
        queries: Images of the training split that it asked.
        accuracy: Its accuracy.
        accuracy_se: The standard error that it stated.
        loss: Its loss, nats.
        learning_rate: The rate that it found.
        seconds: Wall time on a GPU that fifteen processes shared.
    """

    queries: int
    accuracy: Floats
    accuracy_se: Floats
    loss: Floats
    learning_rate: Floats
    seconds: Floats


@dataclass(frozen=True, eq=False)
class Cell:
    """Test accuracies of P policies, fine-tuned in full at R learning rates with S seeds each.

    Attributes:
        name: The data set and how many images a class there were, as `cifar10-20`.
        dataset: The data set.
        per_class: Training images of each class; None means all that there were.
        classes: How many classes.
        train_images: Training images.
        test_images: Test images. They are the same for every policy, rate and seed.
        steps: Optimizer steps.
        backbone: The network.
        input_size: Side of the images in pixels.
        learning_rates: The rates, (R,).
        policies: The policies.
        names: What each is called.
        accuracies: Test accuracies, (P, R, S).
        held_out: Accuracies on held-out training images after a quarter of the steps, by which `tinysearch finetune`
            chooses among the rates, (P, R).
        few_shot: What the few-shot proxy said.
    """

    name: str
    dataset: str
    per_class: int | None
    classes: int
    train_images: int
    test_images: int
    steps: int
    backbone: str
    input_size: int
    learning_rates: Floats
    policies: tuple[UpdatePolicy, ...]
    names: tuple[tuple[str, ...], ...]
    accuracies: Floats
    held_out: Floats
    few_shot: FewShot

    def __len__(self) -> int:
        return len(self.policies)

    @cached_property
    def accuracy(self) -> Floats:
        """The truth, (P,): the mean over seeds at the best rate.

        A maximum over noisy values is a little too high. It is so for all policies alike, which ranks them fairly, but
        is no accuracy to promise anyone.
        """
        best: Floats = self.accuracies.mean(2).max(1)
        return best

    @cached_property
    def best_rate(self) -> Floats:
        """The rate at which each policy is best, (P,)."""
        return self.learning_rates[self._best]

    @cached_property
    def by_seed(self) -> Floats:
        """What each seed gives at the best rate, (P, S); `accuracy` is its mean."""
        return self.accuracies[np.arange(len(self)), self._best]

    @cached_property
    def accuracy_se(self) -> Floats:
        """Standard error of `accuracy` by the number of test images alone, (P,).

        Differences between policies are surer than it says, since all answered the same images.
        """
        return np.sqrt(self.accuracy * (1 - self.accuracy) / self.test_images)

    @property
    def repeatability(self) -> float:
        """Tau of the accuracies of one seed with those of another, at each policy's best rate: the mean over pairs.

        The seeds share their test images: what it says is how far chance in training reaches, not how far the choice of
        test images does. The rate was chosen by all seeds together, which flatters it a little.
        """
        pairs = combinations(self.by_seed.T, 2)
        return float(np.mean([ranking.tau(one, other) for one, other in pairs]))

    @cached_property
    def trace(self) -> Trace:
        """The backbone's trace. Needs torch, as what follows from it does."""
        from ..network import load_network

        return load_network(self.backbone, classes=self.classes, weights="none", input_size=self.input_size)[1]

    @cached_property
    def table(self) -> UpdateTable:
        """What the policies train."""
        return UpdateTable.of(self.trace, self.policies)

    @cached_property
    def weight_counts(self) -> npt.NDArray[np.int64]:
        """How many weight tensors each policy trains, in whole or in part, (P,)."""
        weights = np.array([layer.kind in ("conv", "linear") for layer in self.trace.rows])
        counts: npt.NDArray[np.int64] = ((self.table.trained_weights > 0) & weights).sum(1)
        return counts

    @cached_property
    def memory_bytes(self) -> npt.NDArray[np.int64]:
        """Predicted peak training memory of each policy on a Raspberry Pi 4, as its profile has it, (P,)."""
        return cost_table(self.table, load_device(DEVICE)).memory_bytes

    def tau(self, values: npt.ArrayLike, within: Within | None = None) -> float:
        """How well some values rank the policies: Kendall's tau with the truth.

        Args:
            values: One for each policy, (P,); higher means better.
            within: Hold constant how many weight tensors train ("count"), or the peak training memory ("memory"), as
                a partial tau. A value that ranks just as what is held constant has 0.

        Returns:
            Between -1 and 1; 0 is what chance gives.

        Raises:
            InputError: They are not one finite number for each policy, or `within` is something else.
        """
        given = self._checked(values)
        if within is None:
            return ranking.tau(given, self.accuracy)
        held = {"count": "weight_counts", "memory": "memory_bytes"}
        if within not in held:
            raise InputError(f'within must be "count", "memory" or None, not {within!r:.60}')
        return ranking.partial_tau(given, self.accuracy, getattr(self, held[within]))

    def regret(self, values: npt.ArrayLike, top: int = 5) -> float:
        """What is lost by trying only what some values rank highest: best truth of all less best truth of those.

        Args:
            values: One for each policy, (P,); higher means better.
            top: How many are tried, at least 1.

        Raises:
            InputError: They are not one finite number for each policy, or `top` is less than 1.
        """
        if top < 1:
            raise InputError(f"top must be at least 1, not {top}")
        return ranking.regret(self._checked(values), self.accuracy, top)

    @cached_property
    def _best(self) -> npt.NDArray[np.intp]:
        best: npt.NDArray[np.intp] = self.accuracies.mean(2).argmax(1)
        return best

    def _checked(self, values: npt.ArrayLike) -> Floats:
        given = np.asarray(values, np.float64)
        if given.shape != (len(self),) or not np.isfinite(given).all():
            raise InputError(f"{self.name} needs {len(self)} finite values, one for each policy")
        return given
