"""The saved-bytes meter for a run: what its policies really keep here, beside what was predicted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..core.errors import InputError
from ..core.listing import Listing
from ..core.units import format_seconds
from ..devices.measure import Measurement, measure
from ..results.records import Member
from ..results.rundir import RunDirectory
from ..spaces.engine.apply import apply
from ..spaces.policy import UpdatePolicy
from .data.images import normalisation_of, to_float
from .networks import backbones_of, weights_of
from .problem import Problem
from .threads import one_thread


@dataclass(frozen=True)
class MemberMeasurement:
    """What a member of a front really keeps.

    Attributes:
        member: The member.
        measurement: What was measured, and what was predicted for this machine.
    """

    member: Member
    measurement: Measurement

    @property
    def name(self) -> str:
        """The method that it is, or the start of its hash."""
        return self.member.method or self.member.hash[:8]


@dataclass(frozen=True)
class Verification:
    """What members of a run's front really keep for the backward pass, beside what was predicted.

    Attributes:
        path: The run directory.
        batch: Samples of the steps that were measured.
        members: The members, in the order of the front.
        notes: What to know about the numbers.
    """

    path: Path
    batch: int
    members: tuple[MemberMeasurement, ...]
    notes: tuple[str, ...]

    @property
    def wrong(self) -> tuple[MemberMeasurement, ...]:
        """The members that keep other bytes than predicted, in any layer."""
        return tuple(each for each in self.members if not each.measurement.as_predicted)

    def listing(self) -> Listing:
        """A line for each member."""
        several = any(each.member.network for each in self.members)
        rows = [
            (
                each.member.hash,
                *([each.member.network] if several else []),
                each.member.method,
                each.measurement.predicted_bytes,
                each.measurement.saved_bytes,
                each.measurement.saved_bytes - (each.measurement.predicted_bytes or 0),
                each.measurement.step_seconds,
            )
            for each in self.members
        ]
        names = ("policy", "network", "method") if several else ("policy", "method")
        columns = (*names, "predicted_bytes", "measured_bytes", "difference_bytes", "step_s")
        title = f"{self.path}: saved activations of a training step, batch {self.batch}, on this machine"
        return Listing(title, columns, rows, _SHOW, self.notes)

    def tensors(self) -> Listing:
        """What the only member that was measured keeps, tensor by tensor.

        Raises:
            InputError: Several members were measured.
        """
        require_one(self.members)
        (each,) = self.members
        result = each.measurement
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
        title = f"{each.name}: what a training step keeps, batch {self.batch}, on this machine"
        total = f"in all: predicted {result.predicted_bytes:,} B, measured {result.saved_bytes:,} B, "
        notes = (f"{total}{format_seconds(result.step_seconds)} a step", *self.notes)
        return Listing(title, columns, rows, _SHOW, notes)


def verify(
    run: RunDirectory | str | Path,
    policy: str = "all",
    batch: int | None = None,
    data_dir: str | Path | None = None,
    weights: str | None = None,
) -> Verification:
    """Measure members of a run's front on images of its training split, computing with one thread as the run did.

    Args:
        run: The run, or its directory.
        policy: `all`, `best`, the start of a hash, or a method's name.
        batch: Samples of a step; None takes the run's.
        data_dir: Where data sets lie.
        weights: The weights, if they were a file that has moved; of several networks see `run`.

    Raises:
        InputError: The run has no such member, or too few images.
        MissingDataError: Data or weights are missing.
        ConflictError: The weights are not those of the run.

    Example:
        >>> import tinysearch as ts
        >>> ts.verify("runs/digits").wrong  # every policy keeps what was predicted
        ()
    """
    run = run if isinstance(run, RunDirectory) else RunDirectory.load(run)
    members = chosen_members(run, policy)
    runs = {own.path: own for own in map(run.of, members)} or {run.path: run}
    files = weights_of(weights, backbones_of(run))
    measured: dict[str, MemberMeasurement] = {}
    for path, own in runs.items():  # one network after another is held
        problem = Problem.of_run(own, data_dir, files[str(own.request.get("backbone"))])
        count, most = problem.batch if batch is None else batch, len(problem.dataset.train)
        if not 1 <= count <= most:
            raise InputError(f"batch {count}: it must be from 1 to the {most} training images", "batch")
        with one_thread():
            for member in members:
                if run.of(member).path == path:
                    measured[member.hash] = MemberMeasurement(member, _measure(run, problem, member, count))
    return Verification(run.path, count, tuple(measured[member.hash] for member in members), _notes(problem))


def chosen_members(run: RunDirectory, policy: str) -> tuple[Member, ...]:
    """The members of a run's front that a name stands for, `all` included.

    Raises:
        InputError: There is no such member.
    """
    return run.front.members if policy == "all" else (run.front.find(policy),)


def require_one(members: Sequence[Any]) -> None:
    """Refuse to list tensors of more than one policy.

    Raises:
        InputError: There are several.
    """
    if len(members) != 1:
        raise InputError(f"tensors are listed of one policy: choose one of the {len(members)} by policy", "policy")


def _measure(run: RunDirectory, problem: Problem, member: Member, batch: int) -> Measurement:
    policy = UpdatePolicy.load(run.policy_path(member))
    train = problem.dataset.train
    images = train.load(range(batch), policy.side)
    labels = torch.from_numpy(train.labels[:batch].copy())  # theirs is read-only
    pixels = to_float(images, normalisation_of(problem.backbone))
    return measure(apply(problem.backbone, policy), pixels, labels, optimizer=policy.training.stepper.name)


def _notes(problem: Problem) -> tuple[str, ...]:
    text = "Predicted and measured in fp32, by PyTorch on this machine"
    dtype = problem.device.memory.dtypes.activation
    if dtype != 4:
        text += f"; the front's own figures are for {problem.device.name}, where an activation takes {dtype} B"
    return (f"{text}.",)


def _bytes(value: int) -> str:
    return f"{value:,} B"


_SHOW = {
    "policy": lambda value: str(value)[:8],
    "predicted_bytes": _bytes,
    "measured_bytes": _bytes,
    "difference_bytes": _bytes,
    "step_s": format_seconds,
}
