"""What the command line lists of methods, and of the layers of a policy."""

from pathlib import Path

import numpy as np

from ..core.listing import Listing
from ..core.units import format_bytes, format_joules, format_seconds
from ..devices.accountings import ACCOUNTINGS, DEFAULT
from ..devices.breakdown import estimate
from ..devices.costs import cost_table
from ..devices.latency.caveats import show_energy, show_time
from ..devices.latency.energy import extra_joules
from ..devices.profile import load_device
from ..search.network import load_network
from ..search.request import Request
from ..spaces import methods as named_methods
from ..spaces.backbones.choice import named_backbone
from ..spaces.policy import UpdatePolicy
from ..spaces.table import UpdateTable
from ..spaces.trace import Trace
from .accounts import macs, memory_line, of_methods, rules_lines
from .planning import plan_lines, write_plan


def methods(
    *,
    backbone: str | None,
    weights: str | None,
    input_size: int | None,
    device: str | None,
    classes: int,
    batch: int | None,
    accounting: str,
) -> Listing:
    """The published methods on a backbone, with their costs on a device or by a paper's accounting."""
    rules = ACCOUNTINGS.load(accounting)
    profile = load_device(device or "rpi4")
    table = _trace(backbone, weights, input_size, classes)
    policies = named_methods.named(table)
    if rules.count is not None:
        return of_methods(table, rules, profile.batch if batch is None else batch)
    updates = rules.see(UpdateTable.of(table, list(policies.values())))
    costs = cost_table(updates, profile, batch=batch, accounting=accounting)
    rows = [
        (
            name,
            int(updates.trained_params[n].sum()),
            int(costs.peak_bytes[n]),
            int(costs.saved_bytes[n]),
            int(costs.macs[n]),
            float(costs.latency_s[n]),
            float(costs.energy_j[n]),
        )
        for n, name in enumerate(policies)
    ]
    columns = ("method", "trained_parameters", "peak_bytes", "saved_bytes", "macs", "latency_s", "energy_j")
    title = f"{table.name} at {table.input_shape[1]} px on {profile.name}, batch {batch or profile.batch}, per step"
    title += "" if accounting == DEFAULT else f", accounting {accounting}"
    notes = (*(f"note: {warning}" for warning in costs.warnings), "tinytrain needs data: it is tried in every run.")
    show = _COSTS | {
        "latency_s": lambda seconds: show_time(seconds, costs.warnings, costs.latency_error),
        "energy_j": lambda joules: show_energy(joules, costs.warnings),
    }
    return Listing(title, columns, rows, show, notes)


def layers(
    *,
    backbone: str | None,
    weights: str | None,
    input_size: int | None,
    device: str | None,
    policy: str,
    classes: int,
    batch: int | None,
    accounting: str,
    plan: str | None = None,
) -> Listing:
    """What a policy trains, computes and keeps, layer by layer; its memory plan goes to the file `plan`."""
    profile = load_device(device or "rpi4")
    stored = UpdatePolicy.load(policy) if Path(policy).suffix == ".json" else None
    if stored is not None:
        backbone = named_backbone(backbone, stored.backbone, policy)
        input_size = input_size or stored.input_shape[1]
    table = _trace(backbone, weights, input_size, classes)
    chosen = stored or named_methods.find(table, policy)
    cost = estimate(table, chosen, profile, batch=batch, accounting=accounting)
    above_idle = float(extra_joules(np.array(cost.latency_s), profile))
    columns = ("layer", "kind", "trains", "macs_forward", "macs_dx", "macs_dw", "saved_bytes", "seconds", "peak")
    rows = [
        (x.name, x.kind, x.trains, x.macs_forward, x.macs_dx, x.macs_dw, x.saved_bytes, x.seconds, x.peak)
        for x in cost.by_layer()
    ]
    rules = ACCOUNTINGS.load(accounting)
    notes = (
        chosen.describe(),
        f"{memory_line(cost, rules)}, flash {format_bytes(cost.flash_bytes)}, {cost.macs / 1e6:.4g} MMAC, "
        f"{show_time(cost.latency_s, cost.warnings, cost.latency_error)}, "
        f"{show_energy(cost.energy_j, cost.warnings)} a step, {format_joules(above_idle)} of it above idle",
        *rules_lines(rules),
        *(plan_lines(cost) if rules.count is None else ()),
        *(f"note: {warning}" for warning in cost.warnings),
    )
    title = f"{table.name} at {table.input_shape[1]} px on {profile.name}, batch {cost.program.setting.batch}"
    if plan is not None:
        write_plan(cost.plan, plan, f"{chosen.method or chosen.hash}: {title}")
    title += "" if accounting == DEFAULT else f", accounting {accounting}"
    return Listing(title, columns, rows, _COSTS, notes)


_COSTS = {
    "peak_bytes": format_bytes,
    "saved_bytes": lambda value: format_bytes(value) if value else "",
    "macs": macs,
    "macs_forward": macs,
    "macs_dx": macs,
    "macs_dw": macs,
    "latency_s": format_seconds,
    "seconds": lambda value: format_seconds(value) if value else "",
    "energy_j": format_joules,
}


def _trace(backbone: str | None, weights: str | None, input_size: int | None, classes: int) -> Trace:
    request = Request.make(backbone=backbone, weights=weights, input_size=input_size)
    _, table = load_network(
        request.backbone, classes=classes, weights=request.weights, input_size=input_size, for_costs=True
    )
    return table
