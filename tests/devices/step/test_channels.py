"""Chains: which rows run by channels, and what that needs."""

import pytest

from tinysearch.devices.profile import load_device
from tinysearch.devices.profile.model import Schedule
from tinysearch.devices.step.channels import CHANNELS
from tinysearch.devices.step.compiler import compile_step
from tinysearch.devices.step.setting import StepSetting
from tinysearch.devices.step.tensors import Kind
from tinysearch.devices.step.walk import Phase
from tinysearch.spaces import methods
from tinysearch.spaces.backbones.catalogue import load_backbone
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import Trace, trace


@pytest.fixture(scope="module")
def profile():
    found = load_device("cortex-m7-fp32")
    schedule = Schedule(fused_updates=True, by_channels=True)
    return found.model_copy(update={"memory": found.memory.model_copy(update={"schedule": schedule})})


def _chains(found: Trace, profile):
    chains = StepSetting(found, profile, 1, "sgd").chains
    return {found.rows[last].name: chain for last, chain in chains.items()}


def test_every_inverted_residual_and_the_head_run_by_channels(mobilenet_trace, profile):
    chains = _chains(mobilenet_trace, profile)
    assert len(chains) == len(mobilenet_trace.blocks) + 1
    chain = chains["features.3.conv.2"]
    assert [mobilenet_trace.rows[row].name.removeprefix("features.3.conv.") for row in chain.rows] == [
        "0.0", "0.1", "0.2", "1.0", "1.1", "1.2", "2"
    ]  # fmt: skip
    assert chain.expands
    assert chain.projects
    expanded, narrowed = (
        mobilenet_trace.rows[mobilenet_trace.index[f"features.3.conv.{name}"]] for name in ("0.0", "1.0")
    )
    pixels = [layer.out_elements // layer.out_channels for layer in (expanded, narrowed)]
    assert chain.maps == tuple(CHANNELS * count for count in pixels)
    assert [elements for _, elements in chain.gradient_maps] == [CHANNELS * count for count in reversed(pixels)]
    head = [mobilenet_trace.rows[row].name for row in chains["mean"].rows]
    assert head == ["features.18.0", "features.18.1", "features.18.2", "mean"]


def test_a_squeeze_needs_all_channels_of_its_map_at_once(profile):
    found = trace(load_backbone("mobilenetv3-small", num_classes=10, input_size=48), (3, 48, 48))
    chains = _chains(found, profile)
    assert any(not chain.projects for chain in chains.values())
    for chain in chains.values():
        inner = set(chain.rows[:-1])
        readers = [row for row in found.order for source in found.rows[row].inputs if source in inner]
        assert set(readers) <= set(chain.rows)


def test_a_lite_residual_module_is_added_to_the_last_row_of_a_chain(profile):
    found = trace(load_backbone("mcunet-5fps", num_classes=10, input_size=48), (3, 48, 48))
    table = UpdateTable.of(found, [methods.named(found)["tinytl-L"]])
    program = compile_step(table, profile, 1, "sgd")
    added = {block.lite[-1] for block in found.blocks if block.lite}
    reads = {
        program.tensors[number].row
        for step in program.operations
        if step.phase == Phase.FORWARD_BY_CHANNELS
        for number in step.reads
    }
    assert reads & added


def test_no_expanded_map_nor_its_gradient_exists_where_none_is_kept(mobilenet_trace, profile):
    table = UpdateTable.of(mobilenet_trace, [methods.bias(mobilenet_trace)])
    program = compile_step(table, profile, 1, "sgd")
    inner = {
        row for chain in StepSetting(mobilenet_trace, profile, 1, "sgd").chains.values() for row in chain.rows[:-1]
    }
    whole = [t for t in program.tensors if t.row in inner and t.kind in (Kind.ACTIVATION, Kind.GRADIENT)]
    assert not whole
    assert {t.row for t in program.tensors if t.kind == Kind.KEPT} & inner  # their masks are
