"""Accountings by name: what `estimate` and `cost_table` give under each."""

import numpy as np
import pytest

from tinysearch.core.errors import InputError
from tinysearch.devices.accountings import ACCOUNTINGS, Accounting
from tinysearch.devices.breakdown import estimate
from tinysearch.devices.costs import cost_table
from tinysearch.devices.profile import load_device
from tinysearch.devices.step.saved import Kept
from tinysearch.spaces import methods
from tinysearch.spaces.table import UpdateTable

PAPERS = {name: rules for name, rules in ACCOUNTINGS.loaded().items() if rules.count is not None}


@pytest.fixture(scope="module")
def device():
    return load_device("rpi4")


@pytest.mark.parametrize("name", ACCOUNTINGS)
@pytest.mark.parametrize("method", ["last", "bias", "full", "tinytl", "mobiletl"])
def test_layers_add_up_and_one_is_as_many(mobilenet_trace, device, name, method):
    policy = getattr(methods, method)(mobilenet_trace)
    cost = estimate(mobilenet_trace, policy, device, batch=4, accounting=name)
    assert cost.accounting == name
    assert sum(layer.saved_bytes for layer in cost.by_layer()) == cost.saved_bytes
    assert bool(cost.peak_at) == (name in ("tinysearch", "eager", "tinytl"))
    table = UpdateTable.of(mobilenet_trace, [methods.last(mobilenet_trace), policy])
    costs = cost_table(table, device, batch=4, accounting=name)
    for field in ("saved_bytes", "peak_bytes", "flash_bytes", "macs", "latency_s", "energy_j"):
        assert getattr(costs, field)[1] == pytest.approx(getattr(cost, field), rel=1e-12), field


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_counts_memory_and_leaves_the_rest(mobilenet_trace, random_policy, device, name):
    table = UpdateTable.of(mobilenet_trace, [random_policy(mobilenet_trace, seed) for seed in range(12)])
    own, theirs = cost_table(table, device, batch=2), cost_table(table, device, batch=2, accounting=name)
    for field in ("flash_bytes", "latency_s", "energy_j"):
        np.testing.assert_array_equal(getattr(own, field), getattr(theirs, field))
    account = PAPERS[name].count(table, 2)
    np.testing.assert_array_equal(theirs.peak_bytes, account.total)
    np.testing.assert_array_equal(theirs.saved_bytes, account.stored.sum(1))
    counted = own.macs if account.macs is None else account.macs
    np.testing.assert_array_equal(theirs.macs, counted)
    assert (account.stored >= 0).all()
    assert all(len(values) == 12 for values in account.parts.values())


def test_modules_that_are_only_counted_cost_no_time(mobilenet_trace, device):
    cost = estimate(mobilenet_trace, methods.last(mobilenet_trace), device, accounting="tinytl")
    inserted = [layer for layer in cost.by_layer() if ".lite_residual." in layer.name]
    assert inserted
    assert all(layer.seconds == layer.macs_forward == layer.saved_bytes == 0 for layer in inserted)
    assert cost.parts["trainable_parameters"] == mobilenet_trace.layers[mobilenet_trace.head].params


def test_an_unknown_accounting_is_refused(mobilenet_trace, device):
    with pytest.raises(InputError, match="no accounting named 'tinyml': there are tinysearch, eager, tinytl"):
        estimate(mobilenet_trace, methods.last(mobilenet_trace), device, accounting="tinyml")


def test_sizes_are_printed_in_the_papers_unit():
    printed = {name: entry.format(entry.unit_bytes * 1.5) for name, entry in PAPERS.items()}
    assert printed == {
        "tinytl": "1.500 MB",
        "mobiletl": "1.500 MB",
        "tinytrain": "1.500 MiB",
        "sparse-update": "1.500 kB",
    }


def test_an_added_accounting_says_what_it_sees_and_keeps(mobilenet_trace, random_policy, device):
    """Costs, and the breakdown of one policy, ask the accounting and not its name."""
    frozen = Accounting("head-alone", "whatever trains", "here", see=lambda t: UpdateTable.frozen(t.trace, len(t)))
    nothing = Accounting("nothing-kept", "nothing", "here", keep=lambda table, batch, element: Kept(len(table)))
    policies = [random_policy(mobilenet_trace, seed) for seed in (1, 7)]
    table, last = UpdateTable.of(mobilenet_trace, policies), UpdateTable.frozen(mobilenet_trace, 2)
    for accounting in (frozen, nothing):
        ACCOUNTINGS.add(accounting.name, accounting)
    try:
        seen = cost_table(table, device, batch=2, accounting=frozen.name)
        np.testing.assert_array_equal(seen.peak_bytes, cost_table(last, device, batch=2).peak_bytes)
        assert not cost_table(table, device, batch=2, accounting=nothing.name).saved_bytes.any()
        for n, policy in enumerate(policies):
            alone = estimate(mobilenet_trace, policy, device, batch=2, accounting=frozen.name)
            assert alone.peak_bytes == seen.peak_bytes[n] == sum(alone.peak_parts.values())
            assert not any(layer.trains for layer in alone.by_layer()[:-1])
            assert estimate(mobilenet_trace, policy, device, batch=2, accounting=nothing.name).saved_bytes == 0
    finally:
        for accounting in (frozen, nothing):
            ACCOUNTINGS.remove(accounting.name)


def test_an_accounting_is_no_function():
    with pytest.raises(InputError, match="where an Accounting is needed"):
        ACCOUNTINGS.add("mine", lambda table, batch: None)
