"""All costs of N update policies on a device, and of one policy layer by layer: the same code."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..spaces.errors import InputError
from ..spaces.policy import UpdatePolicy
from ..spaces.space import UpdateSpace
from ..spaces.table import UpdateTable
from ..spaces.trace import Trace
from . import accountings
from .accountings import eager
from .caveats import caveats, latency_error
from .compiler import compile_step
from .energy import step_joules
from .latency import StepTimes, step_seconds
from .memory import OPTIMIZER_STATE, find_peak, flash_bytes, weighted_sum
from .plan import arena_bytes, make_plan
from .program import Phase
from .records import DeviceProfile
from .saved import Kept, find_kept
from .schedule import Schedule

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Policies worked on at a time: enough that the loops over rows cost little, few enough for the caches.
CHUNK = 8192


@dataclass(frozen=True)
class Costs:
    """What a training step of each of N policies costs; arrays are (N,).

    Attributes:
        saved_bytes: Kept from the forward to the backward pass, in the profile's types.
        peak_bytes: Peak training memory, the runtime's baseline apart: the largest sum of what is live at a moment.
            An arena can need a little more, which `PolicyCost.arena_bytes` and `planned_costs` tell.
        flash_bytes: Stored.
        macs: Multiply-accumulates of a step: forward pass, input and weight gradients, times the batch.
        latency_s: Seconds a step.
        energy_j: Joules a step, idle power included.
        latency_error: The mean error to expect of the latencies, as a share; None where it is unknown.
        warnings: Why the numbers may be off, in words.

    By a paper's accounting, saved_bytes is what that paper stores for the backward pass of the whole batch, peak_bytes
    the memory that it prints, and macs what it counts, if it counts work. All else is as ever. By `eager` all
    numbers are those of PyTorch's plain layers, and of weights that train whole or not at all.
    """

    saved_bytes: Ints
    peak_bytes: Ints
    flash_bytes: Ints
    macs: Ints
    latency_s: Floats
    energy_j: Floats
    latency_error: float | None = None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.peak_bytes)


#: Those fields of `Costs` that have a value for each policy.
ARRAYS = tuple(f.name for f in fields(Costs) if f.name not in ("latency_error", "warnings"))


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What a policy does in one row of the trace, a step.

    Attributes:
        name: Qualified name.
        kind: conv, linear, norm, act or other.
        trains: What trains, in words; empty where nothing does.
        macs_forward: Multiply-accumulates of the forward pass.
        macs_dx: Of the input gradient; 0 where none is needed.
        macs_dw: Of the gradient of the weights that train.
        saved_bytes: Kept: this row's output, and what it keeps besides.
        seconds: All passes and the update.
        peak: Whether the peak is at this row: "forward", "backward" or "".
    """

    name: str
    kind: str
    trains: str
    macs_forward: int
    macs_dx: int
    macs_dw: int
    saved_bytes: int
    seconds: float
    peak: str


@dataclass(frozen=True)
class PolicyCost:
    """What a training step of one policy costs; see `Costs` for the numbers.

    Attributes:
        layers: The rows that the policy has, in data-flow order.
        arena_bytes: Of an arena device, the size of the planned arena, which no two tensors share at a time: at least
            `peak_bytes`, and nearly always equal. None on an eager device.
        peak_parts: What the peak is made of, in bytes: weights, optimizer state, saved activations, ...
        accounting: Whose rules saved_bytes, peak_bytes and macs follow.
        parts: What a paper's accounting counts besides, by name: `devices.accountings.Account.parts`.
    """

    saved_bytes: int
    peak_bytes: int
    flash_bytes: int
    macs: int
    latency_s: float
    energy_j: float
    latency_error: float | None
    warnings: tuple[str, ...]
    layers: tuple[LayerCost, ...]
    arena_bytes: int | None
    peak_parts: Mapping[str, int]
    accounting: str = accountings.DEFAULT
    parts: Mapping[str, int] = field(default_factory=dict)

    def by_layer(self) -> tuple[LayerCost, ...]:
        """The breakdown by layer: its saved bytes and seconds add up to the policy's.

        So do its MACs, except by an accounting that counts them otherwise.
        """
        return self.layers

    @property
    def peak_at(self) -> str:
        """Where the peak is, as "backward of features.3.conv.0.0"; empty by an accounting that does not say."""
        return next((f"{layer.peak} of {layer.name}" for layer in self.layers if layer.peak), "")


def cost_table(
    table: UpdateTable,
    profile: DeviceProfile,
    *,
    batch: int | None = None,
    optimizer: str | None = None,
    accounting: str = accountings.DEFAULT,
) -> Costs:
    """The costs of N policies.

    Args:
        table: N policies of a trace.
        profile: The device and runtime.
        batch: Samples of one step; the profile's without it.
        optimizer: adam, sgd or sgd-momentum; the profile's without it.
        accounting: Whose rules to count by: one of `accountings.NAMES`.

    Raises:
        InputError: The batch is not positive, or the optimizer or accounting is unknown.
    """
    tables = (table[start : start + CHUNK] for start in range(0, max(1, len(table)), CHUNK))
    return _cost_chunks(tables, table.trace, profile, batch, optimizer, accounting)


