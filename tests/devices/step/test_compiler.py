"""Programs: the order of the kernels, what lives when, and what shares memory."""

import pytest

from tinysearch.core.errors import InputError
from tinysearch.devices.profile import load_device
from tinysearch.devices.step.compiler import compile_step
from tinysearch.devices.step.program import Part, Program
from tinysearch.devices.step.saved import saved_bytes
from tinysearch.devices.step.tensors import Kind
from tinysearch.devices.step.walk import Phase
from tinysearch.spaces import methods
from tinysearch.spaces.policy import NormUpdate
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import Trace


def _program(found: Trace, device: str, method: str, optimizer: str = "sgd", batch: int = 1) -> Program:
    table = UpdateTable.of(found, [methods.named(found)[method]])
    return compile_step(table, load_device(device), batch, optimizer)


def _find(program: Program, kind: Kind, layer: str):
    row = program.setting.trace.index[layer]
    return next(tensor for tensor in program.tensors if (tensor.kind, tensor.row) == (kind, row))


def _number(program: Program, phase: Phase, layer: str) -> int:
    row = program.setting.trace.index[layer]
    return next(n for n, operation in enumerate(program.operations) if (operation.phase, operation.row) == (phase, row))


def test_an_arena_updates_each_layer_at_once_and_after_its_input_gradient(mobilenet_trace):
    program = _program(mobilenet_trace, "cortex-m7-int8", "mobiletl-2")
    layer = "features.17.conv.0.0"
    phases = [x.phase for x in program.operations if x.row == mobilenet_trace.index[layer]]
    assert phases == [Phase.FORWARD, Phase.WEIGHT_GRADIENT, Phase.INPUT_GRADIENT, Phase.UPDATE]
    gradient = _find(program, Kind.WEIGHT_GRADIENT, layer)
    assert gradient.last - gradient.first == 2
    # What the conv keeps is given up before the gradient of its input is made.
    entering = mobilenet_trace.rows[mobilenet_trace.rows[mobilenet_trace.index[layer]].inputs[0]].name
    kept = _find(program, Kind.ACTIVATION, entering)
    assert _number(program, Phase.LOSS, "classifier.1") < kept.last == _number(program, Phase.WEIGHT_GRADIENT, layer)


def test_an_eager_runtime_updates_at_the_end(mobilenet_trace):
    program = _program(mobilenet_trace, "rpi4", "mobiletl-2", "adam")
    assert [x.phase for x in program.operations].count(Phase.UPDATE) == 1
    end = len(program.operations) - 1
    gradients = [t for t in program.tensors if t.kind == Kind.WEIGHT_GRADIENT]
    assert gradients
    assert all(t.last == end for t in gradients)
    states = sum(t.bytes for t in program.tensors if t.kind == Kind.STATE)
    assert states == 2 * sum(t.bytes for t in gradients)
    assert all(len([t for t in program.tensors if t.buffer == n]) == 1 for n in range(len(program.buffers)))


def test_what_stands_before_the_first_trained_layer_has_no_backward_pass(mobilenet_trace):
    program = _program(mobilenet_trace, "cortex-m7-int8", "last")
    backward = [x for x in program.operations if x.phase not in (Phase.FORWARD, Phase.LOSS)]
    assert [x.phase for x in backward] == [Phase.WEIGHT_GRADIENT, Phase.UPDATE]
    assert {x.row for x in backward} == {mobilenet_trace.head}


def test_norms_activations_and_depthwise_convs_run_in_place(mobilenet_trace):
    program = _program(mobilenet_trace, "cortex-m7-int8", "last")
    chain = ["features.3.conv.0.0", "features.3.conv.0.1", "features.3.conv.0.2", "features.3.conv.1.0"]
    assert len({_find(program, Kind.ACTIVATION, name).buffer for name in chain}) == 1
    # A channel of scratch for the depthwise one; none where the size changes.
    scratch = {t.row: t.bytes for t in program.tensors if t.kind == Kind.SCRATCH}
    layer = mobilenet_trace.rows[mobilenet_trace.index[chain[-1]]]
    assert scratch[mobilenet_trace.index[chain[-1]]] == layer.in_shape[1] * layer.in_shape[2]
    assert mobilenet_trace.index["features.2.conv.1.0"] not in scratch
    # Two columns of 16-bit values for the stem.
    assert scratch[0] == 2 * 2 * 3 * 3 * 3


def test_a_kept_tensor_is_not_overwritten(mobilenet_trace):
    program = _program(mobilenet_trace, "cortex-m7-int8", "norm+last")
    conv, norm = (_find(program, Kind.ACTIVATION, f"features.3.conv.0.{n}") for n in (0, 1))
    assert conv.buffer != norm.buffer
    assert conv.last > _number(program, Phase.LOSS, "classifier.1")


@pytest.mark.parametrize("method", ["full", "bias", "tinytl-L+B", "mobiletl-3"])
def test_what_waits_for_the_backward_pass_is_what_is_saved(mobilenet_trace, method):
    """For eager, where nothing is rounded up: all that lives from before the loss to after it, but for the images."""
    program = _program(mobilenet_trace, "rpi4", method, batch=2)
    loss = _number(program, Phase.LOSS, "classifier.1")
    waiting = [
        tensor.bytes
        for number, tensor in enumerate(program.tensors)
        if program.part(number) == Part.SAVED and tensor.first < loss < tensor.last
    ]
    table = UpdateTable.of(mobilenet_trace, [methods.named(mobilenet_trace)[method]])
    assert sum(waiting) == saved_bytes(table, 2).sum()


def test_parameters_of_an_eager_runtime_are_those_of_the_network(mobilenet, mobilenet_trace):
    program = _program(mobilenet_trace, "rpi4", "last")
    statistics = sum(b.numel() for name, b in mobilenet.named_buffers() if "running" in name)
    held = sum(t.bytes for t in program.tensors if t.kind == Kind.PARAMETERS)
    assert held == 4 * (sum(p.numel() for p in mobilenet.parameters()) + statistics)


def test_updated_statistics_lie_in_ram(mobilenet_trace):
    policy = methods.last(mobilenet_trace)
    norm = NormUpdate(name="features.17.conv.3", shift=True, statistics=True)
    table = UpdateTable.of(mobilenet_trace, [policy.model_copy(update={"norms": (norm,)})])
    program = compile_step(table, load_device("cortex-m7-int8"), 1, "sgd")
    assert _find(program, Kind.STATISTICS, norm.name).bytes == 4 * 2 * 112


def test_a_program_is_that_of_one_policy(mobilenet_trace):
    profile = load_device("cortex-m7-int8")
    with pytest.raises(InputError, match="not of 2"):
        compile_step(UpdateTable.frozen(mobilenet_trace, 2), profile, 1, "sgd")
    with pytest.raises(InputError, match="rmsprop"):
        compile_step(UpdateTable.frozen(mobilenet_trace, 1), profile, 1, "rmsprop")
