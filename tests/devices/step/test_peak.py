"""Peak memory of many policies against the programs of each, and what must always hold of it."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysearch.core.errors import InputError
from tinysearch.devices.accountings import eager
from tinysearch.devices.flash import flash_bytes
from tinysearch.devices.profile import DeviceProfile, load_device
from tinysearch.devices.profile.model import Schedule
from tinysearch.devices.step.compiler import compile_step
from tinysearch.devices.step.peak import find_peak, peak_bytes
from tinysearch.devices.step.plan import arena_bytes
from tinysearch.devices.step.saved import find_kept, saved_bytes
from tinysearch.devices.step.setting import StepSetting
from tinysearch.spaces import methods
from tinysearch.spaces.backbones.catalogue import load_backbone
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import Trace, trace


@pytest.fixture(scope="module")
def folded_trace() -> Trace:
    """A network whose norms are folded, and whose blocks end in a projection to which lite modules are added."""
    return trace(load_backbone("mcunet-5fps", num_classes=10, input_size=48), (3, 48, 48))


STATE = {"sgd": 0, "sgd-momentum": 1, "adam": 2}


def _cases() -> Iterator[tuple[str, str, int, str]]:
    for network in ("mobilenet_trace", "small_trace"):
        yield network, "rpi4", 3, "adam"
        yield network, "cortex-m7-int8", 1, "sgd-momentum"
        yield network, "cortex-m7-int8", 2, "adam"


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("network", "device", "batch", "optimizer"), list(_cases()))
def test_equals_the_program(request, random_policy, network, device, batch, optimizer, plain):
    """Lifetimes there are read off the finished list of one policy; here they are found with masks for all at once."""
    found = request.getfixturevalue(network)
    profile = load_device(device)
    table = UpdateTable.of(found, [random_policy(found, seed) for seed in range(30)])
    table = eager.plain_table(table) if plain else table
    keep = partial(eager.find_kept if plain else find_kept, batch=batch, element_bytes=profile.memory.dtypes.activation)
    peaks = find_peak(table, keep(table), StepSetting(found, profile, batch, optimizer))
    for n in range(len(table)):
        one = table[n : n + 1]
        assert compile_step(one, profile, batch, optimizer, keep(one)).peak_bytes == peaks[n], n


#: Each a set of levers that may be pulled without the others.
LEVERS = (
    {"line_by_line": True},
    {"line_by_line": True, "image": "lines"},
    {"strided_in_place": True},
    {"fused_updates": True},
    {"fused_updates": True, "by_channels": True},
    {"one_by_one": True},
)
ALL_LEVERS = {name: value for lever in LEVERS for name, value in lever.items()}


def _scheduled(device: str, levers: Mapping[str, Any], **dtypes: int) -> DeviceProfile:
    profile = load_device(device)
    memory = profile.memory
    sizes = memory.dtypes.model_copy(update=dtypes)
    memory = memory.model_copy(update={"schedule": Schedule(**levers), "dtypes": sizes})
    return profile.model_copy(update={"memory": memory})


@pytest.mark.parametrize("levers", [*LEVERS, ALL_LEVERS])
@pytest.mark.parametrize("network", ["mobilenet_trace", "small_trace", "folded_trace"])
def test_equals_the_program_by_any_schedule(request, random_policy, network, levers):
    found = request.getfixturevalue(network)
    table = UpdateTable.of(found, [random_policy(found, seed) for seed in range(16)])
    for device, batch, optimizer in (("cortex-m7-int8", 2, "sgd-momentum"), ("cortex-m7-fp32", 1, "sgd")):
        profile = _scheduled(device, levers)
        peaks = peak_bytes(table, profile, batch, optimizer)
        for n in range(len(table)):
            assert compile_step(table[n : n + 1], profile, batch, optimizer).peak_bytes == peaks[n], (device, n)


@pytest.mark.parametrize("lever", LEVERS)
def test_a_lever_alone_makes_no_published_method_worse_by_more_than_it_says(mobilenet_trace, lever):
    """Fused updates hold a layer's input and the gradient of it at once: that is all that may be more."""
    table = UpdateTable.of(mobilenet_trace, list(methods.named(mobilenet_trace).values()))
    before, after = (peak_bytes(table, _scheduled("cortex-m7-fp32", each), 1, "sgd") for each in ({}, lever))
    assert (after <= 1.02 * before).all()
    assert (after < before).any() or lever == {"one_by_one": True}  # of one image there is nothing to gain


#: KiB, of MobileNetV2-w0.35 as the sparse-update study has it: sparse-update-0, -1 and -2. In single precision what a
#: liveness analysis of the same levers gives (193, 260, 328); in 8 bits what its authors publish for scheme 2 (141).
SPARSE = {(96, 4): (170.5, 237.8, 305.5), (128, 1): (51.6, 73.8, 97.5)}


