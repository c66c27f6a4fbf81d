"""The picture of a memory plan: which tensor lies where, and when."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import InputError
from ...core.files import write_atomically
from ...core.units import format_bytes
from ...devices.step.plan import Plan
from ...devices.step.program import Part, Program
from ...devices.step.walk import Phase
from ...spaces.trace import INPUT
from .axes import literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _GREY, _FAINT, _LIMIT = "#1f2933", "#616e7c", "#cbd2d9", "#c0392b"
#: What stays is dark, what waits for the backward pass is warm, what comes and goes is light.
_COLOURS = {
    Part.WEIGHTS: "#334e68",
    Part.STATE: "#627d98",
    Part.SAVED: "#e8923c",
    Part.IMAGES: "#b8a9d9",
    Part.ACTIVATIONS: "#9fd3c7",
    Part.GRADIENTS: "#5b9bd5",
    Part.WEIGHT_GRADIENTS: "#c65d7b",
    Part.SCRATCH: "#8d8d8d",
}
_DARK = (Part.WEIGHTS, Part.STATE, Part.WEIGHT_GRADIENTS)
#: Share of the height below which a tensor gets no outline, which would hide it.
_THIN = 0.008
#: Share of the picture, in each direction, from which a tensor is labelled.
_LABEL_WIDTH, _LABEL_HEIGHT = 0.07, 0.035


def plot_plan(plan: Plan, path: str | Path, title: str = "") -> Path:
    """Draw a plan: time from left to right, addresses upwards, coloured by what the memory is used for.

    Args:
        plan: The plan.
        path: The PNG to write.
        title: What it is a plan of.

    Returns:
        The path.

    Raises:
        InputError: The name of the file does not end in .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path}: pictures are PNG files: choose a name that ends in .png")
    buffer = io.BytesIO()
    draw_plan(plan, title).savefig(buffer, format="png", metadata={"Software": None})
    return write_atomically(Path(path), buffer.getvalue())


def save_plan(plan: Plan, path: str | Path, title: str = "") -> Path:
    """Write a plan as JSON or draw it, by what the name of the file ends in.

    Raises:
        InputError: The name of the file ends neither in .json nor in .png.
    """
    return plan.save(path) if Path(path).suffix.lower() == ".json" else plot_plan(plan, path, title)


@literal
def draw_plan(plan: Plan, title: str = "") -> "Figure":
    """The figure that `plot_plan` writes, for a notebook or another format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    used = [area for area, size in enumerate(plan.sizes) if size]
    figure = Figure(figsize=(13, 7.6), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    tall = sum(plan.sizes[area] for area in used)
    heights = [max(0.18, plan.sizes[area] / tall) for area in reversed(used)]
    grid = figure.add_gridspec(
        len(used) + 1, 1, height_ratios=[*heights, 0.42], left=0.075, right=0.985, top=0.87, bottom=0.13, hspace=0.12
    )
    below = figure.add_subplot(grid[len(used)])
    for place, area in enumerate(reversed(used)):
        axes = figure.add_subplot(grid[place], sharex=below)
        _draw_area(axes, plan, area)
        axes.tick_params(labelbottom=False)
    _draw_sums(below, plan.program)
    _words(figure, plan, title)
    return figure


def _draw_area(axes: "Axes", plan: Plan, area: int) -> None:
    from matplotlib.collections import PolyCollection

    program, limit = plan.program, plan.areas[area].size
    unit, name_of_unit = _unit(program)
    boxes: dict[tuple[Part, bool], list[list[tuple[float, float]]]] = {}
    top = max(plan.sizes[area] / unit * 1.03, 1e-9)
    if not program.setting.eager and limit <= 1.6 * plan.sizes[area]:
        top = max(top, limit / unit * 1.05)
    for number, tensor in enumerate(program.tensors):
        place = plan.place(number)
        if place.area != area:
            continue
        left, right = tensor.first, _end(program, number)
        low, high = place.offset / unit, (place.offset + tensor.bytes) / unit
        part, thin = program.part(number), high - low < _THIN * top
        boxes.setdefault((part, thin), []).append([(left, low), (right, low), (right, high), (left, high)])
        if right - left > _LABEL_WIDTH * len(program.operations) and high - low > _LABEL_HEIGHT * top:
            name = "images" if tensor.row == INPUT else program.setting.trace.rows[tensor.row].name
            colour = "white" if part in _DARK else _INK
            axes.text((left + right) / 2, (low + high) / 2, name, ha="center", va="center", fontsize=7, color=colour)
    for (part, thin), corners in boxes.items():
        edge, width = (_COLOURS[part], 0.25) if thin else ("white", 0.35)
        axes.add_collection(PolyCollection(corners, facecolor=_COLOURS[part], edgecolor=edge, linewidth=width))
    axes.set_xlim(0, len(program.operations))
    axes.set_ylim(0, top)
    _dress(
        axes,
        f"address in {plan.areas[area].name}, {name_of_unit}"
        if not program.setting.eager
        else f"address, {name_of_unit}",
    )
    loss = _mark_time(axes, program)
    for text, side, shift in (("forward", "right", -5), ("backward", "left", 5)):
        axes.annotate(
            text, (loss + 0.5, 1), xycoords=("data", "axes fraction"), xytext=(shift, 2), textcoords="offset points",
            ha=side, va="bottom", fontsize=8, color=_GREY,
        )  # fmt: skip
    if not program.setting.eager and limit / unit <= top:
        axes.axhline(limit / unit, color=_LIMIT, linewidth=1.2)
        label = f"{plan.areas[area].name} ends at {format_bytes(limit)}"
        axes.annotate(
            label, (1, limit / unit), xycoords=("axes fraction", "data"), xytext=(-4, 4), textcoords="offset points",
            ha="right", va="bottom", fontsize=8, color=_LIMIT,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        )  # fmt: skip


def _end(program: Program, number: int) -> int:
    """The first operation in which the tensor is gone, or its memory another's."""
    tensor = program.tensors[number]
    heirs = [t.first for t in program.tensors if t.buffer == tensor.buffer and t.first > tensor.first]
    return min([tensor.last + 1, *heirs])


