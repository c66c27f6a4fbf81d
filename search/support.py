"""Few-shot episodes of a problem, and what a method that chooses its policy from the data may look at."""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from .data.episodes import Episode, draw_episode, draw_folds
from .data.images import ImageSplit, as_input, normalisation_of
from .proxies.classifier import set_head
from .proxies.prototypes import FrozenBackbone
from .proxies.settings import ProxySettings

#: Most support images that such a method sees: one backward pass must hold them.
SUPPORT_SEEN = 256
#: Parts that a small training split is divided into, each of which is queried once.
FOLDS = 3
#: Share of the queries asked for that make it worth to query no image of the support.
ENOUGH = 0.5


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
    images = as_input(episode.support_images, normalisation_of(backbone))
    frozen = FrozenBackbone(backbone, head, tuple(images.shape[1:]))
    model = set_head(deepcopy(frozen.module), head, frozen.prototypes(images, episode.support_labels))
    return SupportTask(model, images[:SUPPORT_SEEN], episode.support_labels[:SUPPORT_SEEN])


def draw_episodes(train: ImageSplit, settings: ProxySettings, *, size: int, seed: int, number: int) -> list[Episode]:
    """One round of episodes of a training split, with the support and query images that a proxy is told.

    Where the support leaves images enough it is a single episode. Else it is `FOLDS` that share the images, so that all
    of them support and all of them are queried: each once, or as many as are asked for.

    Args:
        train: The training split.
        settings: How its images are divided.
        size: Side of the images in pixels.
        seed: Same seed, same episodes.
        number: Of the round, from 0. A round does not depend on those before it.
    """
    left = int(np.maximum(np.unique_counts(train.labels).counts - settings.shot, 0).sum())
    asked = {"shot": settings.shot, "size": size, "seed": seed, "number": number}
    if left >= settings.queries * ENOUGH:
        return [draw_episode(train, queries=min(settings.queries, left), **asked)]
    return draw_folds(train, FOLDS, queries=settings.queries, **asked)
