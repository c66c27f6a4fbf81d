"""The picture of a front: accuracy against peak training memory and against step latency."""

import io
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import InputError
from ...core.files import write_atomically
from ...core.formats import parse_json
from ...core.metrics import METRICS, Metric
from ...devices.latency.caveats import time_mark
from ..front import Front
from ..pareto import nondominated
from ..records import Member, TrialRecord
from .axes import Span, dress, literal, span
from .labels import place_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _GREY, _FAINT, _LINE = "#1f2933", "#616e7c", "#cbd2d9", "#3e4c59"
_MARKERS = ("s", "D", "^", "v", "P", "X", "<", ">", "p", "h", "d", "*")
_SIZE = 62
#: Least extent of the accuracy axis, so that noise does not look like a gain.
_LEAST_HEIGHT = 0.06


@dataclass(frozen=True, slots=True)
class _Point:
    accuracy: float
    error: float
    peak_bytes: float
    latency_s: float
    method: str | None
    on_front: bool
    network: str = ""

    def label(self, before: str) -> str:
        """What is written beside it: its method, and its network where that is another than the one `before` it."""
        told = self.network if self.method is not None or self.network != before else ""
        return ", ".join(filter(None, [_cut(self.method, 22), told]))


def plot_pareto(front: Front, trials: Sequence[TrialRecord], path: str | Path) -> Path:
    """Draw a front and the trials behind it.

    Colour is the step latency in both panels, so that a point of one is found in the other. The line joins
    the policies that are best for one panel's cost alone; members beside it owe their place to the other.
    Named methods have markers of their own, hollow where they are dominated.

    Args:
        front: The front; at least one member.
        trials: All trials of the run.
        path: The PNG to write.

    Returns:
        The path.

    Raises:
        InputError: The front is empty, or the name of the file does not end in .png.
    """
    if not front.members:
        raise InputError("the front is empty, so there is nothing to draw")
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"{path}: pictures are PNG files: choose a name that ends in .png")
    buffer = io.BytesIO()
    draw_pareto(front, trials).savefig(buffer, format="png", metadata={"Software": None})
    return write_atomically(Path(path), buffer.getvalue())


@literal
def draw_pareto(front: Front, trials: Sequence[TrialRecord]) -> "Figure":
    """The figure that `plot_pareto` writes, for a notebook or another format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    points = _points(front, trials)
    figure = Figure(figsize=(13, 6.6), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1, 3, width_ratios=[1.35, 1, 0.026], left=0.066, right=0.93, top=0.83, bottom=0.2, wspace=0.09
    )
    left = figure.add_subplot(grid[0])
    right = figure.add_subplot(grid[1], sharey=left)
    extent = span([point.latency_s for point in points if point.on_front], margin=0.0)
    colours = ScalarMappable((LogNorm if extent.log else Normalize)(extent.low, extent.high), "viridis_r")
    markers = _method_markers(points)

    memory, latency = METRICS["peak_bytes"], METRICS["latency_s"]
    _frame(left, points, memory, "peak training memory")
    mark = time_mark(front.warnings)
    doubt = f" ({mark})" if mark else ""
    _frame(right, points, latency, f"latency of a training step{doubt}")
    left.set_ylabel("top-1 accuracy", color=_GREY)
    right.tick_params(labelleft=False)
    for axes, field in ((left, memory.name), (right, latency.name)):
        corners = _staircase(axes, [point for point in points if point.on_front], field)
        _draw(axes, points, field, colours, markers)
        _label(axes, points, field, corners)

    bar = figure.colorbar(colours, cax=figure.add_subplot(grid[2]))
    dress(bar.ax.yaxis, extent, latency.unit)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8.5, colors=_GREY, length=0)
    bar.set_label(f"{latency.label}{doubt}", color=_GREY, fontsize=9)
    _words(figure, front, trials)
    _legend(left)
    return figure


def _points(front: Front, trials: Sequence[TrialRecord]) -> list[_Point]:
    members = {member.trial for member in front.members}
    several = any(member.network for member in front.members)
    points = [
        _point(trial, False, _network(trial) if several else "")
        for trial in trials
        if trial.state == "complete" and trial.number not in members
    ]
    return points + [_point(member, True, member.network) for member in front.members]


def _network(trial: TrialRecord) -> str:
    """The network that a trial's policy is for, as `Member.network` has it."""
    match parse_json(trial.policy, f"trial {trial.number}"):
        case {"backbone": str(name), "input_shape": [_, int(size), *_]}:
            return f"{name} {size}"
    return ""


def _point(record: TrialRecord | Member, on_front: bool, network: str) -> _Point:
    if record.accuracy is None or record.peak_bytes is None or record.latency_s is None:
        raise InputError(f"policy {record.hash} lacks an accuracy, a peak memory or a latency to be drawn")
    return _Point(
        record.accuracy,
        record.accuracy_se or 0.0,
        record.peak_bytes,
        record.latency_s,
        record.method,
        on_front,
        network,
    )


def _method_markers(points: Sequence[_Point]) -> dict[str | None, str]:
    methods = sorted({point.method for point in points if point.method is not None})
    markers: dict[str | None, str] = {m: _MARKERS[i % len(_MARKERS)] for i, m in enumerate(methods)}
    return markers | {None: "o"}


