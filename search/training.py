"""One way to train: the few-shot proxy, `finetune` and the ground truth all fine-tune by the code of this module.

The rate climbs linearly from zero and then falls to zero along a cosine, and gradients are clipped to a norm of 1: with
most of a network training on frozen statistics, the first steps decide whether it holds together.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..spaces.optimizers import Optimizer

#: Share of the steps in which the rate climbs.
WARM_UP = 0.2
#: Largest norm of the gradient of all parameters together.
CLIP = 1.0
#: Images run at once where no gradient is needed: so many that a CPU's caches hold them, or that keep a GPU busy.
CHUNK, CHUNK_ELSEWHERE = 100, 1000


class Examples(Protocol):
    """What a model is trained or measured on."""

    @property
    def labels(self) -> Tensor:
        """Classes, int64 (N,), on the model's device."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...

    def inputs(self, picked: Tensor) -> Tensor:
        """What the model takes for some of them, as they are, (n, ...)."""
        ...

    def varied(self, picked: Tensor, generator: torch.Generator) -> Tensor:
        """Likewise, augmented by chance."""
        ...


@dataclass(frozen=True)
class Features:
    """Examples that lie ready in memory, and are not augmented.

    Attributes:
        values: Inputs, (N, ...).
        labels: Classes, int64 (N,).
    """

    values: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, picked: Tensor) -> Tensor:
        """Some of them."""
        return self.values[picked]

    def varied(self, picked: Tensor, generator: torch.Generator) -> Tensor:
        """The same: what a frozen part has computed cannot be augmented any more."""
        return self.values[picked]


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train.

    Attributes:
        steps: Optimizer steps.
        batch: Examples of a step; where there are fewer, all of them.
        learning_rate: The highest rate.
        seed: Seed of the order, of augmentation and of dropout.
    """

    steps: int
    batch: int
    learning_rate: float
    seed: int = 0

    def share(self, step: int) -> float:
        """The rate of a step, as a share of the highest: linear warm-up, then a cosine that ends at zero."""
        climb = max(1, round(WARM_UP * self.steps))
        if step < climb:
            return (step + 1) / climb
        return (1 + math.cos(math.pi * (step - climb + 1) / (self.steps - climb + 1))) / 2


class Step:
    """One optimizer step of a model: forward and backward pass, clipping, update.

    Args:
        model: The model, of which those parameters train that require a gradient.
        optimizer: Updates them.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self._model = model
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._stepper = optimizer.make(self._parameters, lr=optimizer.default_rate)

    def __call__(self, inputs: Tensor, labels: Tensor, rate: float) -> None:
        """Train on a batch at a rate."""
        self.lower(lambda: F.cross_entropy(self._model(inputs), labels), rate)

    def lower(self, loss: Callable[[], Tensor], rate: float) -> Tensor:
        """Take a step at a rate that lowers what a function computes with the model; gives its value before that."""
        for group in self._stepper.param_groups:
            group["lr"] = rate
        self._stepper.zero_grad(set_to_none=True)
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, CLIP)
        self._stepper.step()
        return value.detach()

    def state_dict(self) -> dict[str, Any]:
        """What the optimizer remembers."""
        return self._stepper.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember what an equal step has remembered."""
        self._stepper.load_state_dict(state)


def fit(
    model: nn.Module,
    examples: Examples,
    optimizer: Optimizer,
    recipe: Recipe,
    make_step: Callable[[nn.Module, Optimizer], Step] = Step,
) -> None:
    """Train what of a model trains, and leave the model in evaluation mode.

    Args:
        model: An applied policy, or the part of it that trains.
        examples: What it is trained on.
        optimizer: By what.
        recipe: How long and how fast.
        make_step: Makes what computes a step.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    step = make_step(model, optimizer)
    model.train()
    # Dropout draws from the global state, which must not depend on what this process has trained before.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        for number, picked in enumerate(batches(len(examples), recipe, generator)):
            rate = recipe.learning_rate * recipe.share(number)
            step(examples.varied(picked, generator), examples.labels[picked], rate)
    model.eval()


def batches(count: int, recipe: Recipe, generator: torch.Generator) -> Iterator[Tensor]:
    """Which of so many examples each step trains on: a shuffled set again and again; of a small set, all of it."""
    size = min(recipe.batch, count)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(recipe.steps):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        picked, order = order[:size], order[size:]
        yield picked


@dataclass(frozen=True)
class Answers:
    """What a model answers to some examples.

    Attributes:
        right: Whether each was answered right, bool (N,).
        losses: Cross-entropy of each, nats, (N,).
    """

    right: Tensor
    losses: Tensor

    @classmethod
    def of_all(cls, parts: Sequence["Answers"]) -> "Answers":
        """Those to several sets of examples, in a row."""
        return cls(torch.cat([part.right for part in parts]), torch.cat([part.losses for part in parts]))

    @property
    def accuracy(self) -> float:
        """Share answered right."""
        return float(self.right.double().mean())

    @property
    def accuracy_se(self) -> float:
        """Its standard error, from the number of examples; that of one wrong answer where none was wrong."""
        p, n = self.accuracy, len(self.right)
        return math.sqrt(max(p * (1 - p), 1 / n) / n)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, nats."""
        return float(self.losses.double().mean())

    @property
    def finite(self) -> bool:
        """Whether the model has not diverged."""
        return math.isfinite(self.loss)


@torch.inference_mode()
def answer(model: nn.Module, examples: Examples) -> Answers:
    """What a model in evaluation mode answers to all examples."""
    chunk = CHUNK if examples.labels.device.type == "cpu" else CHUNK_ELSEWHERE
    parts = torch.split(torch.arange(len(examples)), chunk)
    logits = torch.cat([model(examples.inputs(picked)) for picked in parts]).float()
    losses = F.cross_entropy(logits, examples.labels, reduction="none")
    return Answers((logits.argmax(1) == examples.labels).cpu(), losses.cpu())


class Start:
    """The values that training changes, to go back to.

    Args:
        model: An applied policy, or the part of it that trains, before any training.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._values = {name: tensor.detach().clone() for name, tensor in self._changing()}

    @torch.no_grad()
    def restore(self) -> None:
        """Set the values back."""
        for name, tensor in self._changing():
            tensor.copy_(self._values[name])

    def _changing(self) -> Iterator[tuple[str, Tensor]]:
        # Buffers too: statistics of batch norms may follow their batches.
        yield from ((name, value) for name, value in self._model.named_parameters() if value.requires_grad)
        yield from self._model.named_buffers()
