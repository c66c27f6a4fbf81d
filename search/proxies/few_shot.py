"""The few-shot proxy: a policy's accuracy after a short, real fine-tuning on episodes of the target's training split.

Every policy sees the same episodes and the same batches, starts from the same prototype head (Snell et al. 2017) and is
trained as the model that `apply` gives. All are trained at one learning rate, which is found by a policy of middling
size: with warm-up and clipping, the target and the number of its images decide which rate is best, more than the policy
does. A policy that states a rate is trained at the nearest of the optimizer's rates. What the frozen part of the
network computes is computed once per episode and boundary, and reused; so is the applied model, whose values are set
back before each fine-tuning.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import fx, nn

from ...spaces.engine.apply import assemble
from ...spaces.engine.split import frozen_boundary, suffix
from ...spaces.methods import last, mobiletl
from ...spaces.optimizers import Optimizer
from ...spaces.policy import LayerUpdate, UpdatePolicy
from ...spaces.trace import Trace
from ..data.episodes import Episode
from ..data.images import Normalisation, as_input, normalisation_of
from ..rates import best_rate, highest_that_holds
from ..training import Answers, Features, Recipe, Start, Step, answer, fit
from .base import Proxy, ProxyTask, Score
from .classifier import Head, set_head
from .prototypes import FrozenBackbone
from .settings import FewShotSettings

#: Most bytes of frozen activations kept for reuse; the oldest go first.
CACHE_BYTES = 2 * 2**30
#: Top blocks that train in the policy that the learning rate is found by.
REFERENCE = 3
#: Fewest support images that are many. At rates that suit many, policies that train much learn few by heart: with fewer
#: the search for the rate begins below the middle, and by a policy that shows it, which trains all weights of this
#: share of the blocks.
MANY, SHARE = 400, 2 / 3


class _Images(NamedTuple):
    """An episode's images, as they come or as they come out of a frozen part."""

    support: Features
    query: Features

    @property
    def nbytes(self) -> int:
        return self.support.values.nbytes + self.query.values.nbytes


class _Student:
    """An applied policy that is trained from the same start again and again.

    Args:
        model: The applied model.
        policy: What trains.
        head: Qualified name of its classifier.

    Attributes:
        boundary: Where what trains begins; None if that is at the images.
        model: The part from there on.
        optimizer: What trains it.
    """

    def __init__(self, model: fx.GraphModule, policy: UpdatePolicy, head: str) -> None:
        self.boundary = frozen_boundary(model)
        self.model = model if self.boundary is None else suffix(model, self.boundary)
        self.optimizer = policy.training.stepper
        self._head = head
        self._start = Start(self.model)

    def begin(self, prototypes: Head) -> None:
        """Go back to the pretrained values, under a head of prototypes."""
        self._start.restore()
        set_head(self.model, self._head, prototypes)


