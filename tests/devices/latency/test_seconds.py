"""What a step's kernels do, which class they are of, and that everything that runs is counted."""

import numpy as np
import pytest

from tinysearch.devices.latency.seconds import Work, step_seconds
from tinysearch.devices.profile import DeviceProfile, load_device
from tinysearch.devices.profile.kernels import Kernel
from tinysearch.devices.profile.model import Dtypes
from tinysearch.spaces import methods
from tinysearch.spaces.policy import Channels, LayerUpdate, UpdatePolicy
from tinysearch.spaces.table import UpdateTable

FP32 = Dtypes(activation=4, frozen=4, trained=4, gradient=4)
NOTHING = {
    key: Kernel(overhead=0, source="none") for key in ("dense", "pointwise", "depthwise", "linear", "elementwise")
}


def profile_of(forward=(), dx=(), dw=(), update=None, **latency) -> DeviceProfile:
    """A device on which everything takes no time but what is named, as (class, kernel) pairs."""
    base = load_device("rpi4")
    one = base.latency.forward_scale
    fields = {
        "forward": NOTHING | dict(forward),
        "dx": NOTHING | dict(dx),
        "dw": NOTHING | dict(dw),
        "update": update or Kernel(overhead=0, source="none"),
        "forward_scale": one,
        "backward_scale": one,
        **latency,
    }
    return base.model_copy(update={"latency": base.latency.model_copy(update=fields)})


def seconds(trace, policy, profile, batch=1, optimizer="sgd"):
    return float(step_seconds(UpdateTable.of(trace, [policy]), profile, batch, optimizer).total[0])


def test_work_of_rows(small_trace):
    work = Work.of(small_trace, 2, FP32)
    row = small_trace.index["mul"]
    a, b = (small_trace.layers[source].out_elements for source in small_trace.layers[row].inputs)
    out = small_trace.layers[row].out_elements
    assert (work.forward.macs[row], work.forward.outputs[row], work.dx.outputs[row]) == (0, 2 * out, 2 * (a + b))
    assert work.forward.bytes[row] == work.dx.bytes[row] == 2 * 4 * (a + b + out)
    stem = small_trace.layers[0]
    maps = 2 * (3 * 50 * 50 + stem.out_elements)
    assert (work.forward.macs[0], work.forward.bytes[0]) == (2 * stem.macs_forward, 4 * (maps + stem.weights))
    int8 = Work.of(small_trace, 1, Dtypes(activation=1, frozen=1, trained=4, gradient=4))
    assert int8.forward.bytes[0] == maps / 2 + stem.weights
    assert int8.dw.bytes[0] == 3 * 50 * 50 + 4 * (stem.out_elements + stem.weights)
    assert (int8.dw.outputs[0], int8.bias.outputs[0]) == (stem.weights, stem.biases)


def test_each_term_of_a_kernel_counts(mobilenet_trace):
    last = methods.last(mobilenet_trace)
    head = mobilenet_trace.layers[mobilenet_trace.head]
    for kernel, expected in (
        (Kernel(overhead=2, source="x"), 2),
        (Kernel(macs=0.5, source="x"), 2 * 2 * head.macs_forward),
        (Kernel(outputs=0.5, source="x"), 2 * 2 * head.out_elements),
        (Kernel(bytes=0.5, source="x"), 2 * 4 * (2 * (head.in_elements + head.out_elements) + head.weights)),
    ):
        profile = profile_of(forward=[("linear", kernel)])
        assert seconds(mobilenet_trace, last, profile, batch=2) == pytest.approx(expected)


def test_the_input_is_read_once_a_step(mobilenet_trace):
    profile = profile_of(forward=[("input", Kernel(overhead=1, bytes=4, source="x"))])
    assert seconds(mobilenet_trace, methods.full(mobilenet_trace), profile, batch=2) == 1 + 2 * 3 * 96 * 96


def test_each_phase_is_charged_where_it_runs(mobilenet_trace):
    second = Kernel(macs=1, source="a MAC a second")
    every = [(key, second) for key in ("dense", "pointwise", "depthwise", "linear")]
    forward = mobilenet_trace.macs_forward
    head, stem = (mobilenet_trace.layers[row].macs_forward for row in (mobilenet_trace.head, 0))
    full, last, bias = (getattr(methods, name)(mobilenet_trace) for name in ("full", "last", "bias"))
    assert seconds(mobilenet_trace, last, profile_of(forward=every), batch=3) == pytest.approx(3 * forward)
    assert seconds(mobilenet_trace, full, profile_of(dx=every)) == pytest.approx(forward - stem)
    assert seconds(mobilenet_trace, bias, profile_of(dx=every)) == pytest.approx(forward - stem)
    assert seconds(mobilenet_trace, last, profile_of(dx=every)) == 0
    assert seconds(mobilenet_trace, full, profile_of(dw=every)) == pytest.approx(forward)
    assert seconds(mobilenet_trace, bias, profile_of(dw=every)) == pytest.approx(head)


