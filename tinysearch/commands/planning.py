"""What the command line says of a memory plan."""

from pathlib import Path

from ..core.units import format_bytes
from ..devices.breakdown import PolicyCost
from ..devices.step.plan import Plan, find_areas, make_plan
from ..devices.step.program import Program
from ..results.plots.plan import plot_plan


def find_plan(program: Program) -> Plan:
    """A plan in the largest area; over all areas if it fits only there."""
    plan = make_plan(program)
    areas = find_areas(program.setting.profile)
    if plan.fits or len(areas) == 1:
        return plan
    spread = make_plan(program, areas)
    return spread if spread.fits else plan


def plan_lines(plan: Plan, cost: PolicyCost) -> list[str]:
    """What the peak is made of, and of an arena device whether RAM and flash hold it."""
    profile = plan.program.setting.profile
    parts = ", ".join(f"{part} {format_bytes(size)}" for part, size in cost.peak_parts.items())
    lines = [f"peak: {parts}; besides, the runtime's baseline of {format_bytes(profile.memory.baseline.value)}"]
    if plan.program.setting.eager:
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


def write_plan(plan: Plan, path: str, title: str) -> None:
    """Write a plan as JSON, or its picture.

    Raises:
        InputError: The name of the file ends neither in .json nor in .png.
    """
    if Path(path).suffix.lower() == ".json":
        plan.save(path)
    else:
        plot_plan(plan, path, title)
