"""Networks with group norms and standardised weights: their conversion, their gradients, their bytes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tinysearch.core.errors import InputError, UnsupportedError
from tinysearch.devices.measure import measure
from tinysearch.devices.step.saved import saved_bytes
from tinysearch.spaces import methods
from tinysearch.spaces.backbones.group_norm import to_group_norm
from tinysearch.spaces.engine.apply import apply
from tinysearch.spaces.policy import LayerUpdate
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.standardised import StandardisedConv2d
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace


@pytest.fixture(scope="module")
def converted(mobilenet):
    return to_group_norm(mobilenet).double()


@pytest.fixture(scope="module")
def found(converted):
    return trace(converted, (3, 32, 32))


def test_conversion(mobilenet, converted):
    before, after = dict(mobilenet.named_parameters()), dict(converted.named_parameters())
    assert before.keys() == after.keys()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in converted.modules())
    norms = [module for module in converted.modules() if isinstance(module, nn.GroupNorm)]
    assert all(norm.num_channels // norm.num_groups == 8 for norm in norms if norm.num_channels % 8 == 0)
    convs = [module for module in converted.modules() if isinstance(module, nn.Conv2d)]
    assert len(norms) == len(convs)
    assert all(type(conv) is StandardisedConv2d for conv in convs)
    assert any(isinstance(module, nn.BatchNorm2d) for module in mobilenet.modules()), "the original is unchanged"
    plain = to_group_norm(mobilenet, weight_standardisation=False)
    assert not any(isinstance(module, StandardisedConv2d) for module in plain.modules())


def test_a_standardised_weight_has_mean_0_and_deviation_1():
    """Scale and offset of a row of the weight do not matter to the output."""
    torch.manual_seed(0)
    conv = StandardisedConv2d(nn.Conv2d(4, 6, 3, bias=False))
    x = torch.randn(2, 4, 8, 8)
    rows = conv.weight.detach().flatten(1)
    expected = (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True)
    torch.testing.assert_close(conv(x), F.conv2d(x, expected.view_as(conv.weight)), rtol=1e-3, atol=1e-3)


def test_convs_that_no_norm_reads_stay_as_they_are(squeeze_net):
    model = to_group_norm(squeeze_net)
    assert type(model.blocks[0].squeeze) is nn.Conv2d
    assert type(model.blocks[0].expand) is StandardisedConv2d


@pytest.mark.parametrize("method", ["full", "bias", "mobiletl-2", "tinytl-L+B"])
def test_gradients_equal_pytorchs(converted, found, method):
    policy = methods.named(found)[method].model_copy(update={"sign_masks": ()})
    model = apply(converted, policy).train().double()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    reference = to_group_norm(converted)  # norms are group norms already: a copy
    reference.requires_grad_(True)
    for network in (model, reference):
        F.cross_entropy(network(images), torch.arange(3)).backward()
    expected = dict(reference.named_parameters())
    checked = 0
    for name, parameter in model.named_parameters():
        # The last norm of a lite residual module starts at 0: the other gradients are as if it was not there.
        if parameter.requires_grad and "lite_residual" not in name:
            torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-6, atol=1e-9)
            checked += 1
    assert checked


def test_predicted_bytes_equal_measured(mobilenet):
    model = to_group_norm(mobilenet)
    found = trace(model, (3, 33, 33))
    space = UpdateSpace(found)
    for seed in range(6):
        policy = space.decode(space.sample(1, seed)[0])
        predicted = int(saved_bytes(UpdateTable.of(found, [policy]), 2).sum())
        images = torch.randn(2, 3, 33, 33)
        assert measure(apply(model, policy), images, torch.arange(2), repeats=1).saved_bytes == predicted


def test_wrong_conversions_and_slices_are_refused(mobilenet, converted, found):
    with pytest.raises(InputError, match="at least 1"):
        to_group_norm(mobilenet, 0)
    entry = LayerUpdate(name="features.0.0", weight={"axis": "out", "index": (0,)})
    policy = methods.last(found).model_copy(update={"layers": (entry,)})
    with pytest.raises(UnsupportedError, match="standardises"):
        apply(converted, policy)
    with pytest.raises(InputError, match="standardises"):
        UpdateTable.of(found, [policy])
