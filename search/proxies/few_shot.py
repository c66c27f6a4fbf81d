"""The few-shot proxy: a policy's accuracy after a short, real fine-tuning on episodes of the target's training split.

Every policy sees the same episodes and the same batches, starts from the same prototype head (Snell et al. 2017) and is
trained as the model that `apply` gives. Its learning rate is tuned on validation images that its accuracy is not
measured on. What the frozen part of the network computes is computed once per episode and boundary, and reused; so is
the applied model, whose values are set back before each fine-tuning.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ...spaces.engine.apply import assemble
from ...spaces.engine.split import frozen_boundary, suffix
from ...spaces.optimizers import OPTIMIZERS
from ...spaces.policy import UpdatePolicy
from ..data.episodes import Episode
from ..data.images import Normalisation, normalisation_of, to_float
from .base import Proxy, ProxyTask, Score
from .prototypes import CHUNK, FrozenBackbone, Head, set_head
from .settings import FewShotSettings

#: Most bytes of frozen activations kept for reuse; the oldest go first.
CACHE_BYTES = 2 * 2**30
#: Rank of a fine-tuning whose loss is not finite: below all others, whatever its accuracy happens to be.
_DIVERGED = (-math.inf, -math.inf)


@dataclass(frozen=True)
class _Images:
    support: Tensor
    support_labels: Tensor
    validation: Tensor
    validation_labels: Tensor
    query: Tensor
    query_labels: Tensor


class _Student:
    """An applied policy that is trained from the same start again and again.

    Args:
        model: The applied model.
        policy: What trains.
        head: Qualified name of its classifier.

    Attributes:
        boundary: Where what trains begins; None if that is at the images.
        model: The part from there on.
        optimizer: Name of the optimizer.
    """

    def __init__(self, model: fx.GraphModule, policy: UpdatePolicy, head: str) -> None:
        self.boundary = frozen_boundary(model)
        self.model = model if self.boundary is None else suffix(model, self.boundary)
        self.optimizer = policy.training.stepper.name
        self._head = head
        self._start = self.state()

    def begin(self, prototypes: Head) -> None:
        """Go back to the pretrained values, under a head of prototypes."""
        self.restore(self._start)
        set_head(self.model, self._head, prototypes)

    def state(self) -> dict[str, Tensor]:
        """A copy of all that training changes."""
        return {name: tensor.detach().clone() for name, tensor in self._changing()}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        for name, tensor in self._changing():
            tensor.copy_(state[name])

    def _changing(self) -> list[tuple[str, Tensor]]:
        # Buffers too: statistics of batch norms may follow their batches.
        parameters = ((name, value) for name, value in self.model.named_parameters() if value.requires_grad)
        return [*parameters, *self.model.named_buffers()]


class FewShotProxy(Proxy):
    """Scores policies of one backbone on fixed episodes.

    Args:
        backbone: The pretrained network.
        head: Qualified name of its classifier, which starts from class prototypes in each episode.
        episodes: Episodes, each with `settings.validation` + `settings.queries` query images.
        settings: How long and on what.
        seed: Seed of the batches' order, of dropout, and of the lite residual modules' first weights.
    """

    def __init__(
        self, backbone: nn.Module, head: str, episodes: Sequence[Episode], settings: FewShotSettings, seed: int = 0
    ) -> None:
        self._frozen = FrozenBackbone(backbone, head)
        self._head = head
        self._settings = settings
        self._seed = seed
        normalisation = normalisation_of(backbone)
        self._episodes = [_split(episode, settings, normalisation) for episode in episodes]
        self._cache: OrderedDict[tuple[int, str], _Images] = OrderedDict()
        self._prototypes = [self._frozen.prototypes(images.support, images.support_labels) for images in self._episodes]

    def __call__(self, policy: UpdatePolicy) -> Score:
        """Fine-tune under a policy and measure.

        Raises:
            FloatingPointError: Training diverged at every learning rate that was tried.
        """
        start = time.perf_counter()
        student = self._student(policy)
        rate = self._climb(student)
        results = [self._answer(student, 0)]
        for number in range(1, len(self._episodes)):
            self._fine_tune(student, number, rate)
            results.append(self._answer(student, number))
        accuracies = torch.tensor([accuracy for accuracy, _ in results], dtype=torch.float64)
        mean = float(accuracies.mean())
        answers = sum(len(images.query) for images in self._episodes)
        se = math.sqrt(max(mean * (1 - mean), 1 / answers) / answers)
        if len(results) > 1:
            se = max(se, float(accuracies.std()) / math.sqrt(len(results)))
        loss = sum(loss for _, loss in results) / len(results)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss on the queries is not finite at the learning rate {rate:g}")
        return Score(mean, se, loss, rate, time.perf_counter() - start)

    def _student(self, policy: UpdatePolicy) -> _Student:
        return _Student(assemble(self._frozen.module, policy, seed=self._seed), policy, self._head)

    def _climb(self, student: _Student) -> float:
        """Walk along the rates from the middle, up as long as that helps, else down; gives the best.

        What counts is the accuracy on the first episode's validation images, and of equal ones the loss. The student is
        left as the best rate has made it.
        """
        optimizer = OPTIMIZERS.load(student.optimizer)
        rates = optimizer.rates
        start = rates.index(optimizer.default_rate)
        rank = self._try(student, rates[start])
        while rank == _DIVERGED and start > 0:  # a higher rate would diverge as well
            start -= 1
            rank = self._try(student, rates[start])
        if rank == _DIVERGED:
            raise FloatingPointError(f"training diverges at every learning rate down to {rates[0]:g}")
        best, state = start, student.state()
        for direction in (1, -1):
            while 0 <= best + direction < len(rates):
                other = self._try(student, rates[best + direction])
                if other <= rank:
                    break
                best, rank, state = best + direction, other, student.state()
            if best != start:
                break
        student.restore(state)
        return rates[best]

    def _try(self, student: _Student, rate: float) -> tuple[float, float]:
        """Fine-tune in the first episode; how well that went, by the validation images: more is better."""
        images = self._fine_tune(student, 0, rate)
        accuracy, loss = _measure(student.model, images.validation, images.validation_labels)
        return (accuracy, -loss) if math.isfinite(loss) else _DIVERGED

    def _answer(self, student: _Student, number: int) -> tuple[float, float]:
        """Accuracy and loss of a trained student on an episode's queries."""
        images = self._images(number, student.boundary)
        return _measure(student.model, images.query, images.query_labels)

    def _fine_tune(self, student: _Student, number: int, rate: float) -> _Images:
        """Fine-tune in one episode, from the start; the images as the part of the model that trains sees them."""
        images = self._images(number, student.boundary)
        student.begin(self._prototypes[number])
        self._train(student, images, rate, number)
        return images

    def _train(self, student: _Student, images: _Images, rate: float, number: int) -> None:
        settings, model = self._settings, student.model
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        stepper = OPTIMIZERS.load(student.optimizer).make(parameters, lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(stepper, settings.steps)
        seed = self._seed * 1000 + number
        batches = _batches(len(images.support), settings.batch, settings.steps, torch.Generator().manual_seed(seed))
        model.train()
        # Dropout draws from the global state, which must not depend on what this process has scored before.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for indices in batches:
                stepper.zero_grad(set_to_none=True)
                F.cross_entropy(model(images.support[indices]), images.support_labels[indices]).backward()  # type: ignore[no-untyped-call]
                stepper.step()
                schedule.step()
        model.eval()

    def _images(self, number: int, boundary: str | None) -> _Images:
        """An episode's images as they come out of the frozen part that ends at a boundary."""
        raw = self._episodes[number]
        if boundary is None:
            return raw
        key = (number, boundary)
        if key not in self._cache:
            support, validation, query = self._frozen.features(boundary, [raw.support, raw.validation, raw.query])
            self._cache[key] = _Images(
                support, raw.support_labels, validation, raw.validation_labels, query, raw.query_labels
            )
            while len(self._cache) > 1 and sum(_bytes(images) for images in self._cache.values()) > CACHE_BYTES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]


