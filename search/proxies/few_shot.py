"""The few-shot proxy: a policy's accuracy after a short, real fine-tuning on episodes of the target's training split.

Every policy sees the same episodes and the same batches, starts from the same prototype head (Snell et al. 2017) and is
trained as the model that `apply` gives. Its learning rate is tuned on validation images that its accuracy is not
measured on. What the frozen part of the network computes is computed once per episode and boundary, and reused.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...spaces.engine.apply import apply
from ...spaces.engine.split import frozen_boundary, prefix, suffix
from ...spaces.graph import node_name
from ...spaces.optimizers import OPTIMIZERS
from ...spaces.policy import UpdatePolicy
from ..data.episodes import Episode
from ..data.images import Normalisation, to_float
from ..request import ProxySettings
from .base import Score

Module = TypeVar("Module", bound=nn.Module)

#: Most bytes of frozen activations kept for reuse; the oldest go first.
CACHE_BYTES = 2 * 2**30
#: Support images that a method which chooses its policy from the data may see: one backward pass must hold them.
SUPPORT_SEEN = 256
#: Logits of the prototype head for a squared distance as large as the mean within a class.
SHARPNESS = 10.0
#: Images run at once where no gradient is needed.
CHUNK = 100
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


class FewShotProxy:
    """Scores policies of one backbone on fixed episodes.

    Args:
        backbone: The pretrained network.
        head: Qualified name of its classifier, which starts from class prototypes in each episode.
        episodes: Episodes, each with `settings.validation` + `settings.queries` query images.
        settings: How long and on what.
        seed: Seed of the batches' order and of the lite residual modules' first weights.
    """

    def __init__(
        self, backbone: nn.Module, head: str, episodes: Sequence[Episode], settings: ProxySettings, seed: int = 0
    ) -> None:
        # Channels last is the order that convolutions on a CPU compute in: no time is lost to reordering.
        self._backbone = deepcopy(backbone).eval()
        self._backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in its stubs
        self._head = head
        self._settings = settings
        self._seed = seed
        normalisation = getattr(backbone, "normalisation", ((0.5,) * 3, (0.5,) * 3))
        self._episodes = [_split(episode, settings, normalisation) for episode in episodes]
        # Frozen but for the head: computed as the frozen part of every applied model is, to the last bit.
        self._frozen = apply(self._backbone, UpdatePolicy(backbone="frozen", input_shape=(), head=head))
        self._cache: OrderedDict[tuple[int, str], _Images] = OrderedDict()
        self._prototypes = [self._prototype_head(images) for images in self._episodes]

    def __call__(self, policy: UpdatePolicy) -> Score:
        """Fine-tune under a policy and measure.

        Raises:
            FloatingPointError: Training diverged at every learning rate that was tried.
        """
        start = time.perf_counter()
        rate, tuned = self._climb(policy)
        models = [tuned] + [self._fine_tune(policy, number, rate) for number in range(1, len(self._episodes))]
        results = [_measure(model, images.query, images.query_labels) for model, images in models]
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

    def support_task(self) -> tuple[nn.Module, Tensor, Tensor]:
        """The backbone with the prototype head of the first episode, and that episode's support images and labels.

        This is what a method that chooses its policy from the user's data, such as TinyTrain, may look at.
        """
        images = self._episodes[0]
        model = self._with_prototypes(deepcopy(self._backbone), 0)
        return model, images.support[:SUPPORT_SEEN], images.support_labels[:SUPPORT_SEEN]

    def _climb(self, policy: UpdatePolicy) -> tuple[float, tuple[nn.Module, _Images]]:
        """Walk along the rates from the middle, up as long as that helps, else down; the best, and what it gave.

        What counts is the accuracy on the first episode's validation images, and of equal ones the loss.
        """
        optimizer = OPTIMIZERS.load(policy.training.optimizer)
        rates = optimizer.rates
        start = rates.index(optimizer.default_rate)
        tuned = self._fine_tune(policy, 0, rates[start])
        rank = _rank(*tuned)
        while rank == _DIVERGED and start > 0:  # a higher rate would diverge as well
            start -= 1
            tuned = self._fine_tune(policy, 0, rates[start])
            rank = _rank(*tuned)
        if rank == _DIVERGED:
            raise FloatingPointError(f"training diverges at every learning rate down to {rates[0]:g}")
        best = start
        for direction in (1, -1):
            while 0 <= best + direction < len(rates):
                other = self._fine_tune(policy, 0, rates[best + direction])
                if _rank(*other) <= rank:
                    break
                best, tuned, rank = best + direction, other, _rank(*other)
            if best != start:
                break
        return rates[best], tuned

    def _fine_tune(self, policy: UpdatePolicy, number: int, rate: float) -> tuple[nn.Module, _Images]:
        """Fine-tune in one episode; the part of the model that trains, and the images as that part sees them."""
        model = self._with_prototypes(apply(self._backbone, policy, seed=self._seed), number)
        boundary = frozen_boundary(model)
        images = self._episodes[number] if boundary is None else self._images(number, boundary)
        trained = model if boundary is None else suffix(model, boundary)
        self._train(trained, images, policy.training.optimizer, rate, number)
        return trained, images

    def _with_prototypes(self, model: Module, number: int) -> Module:
        head = model.get_submodule(self._head)
        assert isinstance(head, nn.Linear)
        weight, bias = self._prototypes[number]
        with torch.no_grad():
            head.weight.copy_(weight)
            if head.bias is not None:
                head.bias.copy_(bias)
        return model

    def _train(self, model: nn.Module, images: _Images, optimizer: str, rate: float, number: int) -> None:
        settings = self._settings
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        stepper = OPTIMIZERS.load(optimizer).make(parameters, lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(stepper, settings.steps)
        generator = torch.Generator().manual_seed(self._seed * 1000 + number)
        model.train()
        for indices in _batches(len(images.support), settings.batch, settings.steps, generator):
            stepper.zero_grad(set_to_none=True)
            F.cross_entropy(model(images.support[indices]), images.support_labels[indices]).backward()  # type: ignore[no-untyped-call]
            stepper.step()
            schedule.step()
        model.eval()

    def _images(self, number: int, boundary: str) -> _Images:
        key = (number, boundary)
        if key not in self._cache:
            frozen = prefix(self._frozen, boundary)
            raw = self._episodes[number]
            self._cache[key] = _Images(
                _run_chunks(frozen, raw.support),
                raw.support_labels,
                _run_chunks(frozen, raw.validation),
                raw.validation_labels,
                _run_chunks(frozen, raw.query),
                raw.query_labels,
            )
            while len(self._cache) > 1 and sum(_bytes(images) for images in self._cache.values()) > CACHE_BYTES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _prototype_head(self, images: _Images) -> tuple[Tensor, Tensor]:
        (node,) = (n for n in self._frozen.graph.nodes if n.op == "call_module" and n.target == self._head)
        features = _run_chunks(prefix(self._frozen, node_name(node.all_input_nodes[0])), images.support)
        return prototype_head(features, images.support_labels)


def prototype_head(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The linear head whose logits are the negative squared distances to the class means, up to a constant.

    -|f - c|^2 = 2 c.f - |c|^2 - |f|^2, and the last term is the same for every class (Snell et al. 2017, section 2.4).
    Distances are in units of the mean squared distance of a sample to its own prototype, so that the scale of the
    features does not decide how sure the head starts.

    Args:
        features: (N, D).
        labels: (N,) integers; every class from 0 to the largest label has a sample.

    Returns:
        Weight (classes, D) and bias (classes,).
    """
    classes = int(labels.max()) + 1
    means = torch.stack([features[labels == c].mean(0) for c in range(classes)])
    within = (features - means[labels]).square().sum(1).mean().clamp_min(1e-12)
    temperature = SHARPNESS / within
    return 2 * temperature * means, -temperature * means.square().sum(1)


def _split(episode: Episode, settings: ProxySettings, normalisation: Normalisation) -> _Images:
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


def _rank(model: nn.Module, images: _Images) -> tuple[float, float]:
    accuracy, loss = _measure(model, images.validation, images.validation_labels)
    return (accuracy, -loss) if math.isfinite(loss) else _DIVERGED


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


@torch.no_grad()
def _run_chunks(model: nn.Module, images: Tensor) -> Tensor:
    model.eval()
    return torch.cat([model(chunk) for chunk in torch.split(images, CHUNK)])


def _bytes(images: _Images) -> int:
    return sum(tensor.nbytes for tensor in (images.support, images.validation, images.query))
