"""Few-shot episodes: small tasks drawn from one split, so that policies can be compared cheaply."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...core.errors import InputError
from . import ImageSplit


@dataclass(frozen=True)
class Episode:
    """A few-shot task: images to train on (support) and images to be judged by (query).

    Attributes:
        support_images: uint8 (s, 3, S, S).
        support_labels: int64 (s,).
        query_images: uint8 (q, 3, S, S).
        query_labels: int64 (q,), numbered as the support labels.
        class_ids: The classes that take part, by their labels in the split, ascending. Label i stands for
            `class_ids[i]`.
        support_indices: Where the support images are in the split, int64 (s,).
        query_indices: The same for the query images, int64 (q,).
    """

    support_images: Tensor
    support_labels: Tensor
    query_images: Tensor
    query_labels: Tensor
    class_ids: tuple[int, ...]
    support_indices: NDArray[np.int64]
    query_indices: NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """Which images of a split an episode takes.

    Attributes:
        class_ids: As of an `Episode`.
        support: Positions of the support images, int64 (s,).
        query: Positions of the query images, int64 (q,).
    """

    class_ids: tuple[int, ...]
    support: NDArray[np.int64]
    query: NDArray[np.int64]


def draw_episode(
    split: ImageSplit, *, shot: int, queries: int, size: int, seed: int, number: int = 0, way: int | None = None
) -> Episode:
    """Draw a class-balanced episode and load its images; `draw_task` says how it is drawn.

    Args:
        split: Where to draw from; nothing else is seen.
        shot: Support images of each class.
        queries: Query images over all classes.
        size: Side of the images in pixels.
        seed: Same seed, same episodes.
        number: Another number, another episode.
        way: Classes of the episode; None takes all.

    Raises:
        InputError: A number is out of range, or a class has fewer than two images.
    """
    task = draw_task(split.labels, shot=shot, queries=queries, seed=seed, number=number, way=way)
    return _load(split, task, size)


def draw_task(
    labels: NDArray[np.int64], *, shot: int, queries: int, seed: int, number: int = 0, way: int | None = None
) -> Task:
    """Draw which images a class-balanced episode takes, deterministic by seed and number.

    Where every class has images enough, its queries do not depend on `shot`, and a smaller support is part of a larger
    one. Support and query never share an image. The images of each come in random order.

    A class with fewer images than asked for shares what it has between support and query in the ratio asked for,
    rounded, with at least one of each; the other classes are not touched.

    Args:
        labels: Classes of a split, (N,).
        shot: Support images of each class.
        queries: Query images over all classes. Where they do not divide evenly, classes drawn at random get one more.
        seed: Same seed, same episodes.
        number: Another number, another episode.
        way: Classes of the episode, drawn at random and relabelled 0..way-1 in the order of their ids; None takes all
            classes of the split and keeps their labels.

    Raises:
        InputError: A number is out of range, or a class has fewer than two images.
    """
    classes, counts = np.unique(labels, return_counts=True)
    _check(classes, counts, shot=shot, queries=queries, seed=seed, way=way)
    rng = np.random.default_rng([seed, number])
    chosen = classes if way is None else np.sort(rng.choice(classes, way, replace=False))
    asked = np.full(len(chosen), queries // len(chosen))
    asked[rng.permutation(len(chosen))[: queries % len(chosen)]] += 1
    support, query = [], []
    for class_id, wanted in zip(chosen, asked, strict=True):
        order = rng.permutation(np.flatnonzero(labels == class_id))
        query_count, support_count = _share(len(order), int(wanted), shot)
        query.append(order[:query_count])
        support.append(order[query_count : query_count + support_count])
    return _shuffled(chosen, support, query, rng)


def draw_folds(
    split: ImageSplit, folds: int, *, shot: int, queries: int, size: int, seed: int, number: int = 0
) -> list[Episode]:
    """Episodes that share the images of a split: each of its parts is queried once and supports in the others.

    Args:
        split: Where to draw from; nothing else is seen.
        folds: Parts, and so episodes, at least 2.
        shot: Most support images of each class.
        queries: Most query images of all episodes together.
        size: Side of the images in pixels.
        seed: Same seed, same episodes.
        number: Another number, another division.

    Raises:
        InputError: A number is out of range, or a class has fewer than two images.
    """
    classes, counts = np.unique(split.labels, return_counts=True)
    _check(classes, counts, shot=shot, queries=queries, seed=seed, way=None)
    rng = np.random.default_rng([seed, number])
    parts = {int(c): np.array_split(rng.permutation(np.flatnonzero(split.labels == c)), folds) for c in classes}
    most = max(1, queries // (folds * len(classes)))
    episodes = []
    for fold in range(folds):
        support, query = [], []
        for place, class_id in enumerate(classes):
            # Another class begins at another part, so that small classes are not all missing from the same one.
            own = np.roll(np.arange(folds), place)
            asked, *others = (parts[int(class_id)][own[(fold + step) % folds]] for step in range(folds))
            query.append(asked[:most])
            support.append(np.concatenate([*others, asked[most:]])[:shot])
        episodes.append(_load(split, _shuffled(classes, support, query, rng), size))
    return episodes


def _check(
    classes: NDArray[np.int64],
    counts: NDArray[np.int64],
    *,
    shot: int,
    queries: int,
    seed: int,
    way: int | None,
) -> None:
    if way is not None and not 2 <= way <= len(classes):
        raise InputError(f"an episode of {way} classes cannot be drawn from {len(classes)}: take 2 to {len(classes)}")
    used = way or len(classes)
    if used < 2:
        raise InputError(f"an episode needs two classes or more, and the split has {used}")
    if shot < 1 or seed < 0:
        raise InputError(f"shot must be at least 1 and seed 0, not {shot} and {seed}")
    if queries < used:
        raise InputError(f"{queries} queries are too few for {used} classes: each needs one")
    if counts.min() < 2:
        lonely = int(classes[counts.argmin()])
        raise InputError(f"class {lonely} has one image: an episode needs two, one to learn and one to ask")


def _shuffled(
    classes: NDArray[np.int64],
    support: list[NDArray[np.int64]],
    query: list[NDArray[np.int64]],
    rng: np.random.Generator,
) -> Task:
    query_indices, support_indices = (rng.permutation(np.concatenate(parts)) for parts in (query, support))
    return Task(tuple(int(class_id) for class_id in classes), support_indices, query_indices)


def _load(split: ImageSplit, task: Task, size: int) -> Episode:
    every = len(task.class_ids) == len(np.unique(split.labels))

    def labels(indices: NDArray[np.int64]) -> Tensor:
        ids = split.labels[indices]
        return torch.from_numpy(ids if every else np.searchsorted(task.class_ids, ids))

    return Episode(
        support_images=split.load(task.support, size),
        support_labels=labels(task.support),
        query_images=split.load(task.query, size),
        query_labels=labels(task.query),
        class_ids=task.class_ids,
        support_indices=task.support,
        query_indices=task.query,
    )


def _share(available: int, queries: int, shot: int) -> tuple[int, int]:
    """Queries and support images of a class that has `available` of them."""
    if available >= queries + shot:
        return queries, shot
    taken = min(max(round(available * queries / (queries + shot)), 1), available - 1)
    return taken, available - taken
