"""What the command line says of a memory plan."""

from pathlib import Path

from ..core.units import format_bytes
from ..devices.breakdown import PolicyCost
from ..devices.step.plan import Plan
from ..results.plots.plan import plot_plan


def plan_lines(cost: PolicyCost) -> list[str]:
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


def write_plan(plan: Plan, path: str, title: str) -> None:
    """Write a plan as JSON, or its picture.

    Raises:
        InputError: The name of the file ends neither in .json nor in .png.
    """
    if Path(path).suffix.lower() == ".json":
        plan.save(path)
    else:
        plot_plan(plan, path, title)
