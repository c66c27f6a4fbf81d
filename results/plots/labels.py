"""Placing text beside points of a plot so that labels hide neither points nor each other."""

from collections.abc import Sequence
from itertools import pairwise, product
from math import cos, hypot, pi, sin
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

Side = Literal["left", "right", "center"]

#: Directions and distances that are tried, the most readable first: right, left, then around; near, then far.
_ANGLES = [
    0,
    pi,
    pi / 4,
    -pi / 4,
    3 * pi / 4,
    -3 * pi / 4,
    pi / 2,
    -pi / 2,
    pi / 8,
    -pi / 8,
    7 * pi / 8,
    -7 * pi / 8,
]
_DISTANCES_PT = [9, 15, 23, 33, 46, 62]
#: Beyond this distance a thin line leads from the label to its point.
_LEADER_PT = 12
#: Pixels that a label may hide rather than stand one pixel further off.
_DISTANCE_COST = 4
#: Half the side of the square that a point takes, in points.
_POINT_PT = 5.5


def place_labels(
    axes: "Axes",
    labels: Sequence[tuple[float, float, str]],
    obstacles: Sequence[tuple[float, float]],
    line: Sequence[tuple[float, float]] = (),
    *,
    size: float,
    color: str,
) -> None:
    """Write labels beside their points, greedily and deterministically, from the most crowded spot on.

    The limits and scales of the axes must be final.

    Args:
        axes: Where to write.
        labels: x and y in data coordinates, and the text.
        obstacles: Points in data coordinates that should stay visible, the labelled ones included.
        line: Corners of a staircase that labels should rather not cross.
        size: Font size in points.
        color: Colour of the text.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    if figure is None or not isinstance(figure.canvas, FigureCanvasAgg):
        raise ValueError("labels need axes of a figure that is drawn by Agg")
    renderer = figure.canvas.get_renderer()  # type: ignore[no-untyped-call]
    pixel = figure.dpi / 72
    frame = axes.get_window_extent()
    points = [tuple(axes.transData.transform(point)) for point in obstacles]
    half = _POINT_PT * pixel
    taken = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in points]
    corners = [tuple(axes.transData.transform(corner)) for corner in line]
    taken += [
        Bbox.from_extents(min(x0, x1) - pixel, min(y0, y1) - pixel, max(x0, x1) + pixel, max(y0, y1) + pixel)
        for (x0, y0), (x1, y1) in pairwise(corners)
    ]
    written: list[Bbox] = []

    def crowd(label: tuple[float, float, str]) -> float:
        x, y = axes.transData.transform(label[:2])
        return -sum(1 / (20 * pixel + hypot(x - px, y - py)) for px, py in points)

    for x, y, text in sorted(labels, key=crowd):
        note = axes.annotate(
            text,
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=size,
            color=color,
            va="center",
            zorder=7,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "lw": 0.6,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 5,
            },
        )
        # Of the text alone: an annotation's own extent includes its line.
        extent = Text.get_window_extent(note, renderer)
        centre = axes.transData.transform((x, y))
        options = []
        for rank, (distance, angle) in enumerate(product(_DISTANCES_PT, _ANGLES)):
            dx, dy = distance * cos(angle), distance * sin(angle)
            side: Side = "left" if cos(angle) > 0.1 else "right" if cos(angle) < -0.1 else "center"
            shift = {"left": 0.0, "right": 1.0, "center": 0.5}[side] * extent.width
            left, middle = centre[0] + dx * pixel - shift, centre[1] + dy * pixel
            box = Bbox.from_bounds(left, middle - extent.height / 2, extent.width, extent.height)
            cost = _hidden(box, frame, taken, written) + distance * pixel * _DISTANCE_COST
            options.append((cost, rank, (dx, dy), side, box))
        _, _, offset, side, box = min(options, key=lambda option: option[:2])
        note.set_position(offset)
        note.set_horizontalalignment(side)
        if note.arrow_patch is not None:
            note.arrow_patch.set_visible(hypot(*offset) > _LEADER_PT)
        written.append(box)


def _hidden(box: "Bbox", frame: "Bbox", points: Sequence["Bbox"], labels: Sequence["Bbox"]) -> float:
    """Area that a label would hide, in pixels; other labels and the frame weigh more than points."""
    outside = box.width * box.height - _overlap(box, frame)
    return sum(_overlap(box, p) for p in points) + 4 * sum(_overlap(box, b) for b in labels) + 20 * outside


def _overlap(a: "Bbox", b: "Bbox") -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width * height if width > 0 and height > 0 else 0.0