def planned_costs(
    table: UpdateTable, profile: DeviceProfile, *, batch: int | None = None, optimizer: str | None = None
) -> Costs:
    """As `cost_table`, but on an arena device the peaks are the sizes of planned arenas: for a few policies.

    What a search trains is held to its limits by this, so that nothing is returned whose tensors cannot be arranged.
    """
    costs = cost_table(table, profile, batch=batch, optimizer=optimizer)
    if profile.memory.kind != "arena":
        return costs
    sizes = arena_bytes(table, profile, _batch(profile, batch), optimizer or profile.optimizer)
    return replace(costs, peak_bytes=sizes)


def cost_rows(
    space: UpdateSpace,
    rows: npt.ArrayLike,
    profile: DeviceProfile,
    *,
    batch: int | None = None,
    optimizer: str | None = None,
    accounting: str = accountings.DEFAULT,
) -> Costs:
    """The costs of N encoded policies: as `cost_table(space.table(rows), ...)`, and several times as fast.

    Policies that reach equally deep agree on most layers, so they are costed together.

    Args:
        space: The space that the rows are encoded in.
        rows: (N, D) integers.
        profile: The device and runtime.
        batch: Samples of one step; the profile's without it.
        optimizer: adam, sgd or sgd-momentum; the profile's without it.
        accounting: Whose rules to count by: one of `accountings.NAMES`.

    Raises:
        InputError: The rows are no rows of this space, the batch is not positive, or the optimizer or accounting is
            unknown.
    """
    genes = space.check(rows)
    training = np.array([gene.kind in ("weight", "norm", "lite") for gene in space.genes], np.bool_)
    first = np.logical_and(genes, training).argmax(1) if len(space) else np.zeros(len(genes), np.int64)
    order = np.argsort(first, kind="stable")
    starts = range(0, max(1, len(genes)), CHUNK)
    tables = (space.table_of_checked(genes[order[start : start + CHUNK]]) for start in starts)
    costs = _cost_chunks(tables, space.trace, profile, batch, optimizer, accounting)
    place = np.argsort(order)
    return replace(costs, **{name: getattr(costs, name)[place] for name in ARRAYS})


def _cost_chunks(
    tables: Iterable[UpdateTable],
    trace: Trace,
    profile: DeviceProfile,
    batch: int | None,
    optimizer: str | None,
    accounting: str,
) -> Costs:
    schedule = Schedule(trace, profile, _batch(profile, batch))
    optimizer = optimizer or profile.optimizer
    if optimizer not in OPTIMIZER_STATE:
        raise InputError(f"{optimizer!r} is no optimizer: use {', '.join(OPTIMIZER_STATE)}")
    times = StepTimes.of(trace, profile, schedule.batch, optimizer)
    parts = [_chunk(table, schedule, times, optimizer, accounting) for table in tables]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    warnings = caveats(trace, profile, schedule.batch)
    return Costs(**arrays, latency_error=latency_error(profile, warnings), warnings=warnings)


def estimate(
    trace: Trace,
    policy: UpdatePolicy,
    device: DeviceProfile,
    *,
    batch: int | None = None,
    optimizer: str | None = None,
    accounting: str = accountings.DEFAULT,
) -> PolicyCost:
    """The costs of one policy, layer by layer.

    Args:
        trace: The backbone.
        policy: What trains.
        device: The device and runtime.
        batch: Samples of one step; the profile's without it.
        optimizer: adam, sgd or sgd-momentum; the profile's without it.
        accounting: Whose rules to count by: one of `accountings.NAMES` (see `Costs`).

    Raises:
        InputError: The policy is for another backbone, or batch, optimizer or accounting are wrong.
    """
    table = UpdateTable.of(trace, [policy])
    return _estimate(table, device, _batch(device, batch), optimizer or device.optimizer, accounting)


def smallest(
    trace: Trace, device: DeviceProfile, *, batch: int | None = None, optimizer: str | None = None
) -> PolicyCost:
    """The costs of the policy that trains the head alone: what must fit before anything can."""
    return _estimate(UpdateTable.frozen(trace, 1), device, _batch(device, batch), optimizer or device.optimizer)


def _batch(profile: DeviceProfile, batch: int | None) -> int:
    if batch is None:
        return profile.batch
    if batch < 1:
        raise InputError(f"a batch of {batch} holds no sample: use 1 or more")
    return batch


def _kept(table: UpdateTable, batch: int, element: int, accounting: str) -> Kept:
    return (eager.find_kept if accounting == accountings.EAGER else find_kept)(table, batch, element)


