"""Frozen layers line by line: ring buffers by hand, and the best way against all ways."""

from itertools import pairwise

import numpy as np
import pytest
from torch import nn

from tinysearch.devices.profile import load_device
from tinysearch.devices.profile.model import Schedule
from tinysearch.devices.step.compiler import compile_step
from tinysearch.devices.step.setting import StepSetting
from tinysearch.devices.step.walk import Phase
from tinysearch.devices.step.ways import Ways
from tinysearch.spaces import methods
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import INPUT, Trace, trace


def _device(**switches):
    profile = load_device("cortex-m7-fp32")
    memory = profile.memory.model_copy(update={"schedule": Schedule(line_by_line=True, **switches)})
    return profile.model_copy(update={"memory": memory})


def _setting(found: Trace, **switches) -> StepSetting:
    return StepSetting(found, _device(**switches), 1, "sgd")


def _trace(*layers: nn.Module, size: int = 16) -> Trace:
    channels = [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1].out_channels
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2)).eval()
    return trace(network, (3, size, size))


class Skip(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


def _lines(found: Trace) -> list[int]:
    """Lines of the image's ring buffer, and of those of the stages in order."""
    frozen = _setting(found, image="lines").frozen
    return [frozen.lines[INPUT], *(frozen.lines[output] for output in frozen.stages)]


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_needs_as_many_lines_as_its_kernel_has(kernel, stride):
    found = _trace(nn.Conv2d(3, 4, kernel, stride, kernel // 2), nn.Conv2d(4, 4, kernel, 1, kernel // 2))
    expected = min(kernel, 16 // stride)
    assert _lines(found) == [min(kernel, 16), expected, 1]


def test_what_follows_element_by_element_needs_no_lines_of_its_own():
    found = _trace(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 4, 1))
    stages = list(_setting(found).frozen.stages.values())
    assert [stage.rows for stage in stages][:2] == [(0, 1, 2), (3,)]
    assert _lines(found) == [3, 1, 1]


@pytest.mark.parametrize(("kernel", "waiting"), [(3, 2), (5, 3)])
def test_a_skip_holds_the_lines_that_wait_for_its_branch(kernel, waiting):
    body = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, kernel, 1, kernel // 2, groups=8), nn.Conv2d(8, 4, 1))
    assert _lines(_trace(nn.Conv2d(3, 4, 3, 2, 1), Skip(body))) == [3, waiting, kernel, 1, 1, 1]


def test_a_map_lower_than_a_kernel_is_held_whole():
    assert _lines(_trace(nn.Conv2d(3, 4, 7, 1, 3), nn.Conv2d(4, 4, 7, 1, 3), size=3)) == [3, 3, 1]


@pytest.mark.parametrize("image", ["held", "lines"])
@pytest.mark.parametrize("by_channels", [False, True])
def test_no_other_way_to_a_map_has_a_lower_worst_moment(mobilenet_trace, image, by_channels):
    setting = _setting(mobilenet_trace, image=image, fused_updates=by_channels, by_channels=by_channels)
    frozen = setting.frozen
    targets = list(frozen.stretches)[:9]
    order = [row for row in mobilenet_trace.order if row < len(mobilenet_trace)]

    def alone(source: int, target: int, *, adjacent: bool) -> float:
        """The least worst moment of one stretch by itself."""
        start = order.index(source) + 1 if source != INPUT else 0
        rows = tuple(order[start : order.index(target) + 1])
        empty = type(frozen).__new__(type(frozen))
        vars(empty).update(vars(frozen), stretches={})
        ways = empty._stretches(source, target, rows, adjacent=adjacent)
        return min((way.worst for way in ways), default=np.inf)

    for number, target in enumerate(targets):
        best = np.inf
        for choice in range(2**number):
            stops = [INPUT, *(stop for bit, stop in enumerate(targets[:number]) if choice >> bit & 1), target]
            known = [INPUT, *targets]
            best = min(
                best,
                max(alone(a, b, adjacent=known.index(b) == known.index(a) + 1) for a, b in pairwise(stops)),
            )
        assert frozen.stretches[target].worst == best


def test_a_way_ends_below_all_that_trains_or_is_kept(mobilenet_trace, random_policy):
    setting = _setting(mobilenet_trace, image="lines")
    policies = [random_policy(mobilenet_trace, seed) for seed in range(30)]
    table = UpdateTable.of(mobilenet_trace, [*policies, methods.last(mobilenet_trace)])
    ways = Ways(setting.frozen, table, images=False)
    for n in range(len(table)):
        below = [row for row in mobilenet_trace.order if not np.broadcast_to(ways.above[row], len(table))[n]]
        assert not table.live[n, below].any()
        assert not table.statistics[n, below].any()
        assert np.broadcast_to(ways.images, len(table))[n] == (not below)
        program = compile_step(table[n : n + 1], setting.profile, 1, "sgd")
        run = [row for step in program.operations if step.phase in (Phase.FORWARD, Phase.BY_LINES) for row in step.rows]
        assert sorted(run) == sorted(row for row in mobilenet_trace.order if table.present[n, row])


def test_where_nothing_lies_below_the_image_is_held(mobilenet_trace):
    table = UpdateTable.of(mobilenet_trace, [methods.full(mobilenet_trace)])
    program = compile_step(table, _device(image="lines"), 1, "sgd")
    assert all(operation.phase != Phase.BY_LINES for operation in program.operations)
    assert any(tensor.row == INPUT for tensor in program.tensors)
