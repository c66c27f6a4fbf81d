"""Frozen layers row by row against the same layers map by map, with rings as large as the rule says and no larger."""

from ctypes import addressof, c_void_p, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_calls import ROW_SOURCE, Geometry, Stage, call, close, memory, pointer, unwritten

CONV, DEPTHWISE, POINTWISE, ADD = range(4)
ACTS = ["none", "relu", "relu6", "hardswish", "silu", "hardsigmoid", "sigmoid"]
CANARY = 12345.0


class Plan:
    """Stages with their weights, and the order in which `ts_rows` computes their rows."""

    def __init__(self, channels, size):
        self.kinds, self.acts, self.reads = [], [], []
        self.geometries, self.shapes, self.weights, self.biases = [], [], [], []
        self.source = channels, *size
        self.outputs = [self.source]  # of the source, then of every stage

    def add(self, kind, act, outs=0, kernel=1, stride=1, pads=(0, 0, 0, 0), groups=1, reads=None):
        """Append a stage that reads the one before, or what `reads` names."""
        last = len(self.kinds) - 1
        reads = reads or (last, last)
        ins, height, width = self.outputs[1 + reads[0]]
        if kind == DEPTHWISE:
            outs = groups = ins
        outs = outs or ins
        geometry = Geometry(kernel, stride, pads, (height, width))
        torch.manual_seed(len(self.kinds))
        self.kinds.append(kind)
        self.acts.append(act)
        self.reads.append(reads)
        self.geometries.append(geometry)
        self.shapes.append(geometry.shape(ins, outs, groups))
        self.weights.append(torch.randn(outs, ins // groups, kernel, kernel) / (ins // groups * kernel**2) ** 0.5)
        self.biases.append(None if kind == ADD or len(self.kinds) % 3 == 0 else torch.randn(outs))
        self.outputs.append((outs, *geometry.out))
        return len(self.kinds) - 1

    def expected(self, x):
        """The last map, layer by layer in float64."""
        maps = [x.double()]
        for kind, act, reads, geometry, shape, weight, bias in zip(
            self.kinds, self.acts, self.reads, self.geometries, self.shapes, self.weights, self.biases, strict=True
        ):
            y = maps[1 + reads[0]]
            if kind == ADD:
                y = y + maps[1 + reads[1]]
            else:
                y = geometry.convolve(y, weight.double(), None if bias is None else bias.double(), shape.groups)
            maps.append(y if act == "none" else getattr(F, act)(y))
        return maps[-1]

    def oldest(self, n, row):
        """The oldest row of its inputs that stage n needs for its row `row`."""
        return (
            row if self.kinds[n] in (POINTWISE, ADD) else max(0, row * self.shapes[n].stride - self.shapes[n].pad_top)
        )

    def needed(self, n, row):
        """How many rows of its inputs stage n needs for its row `row`."""
        if self.kinds[n] in (POINTWISE, ADD):
            return row + 1
        shape = self.shapes[n]
        return min(shape.in_height, row * shape.stride - shape.pad_top + shape.kernel_h)

    def inputs(self, n):
        return set(self.reads[n]) if self.kinds[n] == ADD else {self.reads[n][0]}

    def lines(self, has_map):
        """Lines of the ring of the source and of every stage: the rule of ts_kernels.h, simulated."""
        stages = range(len(self.kinds))
        heights = [height for _, height, _ in self.outputs]
        produced = [heights[0] if has_map else 0, *(0 for _ in stages)]
        largest = [0] * len(produced)
        while produced[-1] < heights[-1]:
            ready = [
                n
                for n in stages
                if produced[1 + n] < heights[1 + n]
                and all(produced[1 + m] >= self.needed(n, produced[1 + n]) for m in self.inputs(n))
            ]
            tensor = 1 + ready[-1] if ready else 0
            produced[tensor] += 1
            readers = [n for n in stages if tensor - 1 in self.inputs(n) and produced[1 + n] < heights[1 + n]]
            oldest = min((self.oldest(n, produced[1 + n]) for n in readers), default=produced[tensor])
            largest[tensor] = max(largest[tensor], produced[tensor] - oldest)
        return largest


def run(kernels, plan, x, lines, *, whole):
    """Run the C code in rings between canaries; the map, and the rows that the source was asked for."""
    channels, _, width = plan.source
    scratch_size = lines[0] * channels * width + 1
    stages, keep = (Stage * len(plan.kinds))(), []
    for n, stage in enumerate(stages):
        weight, bias = memory(plan.weights[n]), None if plan.biases[n] is None else memory(plan.biases[n])
        keep += [weight, bias]
        stage.kind, stage.act = plan.kinds[n], ACTS.index(plan.acts[n])
        stage.input, stage.other = plan.reads[n]
        stage.shape, stage.weight, stage.bias = plan.shapes[n], pointer(weight), pointer(bias)
        if n + 1 < len(stages):
            stage.lines, stage.offset = lines[1 + n], scratch_size
            scratch_size += lines[1 + n] * plan.outputs[1 + n][0] * plan.outputs[1 + n][2] + 1
    scratch = memory(np.full(scratch_size, CANARY))
    asked = []

    @ROW_SOURCE
    def source(context, row, line):
        assert context == 7
        asked.append(row)
        view = np.ctypeslib.as_array(line, (channels, width))
        view[...] = x[:, row].numpy()

    out = unwritten(*plan.outputs[-1])
    state = memory(np.full(len(stages) + 1, -99), np.int32)
    given = (memory(x), None) if whole else (None, cast(source, c_void_p))
    call(kernels, "rows", out, *given, c_void_p(7), lines[0], c_void_p(addressof(stages)), len(stages), state, scratch)
    canaries = [stage.offset - 1 for stage in stages[:-1]] + [scratch_size - 1]
    assert (scratch[canaries] == CANARY).all()
    return out, asked


def mobile_net(size=(33, 30)):
    """A stem, bottlenecks of stride 1 and 2 with 3x3 and 5x5 kernels, skips, and a wide end."""
    plan = Plan(3, size)
    plan.add(CONV, "relu6", 8, 3, 2, (1, 1, 1, 1))
    plan.add(DEPTHWISE, "relu6", kernel=3, pads=(1, 1, 1, 1))
    plan.add(POINTWISE, "none", 6)
    plan.add(POINTWISE, "hardswish", 13)
    plan.add(DEPTHWISE, "hardswish", kernel=5, stride=2, pads=(1, 1, 2, 2))
    first = plan.add(POINTWISE, "none", 7)
    plan.add(POINTWISE, "relu", 10)
    plan.add(DEPTHWISE, "relu", kernel=5, pads=(2, 2, 2, 2))
    plan.add(POINTWISE, "none", 7)
    second = plan.add(ADD, "none", reads=(8, first))
    plan.add(POINTWISE, "silu", 12)
    plan.add(DEPTHWISE, "sigmoid", kernel=3, pads=(1, 1, 1, 1))
    plan.add(POINTWISE, "none", 7)
    plan.add(ADD, "relu6", reads=(12, second))
    plan.add(DEPTHWISE, "hardsigmoid", kernel=3, stride=2, pads=(1, 1, 1, 1))
    plan.add(POINTWISE, "none", 20)
    return plan


def res_net():
    """Dense and grouped convs with a skip around two of them, that ends in the sum."""
    plan = Plan(3, (12, 17))
    plan.add(CONV, "relu", 6, 7, 2, (3, 3, 3, 3))
    plan.add(CONV, "relu", 6, 3, 1, (1, 1, 1, 1), groups=2)
    plan.add(CONV, "none", 6, 3, 1, (1, 1, 1, 1))
    plan.add(ADD, "relu", reads=(0, 2))
    return plan


def from_a_map_with_skip():
    """A skip from the source itself, which is then kept for long."""
    plan = Plan(5, (6, 9))
    plan.add(POINTWISE, "relu6", 11)
    plan.add(DEPTHWISE, "relu6", kernel=3, pads=(1, 1, 1, 1))
    plan.add(POINTWISE, "none", 5)
    plan.add(ADD, "none", reads=(2, -1))
    return plan


def rows_left_over():
    """Strides and kernels that read neither all rows nor all columns."""
    plan = Plan(2, (11, 14))
    plan.add(CONV, "none", 4, 3, 2)
    plan.add(DEPTHWISE, "relu", kernel=3, stride=3)
    return plan


def one_stage():
    plan = Plan(4, (3, 3))
    plan.add(POINTWISE, "relu", 6)
    return plan


PLANS = [mobile_net, lambda: mobile_net((7, 9)), lambda: mobile_net((3, 4)), res_net, from_a_map_with_skip]
PLANS += [rows_left_over, one_stage]


@pytest.mark.parametrize("whole", [True, False], ids=["map", "source"])
@pytest.mark.parametrize("make", PLANS)
def test_row_by_row_is_layer_by_layer(kernels, make, whole):
    plan = make()
    x = torch.randn(plan.source)
    out, asked = run(kernels, plan, x, plan.lines(whole), whole=whole)
    close(out, plan.expected(x), 5e-6)
    assert asked == list(range(len(asked)))
    assert len(asked) == (0 if whole else min(plan.source[1], asked[-1] + 1))


def test_every_row_is_asked_for_once(kernels):
    plan = mobile_net()
    _, asked = run(kernels, plan, torch.randn(plan.source), plan.lines(False), whole=False)
    assert asked == list(range(33))


@pytest.mark.parametrize("whole", [True, False], ids=["map", "source"])
def test_one_line_less_is_too_few(kernels, whole):
    """So the simulated sizes are no larger than needed, and the comparison above notices rings that are too small."""
    plan = mobile_net()
    x = torch.randn(plan.source)
    lines, expected = plan.lines(whole), plan.expected(x)
    assert lines[:6] == [0 if whole else 3, 3, 1, 1, 5, 1]
    shortened = [n for n, count in enumerate(lines[:-1]) if count > 1]
    assert len(shortened) > 5
    for n in shortened:
        fewer = [*lines[:n], lines[n] - 1, *lines[n + 1 :]]
        out, _ = run(kernels, plan, x, fewer, whole=whole)
        with pytest.raises(AssertionError):
            close(out, expected, 5e-6)
