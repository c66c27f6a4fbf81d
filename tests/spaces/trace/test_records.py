"""Traces agree with fvcore and with what is known of the networks."""

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from tinysearch.core.errors import UnsupportedError
from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2
from tinysearch.spaces.trace import INPUT, trace


@pytest.mark.parametrize(("width", "size"), [(0.35, 96), (1.0, 224), (0.5, 97)])
def test_forward_macs_agree_with_fvcore(width, size):
    model = MobileNetV2(width, 10).eval()
    flops = FlopCountAnalysis(model, torch.zeros(1, 3, size, size)).unsupported_ops_warnings(False)
    by_operator = flops.by_operator()
    assert trace(model, (3, size, size)).macs_forward == by_operator["conv"] + by_operator["linear"]


def test_parameters_are_those_of_the_module(squeeze_net, squeeze_trace, mobilenet, mobilenet_trace):
    for model, table in ((squeeze_net, squeeze_trace), (mobilenet, mobilenet_trace)):
        assert table.params == sum(p.numel() for p in model.parameters())


def test_rows_follow_the_data(squeeze_trace):
    names = [layer.name for layer in squeeze_trace]
    gate = names.index("blocks.0.gate")
    product = next(n for n, layer in enumerate(squeeze_trace) if layer.op == "mul")
    assert squeeze_trace.layers[0].inputs == (INPUT,)
    assert set(squeeze_trace.layers[product].inputs) == {gate, names.index("blocks.0.norm2")}
    assert all(source < n for n, layer in enumerate(squeeze_trace) for source in layer.inputs)


def test_functional_activations_are_found(squeeze_trace):
    assert [layer.op for layer in squeeze_trace if layer.kind == "act"].count("relu6") == 2
    assert [layer.op for layer in squeeze_trace if layer.kind == "act"].count("relu") == 4


def test_views_and_paddings_of_convolutions_have_no_rows(squeeze_trace):
    assert not any(layer.op in ("flatten", "pad") for layer in squeeze_trace)
    assert squeeze_trace.layers[squeeze_trace.index["lower"]].in_shape == (8, 9, 9)


def test_blocks(mobilenet_trace, squeeze_trace):
    assert [block.name for block in mobilenet_trace.blocks] == [f"features.{n}" for n in range(1, 18)]
    assert [block.name for block in squeeze_trace.blocks] == ["blocks.0", "blocks.1"]
    second = squeeze_trace.blocks[1]
    assert (second.in_shape, second.out_shape) == ((8, 17, 17), (8, 9, 9))


def test_lite_rows_come_before_the_output_of_their_block(mobilenet_trace):
    place = {row: n for n, row in enumerate(mobilenet_trace.order)}
    assert len(place) == len(mobilenet_trace.rows)
    for block in mobilenet_trace.blocks:
        for row in block.lite:
            assert place[row] < place[block.output]
            assert all(place[s] < place[row] for s in mobilenet_trace.rows[row].inputs if s != INPUT)


def test_channel_kinds(squeeze_trace):
    kinds = {layer.name: (layer.depthwise, layer.sliceable) for layer in squeeze_trace}
    assert kinds["blocks.0.depthwise"] == (True, True)
    assert kinds["grouped"] == (False, True)
    assert kinds["fc"] == (False, True)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.conv(self.conv(x)).mean((2, 3)))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3)))


@pytest.mark.parametrize(
    ("model", "shape", "words"),
    [
        (Shared(), (3, 8, 8), "conv is called twice"),
        (Branching(), (3, 8, 8), "branches on values of tensors"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), (3, 8, 8), "no classifier gives the network's 144 logits"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(9, 2)), (3, 8, 8), "does not run"),
    ],
)
def test_unsupported_networks_are_refused_in_one_line(model, shape, words):
    with pytest.raises(UnsupportedError, match=words):
        trace(model, shape)
