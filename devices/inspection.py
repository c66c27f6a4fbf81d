"""What one policy costs layer by layer, and what several cost side by side: as listings to print."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.listing import Listing
from ..core.metrics import format_macs
from ..core.units import format_bytes, format_joules, format_seconds
from ..spaces.policy import UpdatePolicy
from ..spaces.table import UpdateTable
from ..spaces.trace import Trace
from .accountings import ACCOUNTINGS, DEFAULT, Account, Accounting
from .breakdown import PolicyCost, estimate
from .costs import batch_of, cost_table
from .latency.caveats import show_energy, show_time
from .latency.energy import extra_joules
from .profile import DeviceProfile


def inspect(
    trace: Trace,
    policy: UpdatePolicy,
    device: DeviceProfile,
    *,
    batch: int | None = None,
    optimizer: str | None = None,
    accounting: str = DEFAULT,
) -> Listing:
    """What a policy trains, computes and keeps, layer by layer, and below it where the peak is and what fits.

    Args:
        trace: The backbone.
        policy: What trains.
        device: The device and runtime.
        batch: Samples of one step; see `estimate`.
        optimizer: The optimizer's name; see `estimate`.
        accounting: Whose rules to count by: the name of one of `ACCOUNTINGS`.

    Raises:
        InputError: The policy is for another backbone, or batch, optimizer or accounting are wrong.

    Example:
        >>> import tinysearch as ts
        >>> backbone = ts.load_backbone("mobilenetv2-w0.35", input_size=32)
        >>> trace = ts.trace(backbone, (3, 32, 32))
        >>> listing = ts.inspect(trace, ts.methods.last(trace), ts.load_device("rpi4"))
        >>> listing.notes[0]
        'last: trains the classifier'
    """
    cost = estimate(trace, policy, device, batch=batch, optimizer=optimizer, accounting=accounting)
    return list_layers(trace, policy, cost)


def list_layers(trace: Trace, policy: UpdatePolicy, cost: PolicyCost) -> Listing:
    """As `inspect`, of costs that are there."""
    setting, rules = cost.program.setting, ACCOUNTINGS.load(cost.accounting)
    columns = ("layer", "kind", "trains", "macs_forward", "macs_dx", "macs_dw", "saved_bytes", "seconds", "peak")
    rows = [
        (x.name, x.kind, x.trains, x.macs_forward, x.macs_dx, x.macs_dw, x.saved_bytes, x.seconds, x.peak)
        for x in cost.by_layer()
    ]
    above_idle = float(extra_joules(np.array(cost.latency_s), setting.profile))
    notes = (
        policy.describe(),
        f"{_memory_line(cost, rules)}, flash {format_bytes(cost.flash_bytes)}, {cost.macs / 1e6:.4g} MMAC, "
        f"{show_time(cost.latency_s, cost.warnings, cost.latency_error)}, "
        f"{show_energy(cost.energy_j, cost.warnings)} a step, {format_joules(above_idle)} of it above idle",
        *(_rules_lines(rules) if rules.count is not None else _plan_lines(cost)),
        *(f"note: {warning}" for warning in cost.warnings),
    )
    title = _title(trace, setting.profile, setting.batch, cost.accounting)
    return Listing(title, columns, rows, _SHOW, notes)


def compare(
    trace: Trace,
    policies: Sequence[UpdatePolicy],
    names: Mapping[str, Sequence[Any]],
    device: DeviceProfile,
    *,
    batch: int | None = None,
    accounting: str = DEFAULT,
    title: str = "",
) -> Listing:
    """Policies side by side: with their costs on a device, or with the columns that a paper prints.

    Args:
        trace: The backbone.
        policies: N policies.
        names: Columns that stand before the costs, by name, with a value for each policy.
        device: The device and runtime.
        batch: Samples of one step; None takes the device's.
        accounting: Whose rules to count by: the name of one of `ACCOUNTINGS`.
        title: Headline; without it one that names backbone, device and batch.

    Raises:
        InputError: A policy is for another backbone, or batch or accounting are wrong.
    """
    rules, samples = ACCOUNTINGS.load(accounting), batch_of(device, batch)
    table = rules.see(UpdateTable.of(trace, policies))
    if rules.count is not None:
        title = title or f"{trace.name} at {trace.input_shape[1]} px, batch {samples}, accounting {accounting}"
        return _counted(title, names, rules.count(table, samples), rules)
    costs = cost_table(table, device, batch=samples, accounting=accounting)
    columns = {
        **names,
        "trained_parameters": table.trained_params.sum(1).tolist(),
        **{name: getattr(costs, name).tolist() for name in ("peak_bytes", "saved_bytes", "macs")},
        **{name: getattr(costs, name).tolist() for name in ("latency_s", "energy_j")},
    }
    show = _SHOW | {
        "latency_s": lambda seconds: show_time(seconds, costs.warnings, costs.latency_error),
        "energy_j": lambda joules: show_energy(joules, costs.warnings),
    }
    notes = tuple(f"note: {warning}" for warning in costs.warnings)
    rows = list(zip(*columns.values(), strict=True))
    return Listing(title or _title(trace, device, samples, accounting), tuple(columns), rows, show, notes)


def _title(trace: Trace, device: DeviceProfile, batch: int, accounting: str) -> str:
    title = f"{trace.name} at {trace.input_shape[1]} px on {device.name}, batch {batch}"
    return title if accounting == DEFAULT else f"{title}, accounting {accounting}"


def _counted(title: str, names: Mapping[str, Sequence[Any]], account: Account, rules: Accounting) -> Listing:
    counted = {**account.parts, "memory_bytes": account.total}
    columns = {**names, **{name: values.tolist() for name, values in counted.items()}}
    rows = list(zip(*columns.values(), strict=True))
    return Listing(title, tuple(columns), rows, _in_its_units(counted, rules), _rules_lines(rules))


def _memory_line(cost: PolicyCost, rules: Accounting) -> str:
    if rules.count is None:
        return f"saved {format_bytes(cost.saved_bytes)}, peak {format_bytes(cost.peak_bytes)} at the {cost.peak_at}"
    show = _in_its_units(cost.parts, rules)
    parts = (f"{name.removesuffix('_bytes').replace('_', ' ')} {show[name](x)}" for name, x in cost.parts.items())
    return f"memory {rules.format(cost.peak_bytes)} ({', '.join(parts)})"


def _rules_lines(rules: Accounting) -> tuple[str, ...]:
    """Where a paper's rules come from and what to beware of."""
    return (f"{rules.source}: {rules.summary}.", *([f"Beware: {rules.caveat}."] if rules.caveat else ()))