def _chunk(table: UpdateTable, schedule: Schedule, times: StepTimes, optimizer: str, accounting: str) -> Costs:
    rules = accountings.published(accounting)
    table = eager.plain_table(table) if accounting == accountings.EAGER else table
    profile, batch, element = schedule.profile, schedule.batch, schedule.profile.memory.dtypes.activation
    kept = _kept(table, batch, element, accounting)
    seconds = times.seconds(table).total
    costs = Costs(
        saved_bytes=np.zeros(len(table), np.int64) + kept.total(table.trace, batch * element),
        peak_bytes=find_peak(table, kept, schedule, optimizer),
        flash_bytes=flash_bytes(table, profile),
        macs=np.sum(
            [weighted_sum(counts[:, macs > 0], macs[macs > 0]) for counts, macs in _macs(table, batch)], axis=0
        ),
        latency_s=seconds,
        energy_j=step_joules(seconds, profile),
    )
    if rules is None:
        return costs
    account = rules.count(table, batch)
    macs = costs.macs if account.macs is None else account.macs
    return replace(costs, saved_bytes=account.stored.sum(1), peak_bytes=account.total, macs=macs)


def _macs(table: UpdateTable, batch: int) -> tuple[tuple[npt.NDArray[Any], Ints], ...]:
    """Forward pass, input gradients and weight gradients: how often each row does it, (N, R), and its MACs, (R,)."""
    rows = table.trace.rows
    forward = batch * np.array([layer.macs_forward for layer in rows])
    per_weight = forward // np.array([max(1, layer.weights) for layer in rows])
    return (table.present, forward), (table.live_inputs, forward), (table.trained_weights, per_weight)


def _estimate(
    table: UpdateTable, profile: DeviceProfile, batch: int, optimizer: str, accounting: str = accountings.DEFAULT
) -> PolicyCost:
    costs = cost_table(table, profile, batch=batch, optimizer=optimizer, accounting=accounting)
    table = eager.plain_table(table) if accounting == accountings.EAGER else table
    element = profile.memory.dtypes.activation
    kept = _kept(table, batch, element, accounting)
    saved = kept.row_bytes(table.trace, batch * element)[0]
    program = compile_step(table, profile, batch, optimizer, kept)
    peak = program.steps[program.peak_step]
    seconds = step_seconds(table, profile, batch, optimizer).rows()[0]
    forward, dx, dw = (counts[0] * macs for counts, macs in _macs(table, batch))
    phase = "forward" if peak.phase == Phase.FORWARD else "backward"
    layers = tuple(
        LayerCost(
            name=table.trace.rows[row].name,
            kind=table.trace.rows[row].kind,
            trains=_trains(table, row),
            macs_forward=int(forward[row]),
            macs_dx=int(dx[row]),
            macs_dw=int(dw[row]),
            saved_bytes=int(saved[row]),
            seconds=float(seconds[row]),
            peak=phase if peak.row == row else "",
        )
        for row in table.trace.order
        if table.present[0, row]
    )
    scalars = {name: getattr(costs, name)[0].item() for name in ARRAYS}
    cost = PolicyCost(
        **scalars,
        latency_error=costs.latency_error,
        warnings=costs.warnings,
        layers=layers,
        arena_bytes=make_plan(program).size if profile.memory.kind == "arena" else None,
        peak_parts={part.value: size for part, size in program.parts().items()},
        accounting=accounting,
    )
    rules = accountings.published(accounting)
    return cost if rules is None else _with_account(cost, rules.count(table, batch))


def _with_account(cost: PolicyCost, account: accountings.Account) -> PolicyCost:
    """The costs of a policy with the parts and the stored bytes of a paper's accounting."""
    own = {layer.name: layer for layer in cost.layers}
    rows = account.table.trace.rows
    layers = []
    for row in account.table.trace.order:
        if not account.table.present[0, row]:
            continue
        name, kind = rows[row].name, rows[row].kind
        layer = own.get(name, LayerCost(name, kind, "", 0, 0, 0, 0, 0.0, ""))
        peak = "forward" if account.peak_row is not None and account.peak_row[0] == row else ""
        trains, stored = _trains(account.table, row), int(account.stored[0, row])
        layers.append(replace(layer, trains=trains, saved_bytes=stored, peak=peak))
    parts = {name: int(values[0]) for name, values in account.parts.items()}
    return replace(cost, layers=tuple(layers), parts=parts)


def _trains(table: UpdateTable, row: int) -> str:
    layer = table.trace.rows[row]
    words = []
    inputs, outputs = int(table.inputs[0, row]), int(table.outputs[0, row])
    if table.trained_weights[0, row] and layer.kind != "norm":
        if inputs < layer.in_channels:
            words.append(f"{inputs}/{layer.in_channels} input channels")
        elif outputs < layer.out_channels:
            words.append(f"{outputs}/{layer.out_channels} output channels")
        else:
            words.append("weight")
    if table.scale[0, row]:
        words.append("scale")
    if table.bias[0, row]:
        words.append("shift" if layer.kind == "norm" else "bias")
    if table.statistics[0, row]:
        words.append("statistics")
    if table.sign[0, row]:
        words.append("(sign mask)")
    return ", ".join(words)
