"""Peak memory of many policies against the programs of each, and what must always hold of it."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinysearch.core.errors import InputError
from tinysearch.devices.accountings import eager
from tinysearch.devices.flash import flash_bytes
from tinysearch.devices.profile import load_device
from tinysearch.devices.step.compiler import compile_step
from tinysearch.devices.step.peak import find_peak, peak_bytes
from tinysearch.devices.step.saved import find_kept, saved_bytes
from tinysearch.devices.step.setting import StepSetting
from tinysearch.spaces import methods
from tinysearch.spaces.table import UpdateTable

STATE = {"sgd": 0, "sgd-momentum": 1, "adam": 2}


def _cases() -> Iterator[tuple[str, str, int, str]]:
    for network in ("mobilenet_trace", "small_trace"):
        yield network, "rpi4", 3, "adam"
        yield network, "cortex-m7", 1, "sgd-momentum"
        yield network, "cortex-m7", 2, "adam"


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


#: Peaks in bytes by the two models that the walk replaced, each of which had the rules written out on its own.
BEFORE = {
    ("cortex-m7", 1, "sgd"): {
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
@given(data=st.data(), device=st.sampled_from(["rpi4", "cortex-m7"]), optimizer=st.sampled_from(sorted(STATE)))
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
@given(batch=st.integers(1, 64), device=st.sampled_from(["rpi4", "cortex-m7"]))
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
    profile = load_device("cortex-m7")
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
