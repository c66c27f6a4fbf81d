"""TinyTL's accounting, to the printed digit (Cai et al. 2020, tables of memory costs)."""

import numpy as np
import pytest

from tinysearch.devices.accountings import tinytl
from tinysearch.spaces import methods
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.backbones.proxylessnas import ProxylessNASMobile
from tinysearch.spaces.policy import Channels, LayerUpdate
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import trace

METHODS = {
    "Full": methods.full,
    "Norm+Last": methods.norm_last,
    "Last": methods.last,
    "B": lambda found: methods.tinytl(found, "B"),
    "L": lambda found: methods.tinytl(found, "L"),
    "L+B": methods.tinytl,
}


@pytest.fixture(scope="module")
def proxyless():
    """ProxylessNAS-Mobile with group norms and a head of 102 classes, by resolution."""
    return {size: trace(ProxylessNASMobile(102, norm="group"), (3, size, size)) for size in (160, 224)}


def account(found, method, batch=8, **options):
    return tinytl.count(UpdateTable.of(found, [METHODS[method](found)]), batch, **options)


def megabytes(value, digits):
    return round(float(value[0]) / 1e6, digits)


@pytest.mark.parametrize(
    ("size", "published"),
    [(160, (208.7, 100.7, 18.2, 18.7, 24.1, 24.2)), (224, (390.8, 192.4, 30.8, 31.7, 37.1, 37.1))],
)
def test_the_table_of_memory(proxyless, size, published):
    totals = tuple(megabytes(account(proxyless[size], method).total, 1) for method in METHODS)
    assert totals == published


def test_batch_one(proxyless):
    assert megabytes(account(proxyless[224], "L+B", batch=1).total, 1) == 13.9


def test_full_without_inserted_modules(proxyless):
    assert megabytes(account(proxyless[224], "Full", insert_modules=False).total, 1) == 367.0


@pytest.mark.parametrize(
    ("method", "peak", "stored", "parameters", "trainable", "frozen"),
    [
        ("Full", 46.482, 46.244, 18.98636, 4_746_590, 0),
        ("Last", 3.211, 0.005, 5.138576, 130_662, 4_615_928),
        ("L+B", 3.312, 2.666, 10.63352, 1_962_310, 2_784_280),
    ],
)
def test_the_parts(proxyless, method, peak, stored, parameters, trainable, frozen):
    parts = account(proxyless[224], method).parts
    assert megabytes(parts["peak_per_sample_bytes"], 3) == peak
    assert megabytes(parts["stored_per_sample_bytes"], 3) == stored
    assert parts["parameters_bytes"][0] == round(parameters * 1e6)
    assert (parts["trainable_parameters"][0], parts["frozen_parameters"][0]) == (trainable, frozen)


def test_norms_of_the_backbone_may_be_of_either_kind(proxyless):
    batch_norms = trace(load_backbone("proxylessnas-mobile", num_classes=102), (3, 160, 160))
    for method in METHODS:
        assert account(batch_norms, method).total == account(proxyless[160], method).total


def test_ties_at_batch_eight_are_a_forward_temporary(proxyless):
    """Beware: B, L and L+B peak at the first expansion, whatever they store."""
    for method in ("B", "L", "L+B"):
        found = account(proxyless[224], method)
        assert proxyless[224].rows[found.peak_row[0]].name == "blocks.1.mobile_inverted_conv.inverted_bottleneck.conv"


def test_many_policies_are_counted_as_one_by_one(proxyless):
    found = proxyless[160]
    policies = [make(found) for make in METHODS.values()]
    together = tinytl.count(UpdateTable.of(found, policies), 8)
    alone = [tinytl.count(UpdateTable.of(found, [policy]), 8) for policy in policies]
    np.testing.assert_array_equal(together.total, [one.total[0] for one in alone])
    np.testing.assert_array_equal(together.stored, np.concatenate([one.stored for one in alone]))


def test_what_a_policy_has_is_left_as_it_is(proxyless):
    """A module of the policy's own is neither doubled nor changed, and the given table is not touched."""
    found = proxyless[160]
    table = UpdateTable.of(found, [methods.tinytl(found, "L"), methods.last(found)])
    before = table.present.copy(), table.bias.copy()
    counted = tinytl.count(table, 1).table
    np.testing.assert_array_equal(counted.bias[0], table.bias[0])
    np.testing.assert_array_equal(table.present, before[0])
    np.testing.assert_array_equal(table.bias, before[1])
    np.testing.assert_array_equal(counted.present[0], counted.present[1])


def test_bits_and_channels_that_the_paper_does_not_know(small_trace):
    """A sign mask is one bit an element, h-swish else fp32; a weight of some input channels stores those."""
    head = methods.last(small_trace)
    row = small_trace.index["blocks.0.expand.0"]
    layer = small_trace.rows[row]
    whole, half = (
        head.model_copy(update={"layers": (LayerUpdate(name=layer.name, weight=weight),)})
        for weight in ("all", Channels(axis="in", index=tuple(range(layer.in_channels // 2))))
    )
    masked = whole.model_copy(update={"sign_masks": ("blocks.0.expand.2",)})
    stored = tinytl.count(UpdateTable.of(small_trace, [whole, half, masked]), 1).stored
    assert stored[0, row] == 2 * stored[1, row] == 4 * layer.in_elements
    act = small_trace.index["blocks.0.expand.2"]
    elements = small_trace.rows[act].in_elements
    assert (stored[0, act], stored[2, act]) == (4 * elements, -(-elements // 8))
