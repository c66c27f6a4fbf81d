"""What is told of a predicted time, and how it is marked where it is shown."""

import re

import pytest

from tinysearch.devices.breakdown import smallest
from tinysearch.devices.costs import cost_table
from tinysearch.devices.latency.caveats import caveats, latency_error, show_energy, show_time, time_mark
from tinysearch.devices.latency.seconds import assumed_share
from tinysearch.devices.profile import load_device
from tinysearch.devices.profile.kernels import Kernel
from tinysearch.spaces import methods
from tinysearch.spaces.table import UpdateTable


def calibrated(batch=(1, 16), macs=(1e6, 1e9)):
    """A profile of which everything was measured."""
    profile = load_device("rpi4")
    latency = profile.latency
    measured = {
        phase: {
            key: kernel.model_copy(update={"assumed": False, "source": "measured"})
            for key, kernel in getattr(latency, phase).items()
        }
        for phase in ("forward", "dx", "dw")
    }
    valid = latency.valid.model_copy(update={"batch": batch, "macs": macs})
    return profile.model_copy(update={"latency": latency.model_copy(update=measured | {"valid": valid})})


def test_a_measured_device_has_an_error_bar_and_no_caveat(mobilenet_trace):
    profile = calibrated()
    cost = smallest(mobilenet_trace, profile)
    assert cost.warnings == ()
    assert cost.latency_error == pytest.approx(profile.latency.error.mape / 100)
    table = UpdateTable.of(mobilenet_trace, [methods.last(mobilenet_trace), methods.full(mobilenet_trace)])
    assert cost_table(table, profile).latency_error == cost.latency_error
    assert (
        latency_error(profile.model_copy(update={"latency": profile.latency.model_copy(update={"error": None})}), ())
        is None
    )


@pytest.mark.parametrize(
    ("profile", "batch", "said"),
    [
        (
            calibrated(batch=(8, 32)),
            7,
            "time and energy at batch 7 are extrapolated: rpi4 was fitted on batches 8 to 32",
        ),
        (calibrated(batch=(1, 1)), 2, "rpi4 was fitted on batch 1"),
        (calibrated(macs=(30e6, 4.2e9)), 8, "time and energy of 10.67 MMAC are extrapolated: .* 30 to 4200 MMAC"),
    ],
)
def test_what_lies_outside_the_fit_is_extrapolated(mobilenet_trace, profile, batch, said):
    cost = smallest(mobilenet_trace, profile, batch=batch)
    (warning,) = cost.warnings
    assert re.search(said, warning)
    assert time_mark(cost.warnings) == "extrapolated"
    assert cost.latency_error is None


def test_the_ends_of_the_fitted_range_are_inside(mobilenet_trace):
    exact = float(mobilenet_trace.macs_forward)
    for batch in (8, 32):
        assert caveats(mobilenet_trace, calibrated(batch=(8, 32), macs=(exact, exact)), batch) == ()


def test_times_from_elsewhere_and_assumed_speeds_are_told(mobilenet_trace):
    on_arm = caveats(mobilenet_trace, load_device("stm32f767"), 1)
    assert [warning.split(":")[0] for warning in on_arm] == [
        "time and energy on stm32f767 are carried over",
        "time and energy on stm32f767 are in part assumed",
        "energy on stm32f767",
    ]
    assert time_mark(on_arm) == "assumed"
    assert not any("energy on stm32h7a3:" in warning for warning in caveats(mobilenet_trace, load_device("h7a3"), 1))


def test_the_assumed_share_counts_what_runs(mobilenet_trace):
    profile = calibrated()
    assert assumed_share(mobilenet_trace, profile, 8) == 0
    guessed = {key: kernel.model_copy(update={"assumed": True}) for key, kernel in profile.latency.dw.items()}
    half = profile.model_copy(update={"latency": profile.latency.model_copy(update={"dw": guessed})})
    assert 0 < assumed_share(mobilenet_trace, half, 8) < 1
    # Of a class that the network has no layer of, it does not matter what is known.
    unused = profile.latency.dw | {"depthwise-k9": Kernel(overhead=1, assumed=True)}
    other = profile.model_copy(update={"latency": profile.latency.model_copy(update={"dw": unused})})
    assert assumed_share(mobilenet_trace, other, 8) == 0


def test_marks():
    assert time_mark(()) == time_mark(["energy on x: the power is assumed, not measured", "something else"]) == ""
    assert show_time(0.512, (), 0.07) == "512 ms ± 7 %"
    assert show_time(0.512, ()) == "512 ms"
    assert show_time(0.512, ["time and energy on x are in part assumed: ..."], 0.07) == "~512 ms"
    assert show_energy(2, ()) == "2 J"
    assert show_energy(2, ["energy on x: ..."]) == "~2 J"