def prepare(task: ProxyTask, settings: FewShotSettings) -> "Callable[[], FewShotProxy]":
    """A picklable function that makes the proxy of a task."""
    head = task.trace.layers[task.trace.head].name
    return partial(FewShotProxy, task.backbone, head, task.episodes(settings.episodes), settings, task.seed)


def _split(episode: Episode, settings: FewShotSettings, normalisation: Normalisation) -> _Images:
    support, queries = (
        to_float(images, normalisation).contiguous(memory_format=torch.channels_last)
        for images in (episode.support_images, episode.query_images)
    )
    # Where a data set has fewer images than asked for, both parts shrink alike, and neither to nothing.
    held = round(len(queries) * settings.validation / (settings.validation + settings.queries))
    held = min(max(held, 1), len(queries) - 1)
    labels = episode.query_labels
    return _Images(
        support=support,
        support_labels=episode.support_labels,
        validation=queries[:held],
        validation_labels=labels[:held],
        query=queries[held:],
        query_labels=labels[held:],
    )


def _batches(count: int, batch: int, steps: int, generator: torch.Generator) -> list[Tensor]:
    """Index batches that go through a shuffled set again and again; of a small set, all of it each time."""
    size = min(batch, count)
    order = torch.cat([torch.randperm(count, generator=generator) for _ in range(-(-steps * size // count))])
    return list(order[: steps * size].view(steps, size))


@torch.inference_mode()
def _measure(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    logits = torch.cat([model(chunk) for chunk in torch.split(images, CHUNK)])
    accuracy = (logits.argmax(1) == labels).double().mean()
    return float(accuracy), float(F.cross_entropy(logits, labels))


def _bytes(images: _Images) -> int:
    return sum(tensor.nbytes for tensor in (images.support, images.validation, images.query))