def _draw_sums(axes: "Axes", program: Program) -> None:
    count, (unit, name_of_unit) = len(program.operations), _unit(program)
    sums: Mapping[Part, np.ndarray] = {part: np.zeros(count) for part in _COLOURS}
    for number, tensor in enumerate(program.tensors):
        sums[program.part(number)][tensor.first : _end(program, number)] += tensor.bytes / unit
    shown = {part: values for part, values in sums.items() if values.any()}
    edges = np.repeat(np.arange(count + 1), 2)[1:-1]
    axes.stackplot(
        edges,
        [np.repeat(values, 2) for values in shown.values()],
        colors=[_COLOURS[part] for part in shown],
        labels=[part.value for part in shown],
        linewidth=0,
    )
    peak = program.peak_bytes / unit
    axes.plot([program.peak_number + 0.5], [peak], marker="v", color=_INK, markersize=5, clip_on=False)
    axes.set_xlim(0, count)
    axes.set_ylim(0, peak * 1.12)
    _dress(axes, f"live, {name_of_unit}")
    _mark_time(axes, program)
    axes.set_xlabel("step of the program", color=_GREY, fontsize=9)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.34), ncol=len(shown), frameon=False, fontsize=8.5, handlelength=1.1
    )


def _unit(program: Program) -> tuple[int, str]:
    return (2**20, "MiB") if program.peak_bytes > 4 * 2**20 else (2**10, "KiB")


def _dress(axes: "Axes", label: str) -> None:
    axes.set_ylabel(label, color=_GREY, fontsize=9)
    axes.tick_params(labelsize=8.5, colors=_GREY, length=2)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_FAINT)


def _mark_time(axes: "Axes", program: Program) -> int:
    """The loss, between the passes, and the peak; gives the loss's number."""
    loss = next(number for number, operation in enumerate(program.operations) if operation.phase == Phase.LOSS)
    axes.axvline(loss + 0.5, color=_GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.axvline(program.peak_number + 0.5, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
    return loss


def _words(figure: "Figure", plan: Plan, title: str) -> None:
    program = plan.program
    peak = program.peak_operation
    where = f"{peak.phase.value.replace('_', ' ')} of {program.setting.trace.rows[peak.row].name}"
    figure.text(0.075, 0.955, title or "Memory plan", fontsize=13, color=_INK, weight="bold", va="center")
    bound = f"largest sum of live bytes {format_bytes(plan.lower_bound)}, at the {where} (dashed)"
    if program.setting.eager:
        kind = f"an eager runtime plans nothing: packed as tightly as can be, {format_bytes(plan.size)}"
    else:
        kind = f"arena {format_bytes(plan.size)}, {100 * plan.gap:.2g} % above the lower bound"
    figure.text(0.075, 0.915, f"{kind}; {bound}", fontsize=9.5, color=_GREY, va="center")
