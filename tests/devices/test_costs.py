"""One path for one policy and for many, breakdowns that add up, and times that never fall as more trains."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysearch.core.errors import InputError
from tinysearch.devices.breakdown import estimate, smallest
from tinysearch.devices.costs import Costs, cost_rows, cost_table, planned_costs
from tinysearch.devices.latency.energy import extra_joules, step_joules
from tinysearch.devices.profile import load_device
from tinysearch.spaces import methods
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.table import UpdateTable

FIELDS = ("saved_bytes", "peak_bytes", "flash_bytes", "macs", "latency_s", "energy_j")
#: One of each family; the others are like these with other numbers.
DEVICES = ("cortex-m7-int8", "jetson-nano", "rpi4")


@pytest.mark.parametrize("device", DEVICES)
def test_one_policy_equals_many(mobilenet_trace, random_policy, device):
    profile = load_device(device)
    policies = [random_policy(mobilenet_trace, seed) for seed in range(12)]
    costs = cost_table(UpdateTable.of(mobilenet_trace, policies), profile)
    assert len(costs) == 12
    for n, policy in enumerate(policies):
        one = estimate(mobilenet_trace, policy, profile)
        for name in FIELDS:
            assert getattr(costs, name)[n] == pytest.approx(getattr(one, name), rel=1e-12), (n, name)


def test_chunks_change_nothing(mobilenet_trace, random_policy, monkeypatch):
    profile = load_device("rpi4")
    table = UpdateTable.of(mobilenet_trace, [random_policy(mobilenet_trace, seed) for seed in range(9)])
    whole = cost_table(table, profile)
    monkeypatch.setattr("tinysearch.devices.costs.CHUNK", 4)
    parts = cost_table(table, profile)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name), rtol=1e-12)


@pytest.mark.parametrize("device", ["cortex-m7-int8", "rpi4"])
def test_rows_cost_what_their_tables_cost_whatever_their_order(small_trace, monkeypatch, device):
    space, profile = UpdateSpace(small_trace), load_device(device)
    rows = np.concatenate([space.sample(40, seed=5), np.zeros((1, len(space)), np.int64)])
    whole = cost_table(space.table(rows), profile)
    monkeypatch.setattr("tinysearch.devices.costs.CHUNK", 7)
    parts = cost_rows(space, rows, profile)
    alone = [cost_rows(space, row, profile) for row in rows]
    for name in FIELDS:
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12)
        np.testing.assert_allclose([getattr(one, name)[0] for one in alone], getattr(whole, name), rtol=1e-12)
    assert len(cost_rows(space, rows[:0], profile)) == 0
    with pytest.raises(InputError, match="not in 0"):
        cost_rows(space, rows - 1, profile)


def test_no_policies_cost_nothing(mobilenet_trace):
    costs = cost_table(UpdateTable.of(mobilenet_trace, []), load_device("rpi4"))
    assert isinstance(costs, Costs)
    assert all(len(getattr(costs, name)) == 0 for name in FIELDS)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", ["last", "bias", "full", "tinytl"])
def test_layers_add_up(mobilenet_trace, device, method):
    profile = load_device(device)
    cost = estimate(mobilenet_trace, getattr(methods, method)(mobilenet_trace), profile)
    layers = cost.by_layer()
    assert sum(layer.saved_bytes for layer in layers) == cost.saved_bytes
    assert sum(layer.macs_forward + layer.macs_dx + layer.macs_dw for layer in layers) == cost.macs
    assert sum(layer.seconds for layer in layers) == pytest.approx(cost.latency_s)
    assert sum(bool(layer.peak) for layer in layers) == 1
    assert cost.peak_at.split(" of ")[1] in {layer.name for layer in layers}


def test_macs_are_those_of_the_passes(mobilenet_trace):
    profile = load_device("rpi4")
    forward = mobilenet_trace.macs_forward
    head = mobilenet_trace.layers[mobilenet_trace.head].macs_forward
    stem = mobilenet_trace.layers[0].macs_forward
    assert estimate(mobilenet_trace, methods.last(mobilenet_trace), profile, batch=4).macs == 4 * (forward + head)
    # Everything twice again, but for the gradient of the image.
    assert estimate(mobilenet_trace, methods.full(mobilenet_trace), profile, batch=4).macs == 4 * (3 * forward - stem)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), device=st.sampled_from(DEVICES), optimizer=st.sampled_from(["sgd", "adam"]))
def test_training_more_never_takes_less(mobilenet_trace, random_policy, data, device, optimizer):
    policy = random_policy(mobilenet_trace, data.draw(st.integers(0, 40)))
    row = data.draw(st.sampled_from([n for n, layer in enumerate(mobilenet_trace.layers) if layer.params]))
    table = UpdateTable.of(mobilenet_trace, [policy, policy])
    table.train_whole(row, 1)
    costs = cost_table(table, load_device(device), optimizer=optimizer)
    assert costs.latency_s[1] >= costs.latency_s[0]
    assert costs.macs[1] >= costs.macs[0]


def test_a_frozen_prefix_costs_its_forward_pass_alone(mobilenet_trace):
    cost = estimate(mobilenet_trace, methods.last(mobilenet_trace), load_device("cortex-m7-int8"))
    *prefix, head = cost.by_layer()
    assert all(layer.macs_dx == layer.macs_dw == layer.saved_bytes == 0 for layer in prefix if layer.kind == "conv")
    assert (head.trains, head.macs_dx, head.macs_dw) == ("weight, bias", 0, head.macs_forward)


def test_the_smallest_policy_is_the_head(mobilenet_trace):
    profile = load_device("cortex-m7-int8")
    least = smallest(mobilenet_trace, profile)
    assert least == estimate(mobilenet_trace, methods.last(mobilenet_trace), profile, optimizer=profile.optimizer)
    assert least.peak_bytes <= profile.memory.budget.value


def test_energy_is_power_times_time():
    profile = load_device("rpi4")
    seconds = np.array([0.0, 2.0])
    np.testing.assert_allclose(step_joules(seconds, profile), [0, 2 * profile.power.active.value])
    idle = profile.power.idle.value
    np.testing.assert_allclose(extra_joules(seconds, profile), step_joules(seconds, profile) - idle * seconds)


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_without_samples_is_refused(mobilenet_trace, batch):
    with pytest.raises(InputError, match="batch"):
        smallest(mobilenet_trace, load_device("rpi4"), batch=batch)


def test_an_arena_is_planned_beside_the_peak_and_is_what_must_fit(mobilenet_trace, random_policy):
    table = UpdateTable.of(mobilenet_trace, [random_policy(mobilenet_trace, seed) for seed in range(8)])
    profile = load_device("cortex-m7-int8")
    plain, planned = cost_table(table, profile), planned_costs(table, profile)
    np.testing.assert_array_equal(plain.peak_bytes, planned.peak_bytes)
    assert plain.arena_bytes is None
    np.testing.assert_array_equal(plain.memory_bytes, plain.peak_bytes)
    assert (planned.arena_bytes >= planned.peak_bytes).all()
    np.testing.assert_array_equal(planned.memory_bytes, planned.arena_bytes)
    assert planned_costs(table, load_device("rpi4")).arena_bytes is None


@pytest.mark.parametrize("accounting", ["tinysearch", "eager"])
@pytest.mark.parametrize("device", ["cortex-m7-int8", "rpi4"])
def test_the_plan_is_that_of_the_step_whose_peak_is_told(mobilenet_trace, device, accounting):
    """A peak of 521 KiB beside a plan of 218 KiB that "fits" was that of another step."""
    cost = estimate(mobilenet_trace, methods.bias(mobilenet_trace), load_device(device), accounting=accounting)
    assert cost.plan.lower_bound == cost.program.peak_bytes == cost.peak_bytes == sum(cost.peak_parts.values())
    assert cost.arena_bytes == (cost.plan.size if device == "cortex-m7-int8" else None)
    assert cost.plan.size >= cost.peak_bytes


def test_a_policys_own_training_is_honoured_and_an_argument_wins(mobilenet_trace):
    profile, policy = load_device("cortex-m7-int8"), methods.mobiletl(mobilenet_trace, 1)
    assert policy.training.optimizer is policy.training.batch is None
    device = estimate(mobilenet_trace, policy, profile)
    assert device.peak_bytes == estimate(mobilenet_trace, policy, profile, batch=1, optimizer="sgd").peak_bytes
    stated = policy.with_training(optimizer="adam", batch=3)
    own = estimate(mobilenet_trace, stated, profile)
    assert own.peak_bytes == estimate(mobilenet_trace, policy, profile, batch=3, optimizer="adam").peak_bytes
    assert own.peak_bytes > device.peak_bytes
    assert estimate(mobilenet_trace, stated, profile, batch=1, optimizer="sgd").peak_bytes == device.peak_bytes