def _plan_lines(cost: PolicyCost) -> list[str]:
    """What the peak is made of, and of an arena device whether RAM and flash hold it."""
    plan, profile = cost.plan, cost.program.setting.profile
    parts = ", ".join(f"{part} {format_bytes(size)}" for part, size in cost.peak_parts.items())
    lines = [f"peak: {parts}; besides, the runtime's baseline of {format_bytes(profile.memory.baseline.value)}"]
    if cost.program.setting.eager:
        return lines
    used = ", ".join(
        f"{format_bytes(used)} of the {format_bytes(area.size)} of {area.name}"
        for used, area in zip(plan.sizes, plan.areas, strict=True)
    )
    flash = profile.flash.capacity.value
    stored = "fits" if cost.flash_bytes <= flash else "does NOT fit"
    lines.append(
        f"arena: {used}, {100 * plan.gap:.2g} % above the peak: {'fits' if plan.fits else 'does NOT fit'}; "
        f"flash: {format_bytes(cost.flash_bytes)} of {format_bytes(flash)}: {stored}"
    )
    return lines


def _macs(value: float) -> str:
    """Work in millions, nothing for none."""
    return format_macs(value) if value else ""


def _in_its_units(names: Iterable[str], rules: Accounting) -> dict[str, Callable[[float], str]]:
    """How a paper's values are written: bytes in its unit, work in millions, counts in full."""

    def show(name: str) -> Callable[[float], str]:
        if name.endswith("_bytes"):
            return rules.format
        return _macs if name.endswith(("_macs", "_flops")) else lambda value: f"{value:,}"

    return {name: show(name) for name in names}


_SHOW: dict[str, Callable[[Any], str]] = {
    "saved_bytes": lambda value: format_bytes(value) if value else "",
    "macs": _macs,
    "macs_forward": _macs,
    "macs_dx": _macs,
    "macs_dw": _macs,
    "seconds": lambda value: format_seconds(value) if value else "",
}
