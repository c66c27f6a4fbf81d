"""All costs of N update policies on a device, and of one policy layer by layer: the same code."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import InputError
from ..spaces.space import UpdateSpace
from ..spaces.table import UpdateTable
from ..spaces.trace import Trace
from .accountings import ACCOUNTINGS, DEFAULT
from .flash import flash_bytes
from .latency.caveats import caveats, latency_error
from .latency.energy import step_joules
from .latency.seconds import StepTimes
from .profile import DeviceProfile
from .step.columns import present_sum, weighted_sum
from .step.peak import find_peak
from .step.plan import arena_bytes
from .step.setting import StepSetting

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
            By a paper's accounting, the memory that the paper prints.
        flash_bytes: Stored.
        macs: Multiply-accumulates of a step: forward pass, input and weight gradients, times the batch.
        latency_s: Seconds a step.
        energy_j: Joules a step, idle power included.
        latency_error: The mean error to expect of the latencies, as a share; None where it is unknown.
        warnings: Why the numbers may be off, in words.
        arena_bytes: On an arena device, the sizes of planned arenas, in which no two tensors overlap: at least the
            peaks, and nearly always equal. None where no arena was planned.

    By a paper's accounting, saved_bytes is what that paper stores for the backward pass of the whole batch, peak_bytes
    the memory that it prints, and macs what it counts, if it counts work. All else is as ever. By `eager` all
    numbers are those of PyTorch's plain layers, and of weights that train whole or not at all.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> space = ts.UpdateSpace(trace)
        >>> costs = ts.estimate_many(space, space.sample(3), ts.load_device("rpi4"))
        >>> len(costs), costs.peak_bytes.shape
        (3, (3,))
    """

    saved_bytes: Ints
    peak_bytes: Ints
    flash_bytes: Ints
    macs: Ints
    latency_s: Floats
    energy_j: Floats
    latency_error: float | None = None
    warnings: tuple[str, ...] = ()
    arena_bytes: Ints | None = None

    def __len__(self) -> int:
        return len(self.peak_bytes)

    @property
    def memory_bytes(self) -> Ints:
        """What must fit the RAM, (N,): the planned arena where there is one, else the peak."""
        return self.peak_bytes if self.arena_bytes is None else self.arena_bytes


#: Those fields of `Costs` that have a value for each policy.
ARRAYS = tuple(f.name for f in fields(Costs) if f.name not in ("latency_error", "warnings", "arena_bytes"))


def cost_table(
    table: UpdateTable,
    profile: DeviceProfile,
    *,
    batch: int | None = None,
    optimizer: str | None = None,
    accounting: str = DEFAULT,
) -> Costs:
    """The costs of N policies.

    Args:
        table: N policies of a trace.
        profile: The device and runtime.
        batch: Samples of one step; the profile's without it.
        optimizer: adam, sgd or sgd-momentum; the profile's without it.
        accounting: Whose rules to count by: the name of one of `ACCOUNTINGS`.

    Raises:
        InputError: The batch is not positive, or the optimizer or accounting is unknown.
    """
    tables = (table[start : start + CHUNK] for start in range(0, max(1, len(table)), CHUNK))
    return _cost_chunks(tables, table.trace, profile, batch, optimizer, accounting)


def planned_costs(
    table: UpdateTable, profile: DeviceProfile, *, batch: int | None = None, optimizer: str | None = None
) -> Costs:
    """As `cost_table`, and on an arena device with the arenas planned: for a few policies.

    What a search trains is held to its limits by this, so that nothing is returned whose tensors cannot be arranged.
    """
    costs = cost_table(table, profile, batch=batch, optimizer=optimizer)
    if profile.memory.kind != "arena":
        return costs
    sizes = arena_bytes(table, profile, batch_of(profile, batch), optimizer or profile.optimizer)
    return replace(costs, arena_bytes=sizes)


def cost_rows(
    space: UpdateSpace,
    rows: npt.ArrayLike,
    profile: DeviceProfile,
    *,
    batch: int | None = None,
    optimizer: str | None = None,
    accounting: str = DEFAULT,
) -> Costs:
    """The costs of N encoded policies: as `cost_table(space.table(rows), ...)`, and several times as fast.

    Policies that reach equally deep agree on most layers, so they are costed together.

    Args:
        space: The space that the rows are encoded in.
        rows: (N, D) integers.
        profile: The device and runtime.
        batch: Samples of one step; the profile's without it.
        optimizer: adam, sgd or sgd-momentum; the profile's without it.
        accounting: Whose rules to count by: the name of one of `ACCOUNTINGS`.

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
    optimizer = optimizer or profile.optimizer
    setting, times, warnings = _shared(_Same(trace), _Same(profile), batch_of(profile, batch), optimizer)
    parts = [_chunk(table, setting, times, accounting) for table in tables]
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    return Costs(**arrays, latency_error=latency_error(profile, warnings), warnings=warnings)


class _Same:
    """A thing as a key: equal to itself alone, so that a large one is not compared field by field."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing


@lru_cache(maxsize=8)
def _shared(trace: _Same, profile: _Same, batch: int, optimizer: str) -> tuple[StepSetting, StepTimes, tuple[str, ...]]:
    """What the steps of all policies share: who costs them one at a time asks for it each time."""
    network, device = trace.thing, profile.thing
    times = StepTimes.of(network, device, batch, optimizer)
    return StepSetting(network, device, batch, optimizer), times, caveats(network, device, batch)


def batch_of(profile: DeviceProfile, batch: int | None) -> int:
    """Samples of a step: those that are asked for, or the profile's."""
    if batch is None:
        return profile.batch
    if batch < 1:
        raise InputError(f"a batch of {batch} holds no sample: use 1 or more")
    return batch


def _chunk(table: UpdateTable, setting: StepSetting, times: StepTimes, accounting: str) -> Costs:
    rules = ACCOUNTINGS.load(accounting)
    table = rules.see(table)
    profile, batch, element = setting.profile, setting.batch, setting.profile.memory.dtypes.activation
    kept = rules.keep(table, setting.samples, element)
    seconds = times.seconds(table).total
    costs = Costs(
        saved_bytes=kept.total(table.trace, setting.samples, element),
        peak_bytes=find_peak(table, kept, setting),
        flash_bytes=flash_bytes(table, profile),
        macs=_macs(table, batch),
        latency_s=seconds,
        energy_j=step_joules(seconds, profile),
    )
    if rules.count is None:
        return costs
    account = rules.count(table, batch)
    macs = costs.macs if account.macs is None else account.macs
    return replace(costs, saved_bytes=account.stored.sum(1), peak_bytes=account.total, macs=macs)


def _macs(table: UpdateTable, batch: int) -> Ints:
    """Multiply-accumulates of a step, (N,)."""
    (_, forward), *backward = step_macs(table, batch)
    passes = (weighted_sum(counts[:, macs > 0], macs[macs > 0]) for counts, macs in backward)
    return sum(passes, present_sum(table, forward))


def step_macs(table: UpdateTable, batch: int) -> tuple[tuple[npt.NDArray[Any], Ints], ...]:
    """Forward pass, input gradients and weight gradients: how often each row does it, (N, R), and its MACs, (R,)."""
    rows = table.trace.rows
    forward = batch * np.array([layer.macs_forward for layer in rows])
    dx = batch * np.array([layer.macs_dx for layer in rows])
    per_weight = batch * np.array([layer.macs_dw // max(1, layer.weights) for layer in rows])
    return (table.present, forward), (table.live_inputs, dx), (table.trained_weights, per_weight)
