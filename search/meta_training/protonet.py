"""A prototypical network: a backbone's features, and how near a task's queries come to the class means in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import UnsupportedError
from ...spaces import methods
from ...spaces.engine.apply import assemble
from ...spaces.engine.split import prefix
from ...spaces.policy import UpdatePolicy
from ...spaces.trace import Trace
from ..proxies.classifier import head_input, vectors
from ..proxies.prototypes import SHARPNESS, FrozenBackbone
from ..training import Answers
from .source import TaskImages


def everything(trace: Trace) -> UpdatePolicy:
    """The policy that meta-trains: every weight, bias, scale and shift, on frozen statistics of the norms.

    A task has images of a few classes. Statistics of such a batch tell which, and would have queries help each other
    (Bronskill et al. 2020); and fine-tuning under most policies, for which the features are meant, leaves them frozen.
    """
    full = methods.full(trace)
    return full.model_copy(update={"norms": tuple(x.model_copy(update={"statistics": False}) for x in full.norms)})


@dataclass(frozen=True)
class Judgement:
    """How well a state of the network did in the tasks that it is judged by.

    Attributes:
        episode: Episodes that it had learnt from.
        accuracies: Share of queries answered right, by task.
    """

    episode: int
    accuracies: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """The mean over tasks."""
        return fmean(self.accuracies)

    @property
    def accuracy_se(self) -> float:
        """Its standard error over tasks; 0 for a single one."""
        return _standard_error(self.accuracies)

    def gain_se(self, other: "Judgement") -> float:
        """Standard error of the difference to another judgement, which is by the same tasks."""
        return _standard_error([a - b for a, b in zip(self.accuracies, other.accuracies, strict=True)])


class ProtoNet:
    """A copy of a backbone whose features are learnt from tasks (Snell et al. 2017).

    It stays in evaluation mode: a dropout in front of the head would be noise in every distance.

    Args:
        backbone: The pretrained network, unchanged by this.
        trace: Its trace.

    Attributes:
        features: Maps images to what the classifier reads of them; all of its parameters train.

    Raises:
        UnsupportedError: Nothing below the head has weights.
    """

    def __init__(self, backbone: nn.Module, trace: Trace) -> None:
        head = trace.layers[trace.head].name
        graph = assemble(FrozenBackbone(backbone, head, trace.input_shape).module, everything(trace))
        below, self._classifier = head_input(graph, head), graph.get_submodule(head)
        self.features = nn.Identity() if below is None else prefix(graph, below).eval()
        if not any(parameter.requires_grad for parameter in self.features.parameters()):
            raise UnsupportedError(f"{trace.name} has no weights below its head: there is nothing to meta-train")

    def logits(self, task: TaskImages) -> Tensor:
        """Logits of a task's queries, (q, way)."""
        count = len(task.support_labels)
        features = vectors(self.features(task.images), len(task.images), self._classifier)
        return prototype_logits(features[:count], task.support_labels, features[count:], task.query_labels)

    def loss(self, task: TaskImages) -> Tensor:
        """Mean cross-entropy of a task's queries, nats."""
        return F.cross_entropy(self.logits(task), task.query_labels)

    @torch.no_grad()
    def answer(self, task: TaskImages) -> Answers:
        """What it answers to a task's queries."""
        logits = self.logits(task)
        losses = F.cross_entropy(logits, task.query_labels, reduction="none")
        return Answers(logits.argmax(1) == task.query_labels, losses)


def prototype_logits(support: Tensor, support_labels: Tensor, queries: Tensor, query_labels: Tensor) -> Tensor:
    """Negative squared distances of queries to class means (Snell et al. 2017, equation 2), scaled.

    The scale is that of the head which every fine-tuning begins with (`prototype_head`): the mean squared distance
    within a class makes `SHARPNESS`. So the size of the features does not matter. Here it is that of the queries to
    their own class, which one support image a class gives too. One factor for a whole task changes no answer.

    Args:
        support: Features (s, D).
        support_labels: int64 (s,); every class from 0 up has one or more.
        queries: Features (q, D).
        query_labels: int64 (q,).

    Returns:
        (q, way).
    """
    way = int(support_labels.max()) + 1
    means = torch.stack([support[support_labels == c].mean(0) for c in range(way)])
    distances = (queries[:, None] - means).square().sum(2)
    within = distances.gather(1, query_labels[:, None]).mean().clamp_min(1e-12)
    return -SHARPNESS / within * distances


def _standard_error(values: Sequence[float]) -> float:
    return 0.0 if len(values) < 2 else stdev(values) / math.sqrt(len(values))
