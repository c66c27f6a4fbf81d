import io
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from PIL import Image

from tinysearch.core.errors import InputError
from tinysearch.core.metrics import BYTES, SECONDS
from tinysearch.results.plots import draw_pareto, plot_pareto
from tinysearch.results.plots.axes import span, ticks

METHODS = (
    "full",
    "last",
    "bias",
    "norm+last",
    "tinytl:B",
    "tinytl:L",
    "tinytl:L+B",
    "mobiletl:2",
    "tinytrain",
)


def texts_of(axes):
    """Labels written beside points, with their extents in pixels."""
    return [(note.get_text(), Text.get_window_extent(note)) for note in axes.texts]


def drawn(front, trials):
    figure = draw_pareto(front, trials)
    figure.savefig(io.BytesIO(), format="png")
    return figure


def test_picture_is_a_readable_png(tmp_path, cloud, front):
    trials = cloud(60, METHODS)
    path = plot_pareto(front(trials), trials, tmp_path / "pareto.png")
    assert [entry.name for entry in tmp_path.iterdir()] == ["pareto.png"]
    with Image.open(path) as image:
        assert image.size == (1950, 990)
        colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colours) > 500


@pytest.mark.parametrize(
    ("warnings", "mark"),
    [
        ((), ""),
        (("time and energy on rpi4 are in part assumed: most of it",), " (assumed)"),
        (("time and energy at batch 1 are extrapolated: rpi4 was fitted on batches 8 to 32",), " (extrapolated)"),
    ],
)
def test_axes_say_what_is_not_measured(cloud, front, warnings, mark):
    trials = [replace(trial, warnings=warnings) for trial in cloud(6)]
    _, right, bar = drawn(front(trials), trials).axes
    assert right.get_xlabel().startswith(f"latency of a training step{mark}")
    assert right.get_xlabel().count("(") == bool(mark) + ("log scale" in right.get_xlabel())
    assert bar.get_ylabel() == f"step latency{mark}"


def test_the_same_front_gives_the_same_bytes(tmp_path, cloud, front):
    trials = cloud(20)
    first = plot_pareto(front(trials), trials, tmp_path / "a.png").read_bytes()
    assert plot_pareto(front(trials), trials, tmp_path / "b.png").read_bytes() == first


@pytest.mark.parametrize("seed", range(3))
def test_every_method_is_labelled_and_labels_do_not_overlap(cloud, front, seed):
    trials = cloud(80, METHODS, seed)
    figure = drawn(front(trials), trials)
    for axes in figure.axes[:2]:
        labels = texts_of(axes)
        assert sorted(text for text, _ in labels) == sorted(METHODS)
        frame = axes.get_window_extent()
        for text, box in labels:
            assert frame.x0 - 1 <= box.x0, text
            assert box.x1 <= frame.x1 + 1, text
        for (a, box_a), (b, box_b) in combinations(labels, 2):
            overlap = (
                min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0),
                min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0),
            )
            assert min(overlap) < 4, (a, b)


@pytest.mark.parametrize(
    "changes",
    [
        [{}],
        [{}, {}],
        [{"latency_s": 0.0}, {"latency_s": 0.0, "peak_bytes": 0, "accuracy": 0.0}],
        [{"accuracy_se": None, "peak_bytes": 2**40}, {"peak_bytes": 1, "accuracy": 0.1}],
        [{"accuracy": 1.0}, {"accuracy": 0.0, "peak_bytes": 1}],
        [{"method": "m" * 300}, {"method": "$x_1 \\frac$ ünï", "peak_bytes": 3}],
    ],
)
def test_degenerate_fronts_are_drawn(trial, front, changes):
    trials = [trial(number, **change) for number, change in enumerate(changes)]
    figure = drawn(front(trials, dataset="$\\frac$", backbone="$_", proxy="$\\x$"), trials)
    assert all(np.isfinite(axes.get_xlim()).all() for axes in figure.axes)


def test_title_and_footer_state_the_facts(trial, front):
    trials = [trial(0), trial(1, state="infeasible", accuracy=None), trial(2, state="failed", accuracy=None)]
    figure = draw_pareto(front(trials), trials)
    words = " ".join(text.get_text() for text in figure.texts)
    for part in (
        "digits on rpi4",
        "mobilenetv2-w0.35",
        "batch 8",
        "1 policy",
        "3 trials",
        "1 infeasible",
        "1 failed",
    ):
        assert part in words
    assert "predicted, not measured" in words
    assert "believed" not in words


def test_the_footer_says_where_members_are_not_shown_as_scored(trial, front):
    trials = [trial(0)]
    plain = front(trials)
    judged = replace(plain, members=(replace(plain.members[0], gain=0.01, gain_se=0.02),))
    words = " ".join(text.get_text() for text in draw_pareto(judged, trials).texts)
    assert "of members as believed in the light of all trials, of others as scored" in words.replace("\n", " ")


def test_empty_front_is_refused(tmp_path, front):
    with pytest.raises(InputError, match="empty"):
        plot_pareto(front([]), [], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_drawing_leaves_no_global_state(cloud, front):
    import matplotlib.pyplot as plt

    trials = [replace(record, method=None) for record in cloud(5)]
    drawn(front(trials), trials)
    assert plt.get_fignums() == []


@given(st.lists(st.floats(1e-6, 1e12), min_size=1, max_size=5))
def test_axes_show_all_values_and_have_ticks(values):
    extent = span(values)
    assert extent.low < min(values) <= max(values) < extent.high
    for quantity in (BYTES, SECONDS):
        places = ticks(extent, quantity)
        assert 1 <= len(places) <= 9
        assert all(extent.low <= place <= extent.high for place in places)
        assert len({quantity.show(place) for place in places}) == len(places)


def test_names_are_drawn_as_they_are(front, trial):
    """A name with dollars would be typeset, or refused by matplotlib's parser as the last is."""
    trials = [trial(0, method="$x_1$"), trial(1, method="$\\frac{1$", accuracy=0.9, peak_bytes=1)]
    figure = drawn(front(trials), trials)
    written = {note.get_text() for axes in figure.axes for note in axes.texts}
    assert {"$x_1$", "$\\frac{1$"} <= written
    assert not any(text.get_parse_math() for text in figure.findobj(Text) if "frac" in text.get_text())
