"""The picture of a memory plan."""

import pytest
import torch
from matplotlib.collections import PolyCollection

from tinysearch.core.errors import InputError
from tinysearch.devices.profile import load_device
from tinysearch.devices.step.compiler import compile_step
from tinysearch.devices.step.plan import Plan, find_areas, make_plan
from tinysearch.results.plots.plan import draw_plan, plot_plan
from tinysearch.spaces import methods
from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    torch.manual_seed(0)
    found = trace(MobileNetV2(0.35, 10), (3, 48, 48))
    table = UpdateTable.of(found, [methods.bias(found)])
    programs = {name: compile_step(table, load_device(name), 1, "sgd") for name in ("cortex-m7-int8", "rpi4")}
    areas = find_areas(load_device("cortex-m7-int8"))
    small = tuple(type(area)(area.name, area.size // 2) for area in areas)
    return {name: make_plan(program) for name, program in programs.items()} | {
        "spread": make_plan(programs["cortex-m7-int8"], small)
    }


def _boxes(axes) -> int:
    return sum(len(c.get_paths()) for c in axes.collections if isinstance(c, PolyCollection))


@pytest.mark.parametrize("name", ["cortex-m7-int8", "rpi4", "spread"])
def test_every_tensor_is_drawn_within_its_area(plans, name):
    plan = plans[name]
    figure = draw_plan(plan)
    below, *areas = figure.axes
    assert len(areas) == sum(size > 0 for size in plan.sizes)
    assert sum(_boxes(axes) for axes in areas) == len(plan.program.tensors)
    for axes in areas:
        low, high = axes.get_ylim()
        for collection in axes.collections:
            for path in collection.get_paths():
                assert path.vertices[:, 1].min() >= low
                assert path.vertices[:, 1].max() <= high
    assert below.get_legend() is not None


def test_words_say_how_large_it_is_and_where_the_peak_is(plans):
    arena, eager = ([text.get_text() for text in draw_plan(plans[n], "mine").texts] for n in ("cortex-m7-int8", "rpi4"))
    assert arena[0] == "mine"
    assert "arena" in arena[1]
    assert "lower bound" in arena[1]
    assert "features." in arena[1]
    assert "plans nothing" in eager[1]


def test_the_file_is_a_png(plans, tmp_path):
    path = plot_plan(plans["cortex-m7-int8"], tmp_path / "plan.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"\.png"):
        plot_plan(plans["cortex-m7-int8"], tmp_path / "plan.svg")
