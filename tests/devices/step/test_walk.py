"""The one description of a step: what holds of its operations in every policy, and what each kind of runtime does."""

import numpy as np
import pytest

from tinysearch.devices.accountings import eager
from tinysearch.devices.profile import load_device
from tinysearch.devices.step.columns import both, either, masks, times, without
from tinysearch.devices.step.saved import find_kept
from tinysearch.devices.step.setting import StepSetting
from tinysearch.devices.step.tensors import PERSISTENT, Kind, StepTensors
from tinysearch.devices.step.walk import Phase, walk
from tinysearch.spaces.space import UpdateSpace
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import INPUT

COUNT = 40


def _table(found) -> UpdateTable:
    space = UpdateSpace(found)
    return space.table(space.sample(COUNT, seed=3))


def _tensors(found, device, *, plain=False) -> StepTensors:
    table, profile = _table(found), load_device(device)
    table = eager.plain_table(table) if plain else table
    kept = (eager.find_kept if plain else find_kept)(table, 2, profile.memory.dtypes.activation)
    return StepTensors(table, kept, StepSetting(found, profile, 2, "sgd"))


def _all(mask) -> np.ndarray:
    return np.zeros(COUNT, np.bool_) | mask


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("device", ["cortex-m7-int8", "rpi4"])
@pytest.mark.parametrize("network", ["mobilenet_trace", "small_trace"])
def test_what_is_read_has_been_written_by_an_operation_that_ran(request, network, device, plain):
    tensors = _tensors(request.getfixturevalue(network), device, plain=plain)
    written = {(Kind.ACTIVATION, INPUT): _all(True)}
    for operation in walk(tensors):
        for key, mask in (*operation.reads.items(), *operation.writes.items()):
            assert not (_all(mask) & ~_all(operation.runs)).any(), (operation.phase, key)
        for key, mask in operation.reads.items():
            if key[0] not in PERSISTENT:
                assert not (_all(mask) & ~written.get(key, _all(False))).any(), (operation.phase, key)
        for key, mask in operation.writes.items():
            written[key] = written.get(key, _all(False)) | mask
        for new, old in operation.in_place:
            assert new in operation.writes or new[1] == INPUT or not tensors.table.live[:, new[1]].any()
            assert old in operation.reads
    # An array of sizes is 0 wherever the tensor is not, which spares the sums a mask.
    for key, where in written.items():
        size = tensors.size(key)
        assert isinstance(size, int) or not size[~where].any(), key


@pytest.mark.parametrize("device", ["cortex-m7-int8", "rpi4"])
def test_all_that_is_kept_is_read_by_the_row_that_keeps_it(mobilenet_trace, device):
    tensors = _tensors(mobilenet_trace, device, plain=True)
    read: dict[tuple[int, int], np.ndarray] = {}
    for operation in walk(tensors):
        if operation.phase not in (Phase.FORWARD, Phase.LOSS, Phase.UPDATE):
            for (kind, tensor), mask in operation.reads.items():
                if kind == Kind.ACTIVATION:
                    place = operation.row, tensor
                    read[place] = read.get(place, _all(False)) | mask
    for tensor, holders in tensors.kept.holders.items():
        for row, keeps in holders:
            np.testing.assert_array_equal(read.get((row, tensor), _all(False)), _all(keeps))


def test_a_layer_that_trains_gives_up_what_it_keeps_before_its_input_gradient(mobilenet_trace):
    """A frozen convolution of plain PyTorch keeps its input too: that goes with its input gradient."""
    tensors = _tensors(mobilenet_trace, "cortex-m7-int8", plain=True)
    row = mobilenet_trace.index["features.17.conv.0.0"]
    kept = (Kind.ACTIVATION, mobilenet_trace.rows[row].inputs[0])
    reads = {x.phase: _all(x.reads.get(kept, False)) for x in walk(tensors) if x.row == row}
    trains, live = tensors.table.trains[:, row], tensors.table.live[:, row]
    assert 0 < trains.sum() < live.sum()
    np.testing.assert_array_equal(reads[Phase.WEIGHT_GRADIENT], trains)
    np.testing.assert_array_equal(reads[Phase.INPUT_GRADIENT], live & ~trains)


def test_equal_neighbours_are_one_mask():
    array = np.array([[1, 0, 0, 1, 1, 0], [1, 0, 1, 0, 0, 0]], np.bool_)
    found = masks(array)
    assert [x if isinstance(x, bool) else x.tolist() for x in found] == [
        True,
        False,
        [False, True],
        [True, False],
        [True, False],
        False,
    ]
    assert found[3] is found[4]


@pytest.mark.parametrize("a", [False, True, np.array([True, False, True]), np.array([False, False, True])])
@pytest.mark.parametrize("b", [False, True, np.array([True, True, False])])
def test_masks_combine_as_arrays_do(a, b):
    full = [np.zeros(3, np.bool_) | x for x in (a, b)]
    np.testing.assert_array_equal(np.zeros(3, np.bool_) | both(a, b), full[0] & full[1])
    np.testing.assert_array_equal(np.zeros(3, np.bool_) | either(a, b), full[0] | full[1])
    np.testing.assert_array_equal(np.zeros(3, np.bool_) | without(a, b), full[0] & ~full[1])
    np.testing.assert_array_equal(np.zeros(3, np.int64) + times(a, 7), 7 * full[0])
    assert without(a, a) is False
    assert both(a, a) is either(a, a) is a
