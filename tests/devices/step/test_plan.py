"""Plans: nothing that lives at once overlaps, nothing straddles a border, and little is wasted."""

import json
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysearch.devices.breakdown import estimate
from tinysearch.devices.costs import cost_table, planned_costs
from tinysearch.devices.profile import load_device
from tinysearch.devices.step.compiler import compile_step
from tinysearch.devices.step.plan import Area, Plan, arena_bytes, find_areas, find_plan, make_plan
from tinysearch.devices.step.program import Operation, Program, Tensor
from tinysearch.devices.step.setting import StepSetting
from tinysearch.devices.step.tensors import Kind
from tinysearch.devices.step.walk import Phase
from tinysearch.spaces import methods
from tinysearch.spaces.table import UpdateTable


def _overlaps(plan: Plan) -> list[tuple[int, int]]:
    """Pairs of buffers that share a byte in an operation in which both have it."""
    taken = [
        (number, place.area, place.offset, place.offset + size, first, last)
        for number, (place, buffer) in enumerate(zip(plan.places, plan.program.buffers, strict=True))
        for size, first, last in buffer.spans
    ]
    return [
        (i, j)
        for (i, area, start, end, first, last), (j, *other) in combinations(taken, 2)
        if i != j and area == other[0] and first <= other[4] and other[3] <= last
        if start < other[2] and other[1] < end
    ]


@pytest.fixture(scope="module")
def setting(small_trace) -> StepSetting:
    return StepSetting(small_trace, load_device("cortex-m7-int8"), 1, "sgd")


@settings(max_examples=60, deadline=None)
@given(
    tensors=st.lists(st.tuples(st.integers(1, 90), st.integers(0, 11), st.integers(0, 6)), min_size=1, max_size=25),
    capacities=st.lists(st.integers(20, 400), min_size=1, max_size=3),
)
def test_no_two_tensors_that_live_at_once_overlap(setting, tensors, capacities):
    operations = tuple(Operation(Phase.FORWARD, 0, (), (), (0,)) for _ in range(18))
    program = Program(
        setting,
        operations,
        tuple(Tensor(Kind.GRADIENT, 0, 4 * b, f, f + more, n) for n, (b, f, more) in enumerate(tensors)),
    )
    areas = tuple(Area(f"A{n}", size * 4) for n, size in enumerate(capacities))
    for plan in (make_plan(program), make_plan(program, areas)):
        assert not _overlaps(plan)
        assert plan.size >= program.peak_bytes == plan.lower_bound
        assert all(place.offset >= 0 for place in plan.places)
    # Only the first area may be overfull, and only if nothing had room for the tensor.
    assert all(used <= area.size for used, area in zip(plan.sizes[1:], areas[1:], strict=True))
    assert plan.fits == (plan.sizes[0] <= areas[0].size)


@settings(max_examples=60, deadline=None)
@given(
    chains=st.lists(
        st.lists(st.tuples(st.integers(1, 90), st.integers(0, 4)), min_size=1, max_size=4), min_size=1, max_size=15
    ),
    starts=st.lists(st.integers(0, 9), min_size=15, max_size=15),
)
def test_what_takes_the_place_of_a_larger_tensor_leaves_the_rest_to_others(setting, chains, starts):
    operations = tuple(Operation(Phase.FORWARD, 0, (), (), (0,)) for _ in range(30))
    tensors = []
    for number, (chain, start) in enumerate(zip(chains, starts, strict=False)):
        first, size = start, 10_000
        for bytes_, more in chain:
            size = min(size, 4 * bytes_)
            tensors.append(Tensor(Kind.ACTIVATION, 0, size, first, first + more, number))
            first += more
    program = Program(setting, operations, tuple(tensors))
    live = [
        sum(
            max((t.bytes for t in tensors if t.buffer == n and t.first <= place <= t.last), default=0)
            for n in range(len(chains))
        )
        for place in range(30)
    ]
    assert program.live_bytes.tolist() == live
    plan = make_plan(program)
    assert not _overlaps(plan)
    assert plan.size >= program.peak_bytes == max(live)


@pytest.mark.parametrize("method", ["full", "bias", "last", "norm+last", "tinytl-L+B", "mobiletl-2", "mobiletl-5"])
def test_plans_of_the_methods_are_as_small_as_can_be(mobilenet_trace, method):
    table = UpdateTable.of(mobilenet_trace, [methods.named(mobilenet_trace)[method]])
    plan = make_plan(compile_step(table, load_device("cortex-m7-int8"), 1, "sgd"))
    assert not _overlaps(plan)
    assert plan.gap < 0.01
    assert all(place.offset % 4 == 0 for place in plan.places)


