"""The saved-bytes meter for a run: what its policies really keep here, beside what was predicted."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ..core.errors import InputError
from ..core.listing import Listing
from ..core.units import format_seconds
from ..devices.measure import Measurement, measure
from ..results.records import Member
from ..results.rundir import RunDirectory
from ..search.data.images import to_float
from ..search.problem import Task, one_thread
from ..spaces.engine.apply import apply
from ..spaces.policy import UpdatePolicy
from .members import find_member, load_task

Measured = tuple[Member, Measurement]


def verify(
    run_dir: Path, *, policy: str, batch: int | None, data_dir: Path | None, weights: str | None, tensors: bool
) -> tuple[Listing, tuple[str, ...]]:
    """Measure members of a run's front on images of its training split.

    Args:
        run_dir: The run.
        policy: `all`, `best`, the start of a hash, or a method's name.
        batch: Samples of a step; None takes the run's.
        data_dir: Where data sets lie.
        weights: The weights, if they were a file that has moved.
        tensors: Whether to list one policy tensor by tensor rather than every policy in a line.

    Returns:
        The listing, and the names of the policies that keep other bytes than predicted, in any layer.

    Raises:
        InputError: The run has no such member, or too few images.
        MissingDataError: Data or weights are missing.
        ConflictError: The weights are not those of the run.
    """
    run = RunDirectory.load(run_dir)
    members = list(run.front.members) if policy == "all" else [find_member(run, policy)]
    if tensors and len(members) != 1:
        raise InputError(f"--tensors lists one policy: choose one of the {len(members)} by --policy")
    task = load_task(run, data_dir=data_dir, weights=weights)
    count = task.batch if batch is None else batch
    if not 1 <= count <= len(task.dataset.train):
        raise InputError(f"--batch {count}: it must be from 1 to the {len(task.dataset.train)} training images")
    with one_thread():
        measured = [(member, _measure(run, task, member, count)) for member in members]
    wrong = tuple(_name(member) for member, result in measured if not result.as_predicted)
    notes = _notes(task)
    if tensors:
        return _tensors(measured[0], count, notes), wrong
    return _policies(measured, run_dir, count, notes), wrong


def _measure(run: RunDirectory, task: Task, member: Member, batch: int) -> Measurement:
    policy = UpdatePolicy.load(run.policy_path(member))
    images = task.dataset.train.load(range(batch), policy.input_shape[1])
    labels = torch.from_numpy(task.dataset.train.labels[:batch].copy())  # theirs is read-only
    # The type of the attribute is Any: load_backbone puts it on every network.
    pixels = to_float(images, task.backbone.normalisation)  # type: ignore[arg-type]
    return measure(apply(task.backbone, policy), pixels, labels, optimizer=policy.training.optimizer)


def _policies(measured: Sequence[Measured], run_dir: Path, batch: int, notes: tuple[str, ...]) -> Listing:
    rows = [
        (
            member.hash,
            member.method,
            result.predicted_bytes,
            result.saved_bytes,
            result.saved_bytes - (result.predicted_bytes or 0),
            result.step_seconds,
        )
        for member, result in measured
    ]
    columns = ("policy", "method", "predicted_bytes", "measured_bytes", "difference_bytes", "step_s")
    title = f"{run_dir}: saved activations of a training step, batch {batch}, on this machine"
    return Listing(title, columns, rows, _SHOW, notes)


def _tensors(measured: Measured, batch: int, notes: tuple[str, ...]) -> Listing:
    member, result = measured
    rows = [
        (
            layer.name,
            "; ".join(f"{'x'.join(map(str, t.shape))} {t.dtype} for {t.name}" for t in layer.tensors),
            layer.predicted_bytes,
            layer.measured_bytes,
            layer.measured_bytes - (layer.predicted_bytes or 0),
        )
        for layer in result.by_layer()
    ]
    columns = ("made_by", "tensors", "predicted_bytes", "measured_bytes", "difference_bytes")
    title = f"{_name(member)}: what a training step keeps, batch {batch}, on this machine"
    total = f"in all: predicted {result.predicted_bytes:,} B, measured {result.saved_bytes:,} B, "
    return Listing(title, columns, rows, _SHOW, (f"{total}{format_seconds(result.step_seconds)} a step", *notes))


def _notes(task: Task) -> tuple[str, ...]:
    text = "Predicted and measured in fp32, by PyTorch on this machine"
    dtype = task.device.memory.dtypes.activation
    if dtype != 4:
        text += f"; the front's own figures are for {task.device.name}, where an activation takes {dtype} B"
    return (f"{text}.",)


def _name(member: Member) -> str:
    return member.method or member.hash[:8]


def _bytes(value: int) -> str:
    return f"{value:,} B"


_SHOW = {
    "policy": lambda value: str(value)[:8],
    "predicted_bytes": _bytes,
    "measured_bytes": _bytes,
    "difference_bytes": _bytes,
    "step_s": format_seconds,
}
