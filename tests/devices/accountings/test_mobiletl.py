"""MobileTL's accounting against the authors' figures (Chiang et al. 2023)."""

import pytest
from torch import nn

from tinysearch.devices.accountings import mobiletl
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.backbones.mobilenetv3 import SqueezeExcitation
from tinysearch.spaces.policy import LayerUpdate, NormUpdate
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace


class Block(nn.Module):
    """The figure's inverted residual: 48 channels in and out, expansion 6."""

    def __init__(self, act, squeeze):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(48, 288, 1, bias=False), nn.BatchNorm2d(288), act())
        self.depthwise = nn.Sequential(nn.Conv2d(288, 288, 3, 1, 1, groups=288, bias=False), nn.BatchNorm2d(288), act())
        self.squeeze = SqueezeExcitation(288, 72) if squeeze else nn.Identity()
        self.project = nn.Sequential(nn.Conv2d(288, 48, 1, bias=False), nn.BatchNorm2d(48))

    def forward(self, x):
        return x + self.project(self.squeeze(self.depthwise(self.expand(x))))


class Net(nn.Module):
    def __init__(self, act=nn.ReLU6, squeeze=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 48, 1)
        self.blocks = nn.Sequential(Block(act, squeeze))
        self.head = nn.Linear(48, 5)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def fine_tuned(found, blocks):
    """All of the top blocks and of what follows them; the authors' FT-kBLKs."""
    first = next(row for row, layer in enumerate(found.layers) if layer.block == len(found.blocks) - blocks)
    inside = [layer for row, layer in enumerate(found.layers) if row >= first and row != found.head]
    layers = [LayerUpdate(name=x.name, weight="all", bias=x.bias) for x in inside if x.kind in ("conv", "linear")]
    norms = [NormUpdate(name=x.name, scale=True, shift=True, statistics=True) for x in inside if x.kind == "norm"]
    return methods.last(found).model_copy(update={"layers": tuple(layers), "norms": tuple(norms)})


def stored_by_block(found, policy):
    account = mobiletl.count(UpdateTable.of(found, [policy]), 1)
    rows = [row for row, layer in enumerate(found.layers) if layer.block == 0]
    return int(account.stored[0, rows].sum())


def test_a_v2_block():
    """4.03 -> 2.16 MB, -46.3 %, at 28 x 28."""
    found = trace(Net(), (3, 28, 28))
    plain, ours = stored_by_block(found, fine_tuned(found, 1)), stored_by_block(found, methods.mobiletl(found, 1))
    assert (round(plain / 1e6, 2), round(ours / 1e6, 2)) == (4.03, 2.16)
    assert round(100 * (ours / plain - 1), 1) == -46.3
    c, hw = 48, 28 * 28
    wide = 6 * c * hw
    statistics = 2 * 4 * (288 + 288 + 48)
    assert plain == 4 * (c * hw + wide + wide + wide + wide + c * hw) + 2 * 2 * wide // 8 + statistics
    assert ours == 4 * (c * hw + wide + wide + c * hw) + 2 * wide // 8 + 2 * 4 * 48


def test_a_v3_block_with_the_squeeze_and_excite_of_the_figure():
    """The figure's bar for squeeze and excite is 0.95 MB, ours 0.91: with theirs it is the published -53.3 %.

    With ours it is -53.7 %. The figure does not say what the other 0.04 MB are.
    """
    found = trace(Net(nn.Hardswish, squeeze=True), (3, 28, 28))
    squeeze = [
        row for row, x in enumerate(found.layers) if ".squeeze." in x.name or x.op in ("mul", "adaptiveavgpool2d")
    ]
    plain, ours = fine_tuned(found, 1), methods.mobiletl(found, 1)
    stored = mobiletl.count(UpdateTable.of(found, [plain, ours]), 1).stored
    block = stored[:, [row for row, layer in enumerate(found.layers) if layer.block == 0]].sum(1)
    assert stored[0, squeeze].sum() == stored[1, squeeze].sum()  # at full precision in both
    assert round(stored[0, squeeze].sum() / 1e6, 2) == 0.91
    assert round(100 * (block[1] / block[0] - 1), 1) == -53.7
    others = block - stored[:, squeeze].sum(1)
    assert round(100 * ((others[1] + 0.9499e6) / (others[0] + 0.9499e6) - 1), 1) == -53.3


@pytest.fixture(scope="module")
def small():
    """The network of the authors' figure of costs, found by its numbers: MobileNetV3-Small, 224 px, batch 8."""
    return trace(load_backbone("mobilenetv3-small", num_classes=100), (3, 224, 224))


@pytest.mark.parametrize(("blocks", "megabytes"), [(3, 23.1), (5, 35.9), (None, 129.8)])
def test_stored_activations_of_mobilenetv3(small, blocks, megabytes):
    """Published: 23.1, 35.9 and, for all of it, 129.7 MB."""
    policy = methods.full(small) if blocks is None else fine_tuned(small, blocks)
    account = mobiletl.count(UpdateTable.of(small, [policy]), 8)
    assert round(account.parts["stored_bytes"][0] / 1e6, 1) == megabytes


def test_memory_of_five_blocks_is_69_percent_less(small):
    table = UpdateTable.of(small, [fine_tuned(small, 5), methods.full(small)])
    total = mobiletl.count(table, 8).total
    assert round(100 * (1 - total[0] / total[1])) == 69


def test_flops_are_those_of_convs_and_linears(small):
    table = UpdateTable.of(small, [methods.full(small)])
    parts = mobiletl.count(table, 1).parts
    assert parts["forward_flops"][0] == 2 * small.macs_forward
    stem = small.layers[0].macs_forward
    assert parts["backward_flops"][0] == 2 * (2 * small.macs_forward - stem)


def test_relu6_bits_are_a_named_constant(monkeypatch):
    found = trace(Net(), (3, 28, 28))
    policy = fine_tuned(found, 1)
    before = stored_by_block(found, policy)
    monkeypatch.setitem(mobiletl.EXACT_BITS, "relu6", 1)
    assert before - stored_by_block(found, policy) == 2 * 288 * 28 * 28 // 8


def test_what_no_gradient_reaches_stores_nothing():
    found = trace(Net(), (3, 28, 28))
    assert stored_by_block(found, methods.last(found)) == 0
