"""Few-shot tasks of a source set: those to learn from, and those of held-out classes or images to judge by."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...core.errors import InputError
from ..data import Dataset
from ..data.episodes import draw_task
from ..data.images import Normalisation
from ..data.pictures import Augmentation, Pictures

#: Share of the classes, or of each class's images, that is held out.
HELD_OUT = 0.2
#: From so many classes on, whole classes are held out, and so many at least; of fewer, too few would be left to learn.
MANY_CLASSES, FEWEST_HELD_OUT = 10, 3
#: A class of fewer images has none to hold out: two must remain on each side, one to learn and one to ask.
FEWEST_TO_DIVIDE = 4
#: Fewest classes of a task, where there are as many.
FEWEST_CLASSES = 5

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class TaskSizes:
    """How large tasks may be, of which each draws its own size.

    Attributes:
        way: Most classes.
        shot: Most support images of each class.
        queries: Query images of each class.
    """

    way: int = 10
    shot: int = 10
    queries: int = 10

    def __post_init__(self) -> None:
        for name, least in (("way", 2), ("shot", 1), ("queries", 1)):
            if getattr(self, name) < least:
                raise InputError(f"meta_train: {name} is {getattr(self, name)}: it must be at least {least}", name)


@dataclass(frozen=True)
class TaskImages:
    """The images of a task.

    Attributes:
        images: Support images, then query images, normalised, float32 (s + q, 3, S, S) in channels-last order.
        support_labels: int64 (s,), numbered from 0 to way - 1.
        query_labels: int64 (q,).
    """

    images: Tensor
    support_labels: Tensor
    query_labels: Tensor


class Tasks:
    """The tasks of some images of a source; which, depends on the seed and their number alone.

    As in Meta-Dataset (Triantafillou et al. 2020, section 3.2) each task has a number of classes and of support images
    of its own; unlike there, both are uniform, and the support is as large for each class that has images enough.

    Args:
        pictures: The images.
        sizes: How large tasks may be.
        seed: Same seed, same tasks.
        varied: Whether images are augmented.
    """

    def __init__(self, pictures: Pictures, sizes: TaskSizes, seed: int, *, varied: bool) -> None:
        self._pictures, self._sizes, self._seed, self._varied = pictures, sizes, seed, varied
        self._labels = pictures.labels.numpy()
        self._classes = len(np.unique(self._labels))

    def draw(self, number: int) -> TaskImages:
        """The images of a task, by its number."""
        rng = np.random.default_rng([self._seed, number, 1])
        most = min(self._sizes.way, self._classes)
        way = int(rng.integers(min(FEWEST_CLASSES, most), most + 1))
        shot = int(rng.integers(1, self._sizes.shot + 1))
        queries = way * self._sizes.queries
        task = draw_task(self._labels, shot=shot, queries=queries, seed=self._seed, number=number, way=way)
        picked = torch.from_numpy(np.concatenate([task.support, task.query]))
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        images = self._pictures.varied(picked, generator) if self._varied else self._pictures.inputs(picked)
        support, query = (
            torch.from_numpy(np.searchsorted(task.class_ids, self._labels[part])) for part in (task.support, task.query)
        )
        return TaskImages(images, support, query)


@dataclass(frozen=True)
class Source:
    """What a network is meta-trained on and judged by.

    Attributes:
        learning: Tasks to learn from.
        judging: Tasks of what is held out.
        held_out: What that is, in words.
    """

    learning: Tasks
    judging: Tasks
    held_out: str

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        size: int,
        normalisation: Normalisation,
        augmentation: Augmentation | None,
        sizes: TaskSizes,
        seed: int,
    ) -> "Source":
        """Divide a data set's training split; its test split is not seen.

        Args:
            dataset: The source.
            size: Side of the images in pixels.
            normalisation: How the backbone wants them.
            augmentation: How those to learn from are varied.
            sizes: How large tasks may be.
            seed: Seed of the division and of the tasks.

        Raises:
            InputError: There are too few classes or images.
        """
        kept, held, words = divide(dataset, seed)

        def tasks(chosen: Positions, varied: Augmentation | None) -> Tasks:
            pictures = Pictures(dataset.train, chosen, size, normalisation, varied)
            return Tasks(pictures, sizes, seed, varied=varied is not None)

        return cls(tasks(kept, augmentation), tasks(held, None), words)


def divide(dataset: Dataset, seed: int) -> tuple[Positions, Positions, str]:
    """Positions of a training split's images to learn from and to judge by, and what the latter are, in words.

    Args:
        dataset: The source.
        seed: Same seed, same division.

    Raises:
        InputError: There are too few classes or images.
    """
    labels = dataset.train.labels
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise InputError(f"{dataset.name}: {len(classes)} class has training images: meta-training needs two or more")
    if counts.min() < 2:
        lonely = dataset.classes[int(classes[counts.argmin()])]
        raise InputError(
            f"{dataset.name}: class {lonely!r} has one training image: a task needs two, one to learn and one to ask; "
            "add some or leave the class out"
        )
    rng = np.random.default_rng(seed)
    judged = np.zeros(len(labels), np.bool_)
    if len(classes) >= MANY_CLASSES:
        chosen = rng.choice(classes, max(FEWEST_HELD_OUT, round(HELD_OUT * len(classes))), replace=False)
        judged[np.isin(labels, chosen)] = True
        words = f"{len(chosen)} of {len(classes)} classes"
    else:
        divided = classes[counts >= FEWEST_TO_DIVIDE]
        if len(divided) < 2:
            raise InputError(
                f"{dataset.name}: nothing to judge by: two classes or more need {FEWEST_TO_DIVIDE} training images"
            )
        for label in divided:
            members = rng.permutation(np.flatnonzero(labels == label))
            judged[members[: max(2, round(HELD_OUT * len(members)))]] = True
        words = f"{int(judged.sum())} of {len(labels)} images"
    return np.flatnonzero(~judged), np.flatnonzero(judged), words
