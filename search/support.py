"""Few-shot episodes of a problem, and what a method that chooses its policy from the data may look at."""

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .data.episodes import Episode, sample_episodes
from .data.images import normalisation_of, to_float
from .proxies.prototypes import FrozenBackbone, set_head
from .proxies.settings import ProxySettings

if TYPE_CHECKING:
    from .problem import Problem

#: Most support images that such a method sees: one backward pass must hold them.
SUPPORT_SEEN = 256


@dataclass(frozen=True)
class SupportTask:
    """A small task of the target's images.

    Attributes:
        model: The backbone in evaluation mode, with a head of class prototypes.
        images: Support images, normalised, float32 (N, 3, S, S) in channels-last order.
        labels: Their classes, int64 (N,).
    """

    model: nn.Module
    images: Tensor
    labels: Tensor


def support_task(problem: "Problem") -> SupportTask:
    """The first episode's support images, the head that fits them, and at most `SUPPORT_SEEN` of them to look at."""
    (episode,) = problem.episodes(1)
    head = problem.trace.layers[problem.trace.head].name
    frozen = FrozenBackbone(problem.backbone, head)
    pixels = to_float(episode.support_images, normalisation_of(problem.backbone))
    images = pixels.contiguous(memory_format=torch.channels_last)
    model = set_head(deepcopy(frozen.module), head, frozen.prototypes(images, episode.support_labels))
    return SupportTask(model, images[:SUPPORT_SEEN], episode.support_labels[:SUPPORT_SEEN])


def draw_episodes(problem: "Problem", count: int) -> list[Episode]:
    """Episodes of the training split alone, each with the request's support, validation and query images.

    Episode i does not depend on how many are drawn.
    """
    settings, train = problem.request.proxy, problem.dataset.train
    return sample_episodes(
        train,
        episodes=count,
        shot=settings.shot,
        queries=_queries(settings, train.labels),
        size=problem.trace.input_shape[1],
        seed=problem.request.seed,
    )


def _queries(settings: ProxySettings, labels: npt.NDArray[np.int64]) -> int:
    """Validation and query images of an episode: those asked for, or what the support leaves, a third at least."""
    counts = np.unique_counts(labels).counts
    left = np.maximum(np.maximum(counts - settings.shot, counts // 3), 1)
    return min(settings.queries + settings.validation, int(left.sum()))