class FewShotProxy(Proxy):
    """Scores policies of one backbone on fixed episodes.

    Args:
        backbone: The pretrained network.
        head: Qualified name of its classifier, which starts from class prototypes in each episode.
        episodes: Episodes.
        settings: How long and on what.
        reference: The policy that the learning rate of all is found by.
        seed: Seed of the batches' order, of dropout, and of the lite residual modules' first weights.
        make_step: Makes what computes a step.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: str,
        episodes: Sequence[Episode],
        settings: FewShotSettings,
        reference: UpdatePolicy,
        seed: int = 0,
        make_step: Callable[[nn.Module, Optimizer], Step] = Step,
    ) -> None:
        self._frozen = FrozenBackbone(backbone, head, reference.input_shape)
        self._head = head
        self._settings = settings
        self._reference = reference
        self._rates: dict[str, float] = {}
        self._seed = seed
        self._make_step = make_step
        device = next(backbone.parameters()).device
        self._load: Callable[[], list[_Images]] = lambda: [
            _images(episode, normalisation_of(backbone), device) for episode in episodes
        ]
        self._episodes = self._load()
        self._few = few(episodes)
        self._asked = tuple(int(place) for episode in episodes for place in episode.query_indices)
        self._cache: OrderedDict[tuple[int, str], _Images] = OrderedDict()
        supports = (images.support for images in self._episodes)
        self._prototypes = [self._frozen.prototypes(support.values, support.labels) for support in supports]

    def __call__(self, policy: UpdatePolicy) -> Score:
        """Fine-tune under a policy and measure.

        Raises:
            FloatingPointError: Training diverged at every learning rate that was tried.
        """
        start = time.perf_counter()
        student = self._student(policy)
        rate, first = highest_that_holds(
            student.optimizer,
            lambda rate: self._fine_tune(student, 0, rate),
            policy.training.learning_rate or self._rate(student.optimizer),
        )
        results = [first, *(self._fine_tune(student, number, rate) for number in range(1, len(self._episodes)))]
        together = Answers.of_all(results)
        se = together.accuracy_se
        if len(results) > 1:
            accuracies = torch.tensor([result.accuracy for result in results], dtype=torch.float64)
            se = max(se, float(accuracies.std()) / math.sqrt(len(results)))
        if not together.finite:
            raise FloatingPointError(f"the loss on the queries is not finite at the learning rate {rate:g}")
        return Score(
            accuracy=together.accuracy,
            accuracy_se=se,
            loss=together.loss,
            learning_rate=rate,
            seconds=time.perf_counter() - start,
            answers=together.right.numpy().tobytes(),
            images=self._asked,
        )

    def rest(self) -> None:
        """Keep the images as bytes, and no activations."""
        self._cache.clear()
        self._episodes = []

    def _rate(self, optimizer: Optimizer) -> float:
        """The rate that suits the target and an optimizer: that of a policy of middling size in the first episode."""
        if optimizer.name not in self._rates:
            student = self._student(self._reference.with_training(optimizer=optimizer.name))
            try:
                begin = _below_the_middle(optimizer) if self._few else optimizer.default_rate
                rate = best_rate(optimizer, lambda rate: self._fine_tune(student, 0, rate), begin)
            except FloatingPointError:  # each policy will say so of itself
                rate = optimizer.rates[0]
            self._rates[optimizer.name] = rate
        return self._rates[optimizer.name]

    def _student(self, policy: UpdatePolicy) -> _Student:
        return _Student(assemble(self._frozen.module, policy, seed=self._seed), policy, self._head)

    def _fine_tune(self, student: _Student, number: int, rate: float) -> Answers:
        """Fine-tune in one episode, from the start, and answer its queries."""
        self._episodes = self._episodes or self._load()
        images = self._images(number, student.boundary)
        student.begin(self._prototypes[number])
        recipe = Recipe(self._settings.steps, self._settings.batch, rate, seed=self._seed * 1000 + number)
        fit(student.model, images.support, student.optimizer, recipe, self._make_step)
        return answer(student.model, images.query)

    def _images(self, number: int, boundary: str | None) -> _Images:
        """An episode's images as they come out of the frozen part that ends at a boundary."""
        raw = self._episodes[number]
        if boundary is None:
            return raw
        key = (number, boundary)
        if key not in self._cache:
            values = self._frozen.features(boundary, [part.values for part in raw])
            self._cache[key] = _Images(*(Features(v, part.labels) for v, part in zip(values, raw, strict=True)))
            while len(self._cache) > 1 and sum(images.nbytes for images in self._cache.values()) > CACHE_BYTES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]


def prepare(task: ProxyTask, settings: FewShotSettings) -> "Callable[[], FewShotProxy]":
    """A picklable function that makes the proxy of a task."""
    trace = task.trace
    head = trace.layers[trace.head].name
    episodes = task.episodes(settings.episodes)
    return partial(FewShotProxy, task.backbone, head, episodes, settings, reference_of(trace, episodes), task.seed)


def few(episodes: Sequence[Episode]) -> bool:
    """Whether the support images are few."""
    return len(episodes[0].support_labels) < MANY


def reference_of(trace: Trace, episodes: Sequence[Episode]) -> UpdatePolicy:
    """The policy of middling size that the learning rate of all is found by."""
    count = len(trace.blocks)
    if not count:
        return last(trace)
    if not few(episodes):
        return mobiletl(trace, min(REFERENCE, count))
    first, start = count - math.ceil(SHARE * count), last(trace)
    layers = tuple(
        LayerUpdate(name=layer.name, weight="all")
        for layer in trace.layers
        if layer.block >= first and layer.kind in ("conv", "linear") and layer.name != start.head
    )
    return start.model_copy(update={"layers": layers, "method": None})


def _below_the_middle(optimizer: Optimizer) -> float:
    return optimizer.rates[max(0, optimizer.rates.index(optimizer.default_rate) - 1)]


def _images(episode: Episode, normalisation: Normalisation, device: torch.device) -> _Images:
    support, query = (
        as_input(images.to(device), normalisation) for images in (episode.support_images, episode.query_images)
    )
    labels = episode.support_labels.to(device), episode.query_labels.to(device)
    return _Images(Features(support, labels[0]), Features(query, labels[1]))