def _frame(axes: "Axes", points: Sequence[_Point], metric: Metric, label: str) -> None:
    """Limits, scales, ticks and grid; final before anything is labelled."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    extent = span([getattr(point, metric.name) for point in points])
    axes.set_xscale("log" if extent.log else "linear")
    axes.set_xlim(extent.low, extent.high)
    dress(axes.xaxis, extent, metric.unit)
    heights = _heights(points)
    axes.set_ylim(heights.low, heights.high)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    axes.set_xlabel(label + (" (log scale)" if extent.log else ""), color=_GREY, labelpad=7)
    axes.tick_params(colors=_GREY, labelsize=9, length=0, pad=6)
    axes.grid(color="#e9edf1", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)


def _heights(points: Sequence[_Point]) -> Span:
    low = min(point.accuracy - point.error for point in points)
    high = max(point.accuracy + point.error for point in points)
    room = max(0.06 * (high - low), _LEAST_HEIGHT / 2 - (high - low) / 2)
    return Span(low - room, high + room, log=False)


def _draw(axes: "Axes", points: Sequence[_Point], field: str, colours: Any, markers: dict[str | None, str]) -> None:
    found = [point for point in points if not point.on_front and point.method is None]
    axes.scatter(
        [getattr(p, field) for p in found],
        [p.accuracy for p in found],
        s=16,
        color=_FAINT,
        alpha=0.75,
        linewidths=0,
        zorder=2,
    )
    for point in points:
        if point.method is None and not point.on_front:
            continue
        x = getattr(point, field)
        shade = "#9aa5b1" if point.on_front else _FAINT
        axes.errorbar(x, point.accuracy, point.error, color=shade, lw=1, zorder=4)
        axes.scatter(
            x,
            point.accuracy,
            s=_SIZE,
            marker=markers[point.method],
            facecolor=colours.to_rgba(point.latency_s) if point.on_front else "white",
            edgecolor="white" if point.on_front and point.method is None else _LINE,
            linewidths=0.9,
            zorder=6 if point.on_front else 5,
        )


def _staircase(axes: "Axes", points: Sequence[_Point], field: str) -> list[tuple[float, float]]:
    """Draw the best accuracy to be had at each cost, up to the right edge; return its corners."""
    best = nondominated([[getattr(point, field), -point.accuracy] for point in points])
    steps = sorted((getattr(p, field), p.accuracy) for p, kept in zip(points, best, strict=True) if kept)
    steps.append((axes.get_xlim()[1], steps[-1][1]))
    corners = steps[:1]
    for x, y in steps[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    xs, ys = zip(*corners, strict=True)
    axes.plot(xs, ys, color=_LINE, lw=1.3, alpha=0.55, zorder=3)
    axes.fill_between(xs, ys, axes.get_ylim()[0], color=_LINE, alpha=0.035, zorder=1, lw=0)
    return corners


def _label(axes: "Axes", points: Sequence[_Point], field: str, corners: Sequence[tuple[float, float]]) -> None:
    marked = [point for point in points if point.on_front or point.method is not None]
    obstacles = [(getattr(point, field), point.accuracy) for point in marked]
    labels, before = [], ""
    for point in sorted(marked, key=lambda point: getattr(point, field)):
        if label := point.label(before):
            labels.append((getattr(point, field), point.accuracy, label))
        before = point.network if point.on_front else before
    place_labels(axes, labels, obstacles, corners, size=8.5, color=_INK)


def _legend(axes: "Axes") -> None:
    from matplotlib.lines import Line2D

    def dot(label: str, **style: Any) -> Line2D:
        return Line2D([], [], linestyle="none", label=label, **style)

    axes.figure.legend(
        handles=[
            dot("found, on the front", marker="o", color="#35b779", markersize=8),
            dot("named method, on the front", marker="s", color="#35b779", markeredgecolor=_LINE, markersize=7),
            dot("named method, dominated", marker="s", color="white", markeredgecolor=_LINE, markersize=7),
            dot("other trial", marker="o", color=_FAINT, markersize=4.5),
            Line2D([], [], color=_LINE, alpha=0.55, lw=1.3, label="best accuracy at this cost"),
        ],
        loc="lower left",
        bbox_to_anchor=(0.059, 0.068),
        ncols=5,
        frameon=False,
        fontsize=8.5,
        labelcolor=_GREY,
        handletextpad=0.5,
        columnspacing=1.8,
    )


def _words(figure: "Figure", front: Front, trials: Sequence[TrialRecord]) -> None:
    run = front.run
    states = Counter(trial.state for trial in trials)
    figure.text(
        0.066,
        0.925,
        f"{_cut(run.dataset, 34)} on {_cut(run.device, 34)}",
        fontsize=17,
        fontweight="bold",
        color=_INK,
    )
    facts = [
        _cut(run.backbone, 48),
        f"batch {run.batch}",
        f"{len(front.members)} {'policy' if len(front.members) == 1 else 'policies'} on the front",
        f"hypervolume {front.hypervolume:.3f}",
    ]
    figure.text(0.066, 0.877, "   ·   ".join(facts), fontsize=10.5, color=_GREY)
    judged = any(member.gain is not None for member in front.members)
    counts = [f"{states[state]} {state}" for state in ("infeasible", "failed") if states[state]]
    outcome = f" ({', '.join(counts)})" if counts else ""
    footer = (
        f"{run.trials} {'trial' if run.trials == 1 else 'trials'}{outcome}. "
        f"Accuracy: {run.proxy}, bars ± 1 standard error"
        + (", of members as believed in the light of all trials, of others as scored. " if judged else ". ")
        + "Memory and latency are predicted, not measured."
        + (" A network's name holds up to the next one to the right." if any(m.network for m in front.members) else "")
    )
    figure.text(
        0.066,
        0.058,
        "\n".join(textwrap.wrap(footer, 175)[:2]),
        fontsize=8.5,
        color=_GREY,
        va="top",
        linespacing=1.4,
    )


def _cut(text: str | None, length: int) -> str:
    text = text or ""
    return text if len(text) <= length else text[: length - 1] + "…"
