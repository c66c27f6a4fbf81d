"""The ground truth that comes with the package, cell by cell."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...core.errors import InputError
from ...spaces.policy import UpdatePolicy
from .cell import Cell, FewShot
from .ranking import Floats
from .records import CellRecord, TableRecord, read


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Test accuracies of many policies after full fine-tuning.

    Attributes:
        measured: How they were measured.
        missing: What is not in them.
        backbone: The network.
        weights: Its weights.
        input_size: Side of the images in pixels.
        optimizer: What trained.
        batch: Images of a step.
        learning_rates: Rates that each policy was trained at; in some cells others too (`Cell.learning_rates`).
        seeds: Seeds of each rate.
        cells: One for each data set and size of its training split.

    Example:
        >>> import tinysearch as ts
        >>> truth = ts.ground_truth()
        >>> [(cell.name, len(cell)) for cell in truth.cells]
        [('cifar10-20', 116), ('gtsrb-all', 98), ('dtd10-20', 116)]
        >>> truth.learning_rates, truth.seeds
        ((0.0003, 0.001, 0.003), (0, 1, 2))
    """

    measured: str
    missing: str
    backbone: str
    weights: str
    input_size: int
    optimizer: str
    batch: int
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]

    def cell(self, name: str) -> Cell:
        """A cell by its name.

        Raises:
            InputError: There is none of that name.

        Example:
            >>> import tinysearch as ts
            >>> ts.ground_truth().cell("gtsrb-all").accuracies.shape
            (98, 4, 3)
        """
        for cell in self.cells:
            if cell.name == name:
                return cell
        there = ", ".join(cell.name for cell in self.cells)
        raise InputError(f"no cell of the ground truth is named {name!r:.60}: there are {there}")


@lru_cache(maxsize=1)
def ground_truth() -> GroundTruth:
    """The ground truth that comes with the package: to judge what claims to know a policy's worth beforehand.

    Loading it needs no torch, no images and no weights; what compares within equal memory or count traces the network.

    Example:
        >>> import tinysearch as ts
        >>> cell = ts.ground_truth().cell("cifar10-20")
        >>> cell.accuracies.shape, f"{cell.accuracy.max():.3f}"
        ((116, 3, 3), '0.596')
        >>> f"{cell.tau(cell.few_shot.accuracy):.2f}", f"{cell.regret(cell.few_shot.accuracy):.3f}"
        ('0.12', '0.013')
    """
    record = read()
    policies = [UpdatePolicy.from_dict(entry.policy, entry.names[0]) for entry in record.policies]
    return GroundTruth(
        measured=record.measured,
        missing=record.missing,
        backbone=record.backbone,
        weights=record.weights,
        input_size=record.input_size,
        optimizer=record.optimizer,
        batch=record.batch,
        learning_rates=record.learning_rates,
        seeds=record.seeds,
        cells=tuple(_cell(record, cell, policies) for cell in record.cells),
    )


def _cell(table: TableRecord, record: CellRecord, policies: list[UpdatePolicy]) -> Cell:
    said = record.few_shot
    return Cell(
        name=record.name,
        dataset=record.dataset,
        per_class=record.per_class,
        classes=record.classes,
        train_images=record.train_images,
        test_images=record.test_images,
        steps=record.steps,
        backbone=table.backbone,
        input_size=table.input_size,
        learning_rates=_array(record.learning_rates or table.learning_rates),
        policies=tuple(policies[number] for number in record.policies),
        names=tuple(table.policies[number].names for number in record.policies),
        accuracies=_array(record.accuracy),
        held_out=_array(record.held_out),
        few_shot=FewShot(
            queries=said.queries,
            accuracy=_array(said.accuracy),
            accuracy_se=_array(said.accuracy_se),
            loss=_array(said.loss),
            learning_rate=_array(said.learning_rate),
            seconds=_array(said.seconds),
        ),
    )


def _array(values: object) -> Floats:
    """A read-only array: all who ask share it."""
    array = np.array(values, np.float64)
    array.setflags(write=False)
    return array