@pytest.mark.parametrize(("size", "element"), list(SPARSE))
def test_sparse_updates_fit_what_their_authors_run_them_in(size, element):
    found = trace(load_backbone("mobilenetv2-w0.35-mcu", num_classes=10, input_size=size), (3, size, size))
    named = methods.named(found)
    table = UpdateTable.of(found, [named[f"sparse-update-{scheme}"] for scheme in range(3)])
    profile = _scheduled("cortex-m7-fp32", ALL_LEVERS, activation=element, frozen=element, trained=element)
    assert arena_bytes(table, profile, 1, "sgd") / 1024 == pytest.approx(SPARSE[size, element], abs=0.05)


#: Peaks in bytes by the two models that the walk replaced, each of which had the rules written out on its own.
BEFORE = {
    ("cortex-m7-int8", 1, "sgd"): {
        "last": 189480,
        "bias": 655400,
        "norm+last": 886312,
        "full": 3416936,
        "tinytl-L": 805000,
        "tinytl-L+B": 1301000,
        "mobiletl-1": 464552,
        "mobiletl-5": 978472,
    },
    ("rpi4", 8, "adam"): {
        "last": 9757176,
        "bias": 10077184,
        "norm+last": 20888704,
        "full": 39988576,
        "tinytl-L": 12069048,
        "tinytl-L+B": 12956640,
        "mobiletl-1": 10240120,
        "mobiletl-5": 11171832,
    },
}


@pytest.mark.parametrize(("device", "batch", "optimizer"), list(BEFORE))
def test_the_methods_need_what_they_needed_before_there_was_a_walk(mobilenet_trace, device, batch, optimizer):
    expected = BEFORE[device, batch, optimizer]
    named = methods.named(mobilenet_trace)
    table = UpdateTable.of(mobilenet_trace, [named[name] for name in expected])
    assert peak_bytes(table, load_device(device), batch, optimizer).tolist() == list(expected.values())


def _more(table: UpdateTable, row: int) -> UpdateTable:
    """The same policies with one more row trained whole."""
    more = table[np.arange(len(table))]
    more.train_whole(row)
    return more


@pytest.fixture(scope="module")
def drawn(mobilenet_trace, random_policy) -> UpdateTable:
    return UpdateTable.of(mobilenet_trace, [random_policy(mobilenet_trace, seed) for seed in range(24)])


@settings(max_examples=30, deadline=None)
@given(data=st.data(), device=st.sampled_from(["rpi4", "cortex-m7-int8"]), optimizer=st.sampled_from(sorted(STATE)))
def test_training_more_never_needs_less(mobilenet_trace, drawn, data, device, optimizer):
    profile = load_device(device)
    trainable = [row for row, layer in enumerate(mobilenet_trace.layers) if layer.params]
    row = data.draw(st.sampled_from(trainable))
    # A weight that trained in part loses its copy when it trains whole: that may need less.
    frozen = drawn[~drawn.trains[:, row]]
    more = _more(frozen, row)
    assert (saved_bytes(more, 2).sum(1) >= saved_bytes(frozen, 2).sum(1)).all()
    assert (peak_bytes(more, profile, 2, optimizer) >= peak_bytes(frozen, profile, 2, optimizer)).all()


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 64), device=st.sampled_from(["rpi4", "cortex-m7-int8"]))
def test_peak_grows_with_the_batch_and_holds_what_is_saved(drawn, batch, device):
    profile = load_device(device)
    peak = peak_bytes(drawn, profile, batch, "sgd")
    assert (peak_bytes(drawn, profile, batch + 1, "sgd") >= peak).all()
    assert (peak >= saved_bytes(drawn, batch, profile.memory.dtypes.activation).sum(1)).all()
    assert (peak_bytes(drawn, profile, batch, "adam") > peak).all()


def test_optimizer_state_is_that_of_what_trains(drawn):
    profile = load_device("rpi4")
    peaks = {name: peak_bytes(drawn, profile, 4, name) for name in STATE}
    trained = drawn.trained_params.sum(1) * 4
    assert (peaks["sgd-momentum"] - peaks["sgd"] == trained).all()
    assert (peaks["adam"] - peaks["sgd"] == 2 * trained).all()


def test_flash_of_an_arena_holds_every_parameter_once(mobilenet, mobilenet_trace):
    profile = load_device("cortex-m7-int8")
    table = UpdateTable.frozen(mobilenet_trace, 2)
    table.set_lite(3, np.array([False, True]))
    plain, with_module = flash_bytes(table, profile) - profile.flash.code.value
    norms = [m for m in mobilenet.modules() if hasattr(m, "running_mean")]
    vectors = sum(2 * m.num_features for m in norms) + 10
    parameters = sum(p.numel() for p in mobilenet.parameters())
    assert plain == parameters - vectors + 4 * vectors
    assert with_module > plain


def test_an_unknown_optimizer_is_refused(drawn):
    with pytest.raises(InputError, match="rmsprop"):
        peak_bytes(drawn, load_device("rpi4"), 1, "rmsprop")
