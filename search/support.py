"""Few-shot episodes of a problem, and what a method that chooses its policy from the data may look at."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .data.episodes import Episode, sample_episodes
from .data.images import ImageSplit, normalisation_of, to_float
from .proxies.prototypes import FrozenBackbone, set_head
from .proxies.settings import ProxySettings

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


def support_task(backbone: nn.Module, head: str, episode: Episode) -> SupportTask:
    """An episode's support images, at most `SUPPORT_SEEN` of them, and the backbone with the head that fits them all.

    Args:
        backbone: The pretrained network, unchanged by this.
        head: Qualified name of its classifier.
        episode: Where the images are from.
    """
    frozen = FrozenBackbone(backbone, head)
    pixels = to_float(episode.support_images, normalisation_of(backbone))
    images = pixels.contiguous(memory_format=torch.channels_last)
    model = set_head(deepcopy(frozen.module), head, frozen.prototypes(images, episode.support_labels))
    return SupportTask(model, images[:SUPPORT_SEEN], episode.support_labels[:SUPPORT_SEEN])


def draw_episodes(train: ImageSplit, settings: ProxySettings, *, size: int, seed: int, count: int) -> list[Episode]:
    """Episodes of a training split, each with the support, validation and query images that a proxy is told.

    Episode i does not depend on how many are drawn.

    Args:
        train: The training split.
        settings: How its images are divided.
        size: Side of the images in pixels.
        seed: Same seed, same episodes.
        count: How many.
    """
    return sample_episodes(
        train,
        episodes=count,
        shot=settings.shot,
        queries=_queries(settings, train.labels),
        size=size,
        seed=seed,
    )


def _queries(settings: ProxySettings, labels: npt.NDArray[np.int64]) -> int:
    """Validation and query images of an episode: those asked for, or what the support leaves, a third at least."""
    counts = np.unique_counts(labels).counts
    left = np.maximum(np.maximum(counts - settings.shot, counts // 3), 1)
    return min(settings.queries + settings.validation, int(left.sum()))