def test_random_policies_waste_little(small_trace, random_policy):
    profile = load_device("cortex-m7-int8")
    table = UpdateTable.of(small_trace, [random_policy(small_trace, seed) for seed in range(12)])
    peaks, sizes = cost_table(table, profile).peak_bytes, arena_bytes(table, profile, 1, "sgd")
    assert (sizes >= peaks).all()
    assert (sizes <= 1.1 * peaks).all()
    assert (planned_costs(table, profile).peak_bytes == sizes).all()
    eager = load_device("rpi4")
    assert (planned_costs(table, eager).peak_bytes == cost_table(table, eager).peak_bytes).all()


def test_an_estimate_tells_the_arena_and_what_the_peak_is_made_of(mobilenet_trace):
    policy = methods.bias(mobilenet_trace)
    cost = estimate(mobilenet_trace, policy, load_device("cortex-m7-int8"))
    assert cost.arena_bytes is not None
    assert cost.arena_bytes >= cost.peak_bytes == sum(cost.peak_parts.values())
    eager = estimate(mobilenet_trace, policy, load_device("rpi4"))
    assert eager.arena_bytes is None
    assert sum(eager.peak_parts.values()) == eager.peak_bytes
    assert {"weights", "optimizer state", "saved", "gradients"} <= set(eager.peak_parts)


def test_areas_are_the_pieces_that_a_tensor_can_lie_in():
    areas = find_areas(load_device("cortex-m7-int8"))
    assert [(area.name, area.size) for area in areas] == [("SRAM1+SRAM2", 256 * 1024), ("DTCM", 64 * 1024)]
    assert find_areas(load_device("rpi4")) == (Area("RAM", 4 * 2**30),)


def test_what_an_area_cannot_hold_goes_into_the_next(mobilenet_trace):
    table = UpdateTable.of(mobilenet_trace, [methods.last(mobilenet_trace)])
    program = compile_step(table, load_device("cortex-m7-int8"), 1, "sgd")
    areas = (Area("A", program.peak_bytes - 4), Area("B", 64 * 1024))
    plan = make_plan(program, areas)
    assert plan.fits
    assert not _overlaps(plan)
    assert all(plan.sizes)
    assert not make_plan(program, areas[:1]).fits


def test_the_file_has_what_a_generator_of_code_needs(mobilenet_trace, tmp_path):
    table = UpdateTable.of(mobilenet_trace, [methods.bias(mobilenet_trace)])
    plan = make_plan(compile_step(table, load_device("cortex-m7-int8"), 1, "sgd"))
    plan.save(tmp_path / "plan.json")
    content = json.loads((tmp_path / "plan.json").read_text())
    assert (content["format"], content["version"]) == ("tinysearch.plan", 1)
    assert content["areas"][0]["used"] == plan.size
    assert max(t["offset"] + t["bytes"] for t in content["tensors"]) == plan.size
    names = {layer.name for layer in mobilenet_trace.rows}
    assert {layer for step in content["steps"] for layer in (step["layer"], *step["layers"])} <= names
    for number, step in enumerate(content["steps"]):
        for tensor in (content["tensors"][n] for n in (*step["reads"], *step["writes"])):
            assert tensor["first"] <= number <= tensor["last"]


def test_a_step_that_fits_no_single_area_is_spread_over_all(mobilenet_trace):
    table = UpdateTable.of(mobilenet_trace, [methods.last(mobilenet_trace)])
    device = load_device("cortex-m7-int8")

    def plan(size: int) -> Plan:
        """With no region of more than so many bytes, and none that adjoins another."""
        regions = tuple(r.model_copy(update={"size": size, "adjoins": False}) for r in device.memory.regions)
        memory = device.memory.model_copy(update={"regions": regions})
        return find_plan(make_plan(compile_step(table, device.model_copy(update={"memory": memory}), 1, "sgd")))

    peak = compile_step(table, device, 1, "sgd").peak_bytes
    spread = plan(peak - 4)
    assert spread.fits
    assert len(spread.areas) == len(device.memory.regions) > 1
    assert len(plan(peak).areas) == 1
    nowhere = plan(1024)
    assert not nowhere.fits
    assert len(nowhere.areas) == 1