def _policy(trace, name, weight):
    head = trace.layers[trace.head].name
    layers = (LayerUpdate(name=name, weight=weight),)
    return UpdatePolicy(backbone=trace.name, input_shape=trace.input_shape, head=head, layers=layers)


def test_part_of_a_weight_costs_its_share_and_the_whole_overhead(mobilenet_trace):
    row = next(n for n, layer in enumerate(mobilenet_trace) if layer.name == "features.9.conv.0.0")
    layer = mobilenet_trace.layers[row]
    half = Channels(axis="in", index=tuple(range(layer.in_channels // 2)))
    profile = profile_of(dw=[("pointwise", Kernel(overhead=7, macs=1, source="slow"))])
    whole = seconds(mobilenet_trace, _policy(mobilenet_trace, layer.name, "all"), profile)
    part = seconds(mobilenet_trace, _policy(mobilenet_trace, layer.name, half), profile)
    assert whole == pytest.approx(7 + layer.macs_forward)
    assert part == pytest.approx(7 + layer.macs_forward / 2)


def test_the_optimizer_is_charged_by_tensor_and_by_value(mobilenet_trace):
    last = methods.last(mobilenet_trace)
    head = mobilenet_trace.layers[mobilenet_trace.head]
    calls = profile_of(update=Kernel(overhead=5, source="slow"))
    assert seconds(mobilenet_trace, last, calls) == 10  # weight and bias
    moved = profile_of(update=Kernel(bytes=1, source="slow"))
    assert seconds(mobilenet_trace, last, moved, optimizer="sgd") == pytest.approx(12 * head.params)
    assert seconds(mobilenet_trace, last, moved, optimizer="adam") == pytest.approx(28 * head.params)


def test_lite_residual_modules_and_masks_are_counted(mobilenet_trace, small_trace):
    second = [(key, Kernel(macs=1, source="slow")) for key in ("dense", "pointwise", "depthwise", "linear")]
    lite = UpdateTable.of(mobilenet_trace, [methods.tinytl(mobilenet_trace)])
    assert step_seconds(lite, profile_of(forward=second), 1, "sgd").total[0] > mobilenet_trace.macs_forward

    masks = profile_of(forward=[("mask", Kernel(overhead=1, source="slow"))])
    relu6 = sum(layer.op == "relu6" for layer in mobilenet_trace)
    # A gradient reaches all but the stem's own activation, which packs nothing for a bias behind it.
    assert seconds(mobilenet_trace, methods.last(mobilenet_trace), masks) == 0
    assert seconds(mobilenet_trace, methods.full(mobilenet_trace), masks) == relu6
    # A hard swish packs bits only with a sign mask.
    plain = methods.full(small_trace)
    act = next(layer for layer in small_trace if layer.op == "hardswish" and layer.block >= 0)
    signed = UpdatePolicy.model_validate(plain.model_dump() | {"sign_masks": (act.name,)})
    assert seconds(small_trace, signed, masks) == seconds(small_trace, plain, masks) + 1


def test_the_finest_class_wins(mobilenet_trace):
    keys = ["depthwise", "depthwise-k3", "depthwise-k3-s2"]
    kernels = [(key, Kernel(overhead=10**n, source="counts")) for n, key in enumerate(keys)]
    depthwise = [layer for layer in mobilenet_trace if layer.depthwise]
    strided = sum(layer.stride == (2, 2) for layer in depthwise)
    last = methods.last(mobilenet_trace)
    assert seconds(mobilenet_trace, last, profile_of(forward=kernels[:1])) == len(depthwise)
    expected = 100 * strided + 10 * (len(depthwise) - strided)
    assert seconds(mobilenet_trace, last, profile_of(forward=kernels)) == expected
    other = [("depthwise-k5", Kernel(overhead=1, source="counts"))]
    assert seconds(mobilenet_trace, last, profile_of(forward=other)) == 0


def test_scales_constant_and_clock(mobilenet_trace):
    call = [("linear", Kernel(overhead=1, source="counts"))]
    base = load_device("rpi4").latency
    twice = base.forward_scale.model_copy(update={"value": 2.0})
    thrice = base.forward_scale.model_copy(update={"value": 3.0})
    constant = base.constant.model_copy(update={"value": 100.0})
    profile = profile_of(forward=call, dw=call, forward_scale=twice, backward_scale=thrice, constant=constant)
    last = methods.last(mobilenet_trace)
    assert seconds(mobilenet_trace, last, profile) == 100 + 2 + 3
    clock = base.constant.model_copy(update={"value": 1e9})
    slow = profile.model_copy(
        update={
            "clock": clock.model_copy(update={"value": 0.5e9}),
            "latency": profile.latency.model_copy(update={"clock": clock}),
        }
    )
    assert seconds(mobilenet_trace, last, slow) == pytest.approx(2 * 105)


def test_rows_add_up_to_the_total(mobilenet_trace, random_policy):
    table = UpdateTable.of(mobilenet_trace, [random_policy(mobilenet_trace, seed) for seed in range(8)])
    times = step_seconds(table, load_device("cortex-m7-int8"), 1, "sgd")
    np.testing.assert_allclose(times.rows().sum(1), times.total)
