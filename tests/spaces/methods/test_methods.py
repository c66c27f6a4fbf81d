"""Named methods against what their papers print."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinysearch.core.errors import InputError
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.backbones.proxylessnas import ProxylessNASMobile
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace


@pytest.fixture(scope="module")
def proxyless():
    return trace(ProxylessNASMobile(102, norm="group"), (3, 224, 224))


@pytest.fixture(scope="module")
def mcunet():
    return trace(load_backbone("mcunet-5fps", num_classes=2), (3, 128, 128))


def trained(table, policy):
    return int(UpdateTable.of(table, [policy]).trained_params.sum())


def test_tinytl_trains_what_the_paper_counts(proxyless):
    """Cai et al. 2020: 4,746,590 parameters with the modules; Last trains 130,662 and L+B 1,962,310."""
    modules = [row for block in proxyless.blocks[1:] for row in block.lite]
    assert proxyless.params + sum(proxyless.rows[row].params for row in modules) == 4_746_590
    assert trained(proxyless, methods.last(proxyless)) == 130_662
    assert trained(proxyless, methods.tinytl(proxyless)) == 1_962_310


def test_tinytl_freezes_last_shifts_only_where_they_are_said_twice(proxyless, mcunet):
    """In L+B a module's last shift is frozen (it adds to the block's own); in L it trains."""
    for found in (proxyless, mcunet):
        both, alone = methods.tinytl(found), methods.tinytl(found, "L")
        assert {lite.shift for lite in both.lite_residuals} == {False}
        assert {lite.shift for lite in alone.lite_residuals} == {True}
        count = len(both.lite_residuals)
        assert f"{count} lite residual modules ({count} last shifts frozen)" in both.describe()
        space = UpdateSpace(found)
        assert space.decode(space.encode(both)).hash == both.hash
        assert space.decode(space.encode(alone)).hash == alone.hash


def test_tinytl_kernels_shrink_with_the_map(proxyless):
    kernels = [proxyless.rows[block.lite[1]].kernel[0] for block in proxyless.blocks[1:]]
    assert kernels == [5] * 15 + [3] * 4


def test_mobiletl_trains_the_top_blocks_and_masks_their_activations(mcunet):
    policy = methods.mobiletl(mcunet, 2)
    assert {entry.name.split(".")[1] for entry in policy.layers} == {"12", "13"}
    assert len(policy.layers) == 6
    assert len(policy.sign_masks) == 4


@pytest.mark.parametrize(("scheme", "weights_and_biases"), [(0, 29.8), (1, 47.3), (2, 70.0), (3, 93.5), (4, 115.6)])
def test_sparse_update_schemes_of_mcunet(mcunet, scheme, weights_and_biases):
    """Lin et al. 2022: kilobytes (1024 B) of updated weights (1 B each) and biases (4 B each), without the head."""
    policy = methods.sparse_update(mcunet, scheme)
    table = UpdateTable.of(mcunet, [policy])
    body = [row for row in range(len(mcunet)) if row != mcunet.head]
    weights = table.trained_weights[0, body].sum()
    biases = sum(mcunet.layers[row].biases for row in body if table.bias[0, row])
    assert round(float(weights + 4 * biases) / 1024, 1) == weights_and_biases


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: methods.tinytl(t, "X"), "variants are B, L and L"),
        (lambda t: methods.mobiletl(t, 99), "has 14 blocks"),
        (lambda t: methods.mobiletl(t, 0), "1 to 14"),
        (lambda t: methods.sparse_update(t, 9), "5 published"),
        (lambda t: methods.sparse_update(t, methods.Scheme(99, {})), "42 convolutions"),
    ],
)
def test_wrong_arguments_are_refused(mcunet, make, words):
    with pytest.raises(InputError, match=words):
        make(mcunet)


def test_tinytrain_and_last_conv_leave_a_convolution_that_classifies_and_know_those_that_are_functions():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))

        def forward(self, x):
            return F.conv2d(x, self.weight, padding=1)

    torch.manual_seed(0)
    pool = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Own(), nn.ReLU(), nn.Conv2d(8, 4, 1), *pool).eval()
    table = trace(net, (3, 8, 8))
    assert table.layers[table.head].name == "4"
    assert [entry.name for entry in methods.last_conv(table).layers] == ["2"]
    policy = methods.tinytrain(table, net, torch.randn(8, 3, 8, 8), torch.arange(8) % 4, compute=1.0)
    assert [entry.name for entry in policy.layers] == ["0", "2"]
    assert not any(module._forward_hooks for module in net.modules())
