"""Fit the latency model of profile rpi4 to published training steps and print how well it does.

Run: python benchmarks/fit_rpi4.py [--write]

Forward pass: a rate of matrix products (dense, pointwise and linear layers run as such), one of depthwise
convolutions, one of bytes for all kernels, and the time to load a batch of images. Backward pass: the first three
again. Seven numbers for 22 measurements; a rate for each class of its own fits hardly better on networks left out, as a
pointwise convolution comes with a norm and an activation in all of them. Rates are kept below the processor's peak (24
GMAC/s; 5.2 GB/s by STREAM). How the backward pass divides into input and weight gradients cannot be read from full
steps: it is assumed that both run alike. The overhead of a kernel is assumed too: it does not show at batch 16.
"""

import numpy as np
from fitting import (
    Floats,
    as_read,
    column,
    conclude,
    each_alone,
    error_of,
    fit,
    held_out,
    kernel,
    read_rows,
    report,
)

from tinysearch.devices.profile.kernels import FitError, Latency, Validity
from tinysearch.devices.profile.quantities import Sourced

PEAK_MACS, PEAK_BYTES = 24e9, 5.2e9
OVERHEAD = 50e-6
PUBLISHED = "jafermarq/federated-embedded-vision"
MEASURED, WORK = read_rows("rpi4_training.csv"), read_rows("rpi4_work.csv")
assert [row["model"] for row in MEASURED] == [row["model"] for row in WORK]

FORWARD_S = column(MEASURED, "forward_s")
FULL_S = column(MEASURED, "full_s")
FAMILY = np.array([row["family"] for row in MEASURED])
TERMS = ("gemm_macs", "depthwise_macs", "bytes")
FORWARD = np.stack([*(column(WORK, f"forward_{term}") for term in TERMS), column(WORK, "input_bytes")], 1)
BACKWARD = np.stack([column(WORK, f"backward_{term}") for term in TERMS], 1)
BACKWARD[:, 2] += column(WORK, "update_bytes")
FORWARD_KNOWN = OVERHEAD * column(WORK, "forward_calls")
BACKWARD_KNOWN = OVERHEAD * (column(WORK, "backward_calls") + column(WORK, "update_calls"))
FASTEST = np.array([PEAK_MACS, PEAK_MACS, PEAK_BYTES, np.inf])


def fit_phases(points: Floats) -> tuple[Floats, Floats]:
    """Seconds a unit of the forward pass's four terms and of the backward pass's three, from some of the points."""
    backward_s = FULL_S - FORWARD_S
    return (
        fit(FORWARD[points], FORWARD_S[points], FORWARD_KNOWN[points], FASTEST),
        fit(BACKWARD[points], backward_s[points], BACKWARD_KNOWN[points], FASTEST[:3]),
    )


def predict_forward(fitted_to: Floats, points: Floats) -> Floats:
    return np.asarray(FORWARD[points] @ fit_phases(fitted_to)[0] + FORWARD_KNOWN[points])


def predict_full(fitted_to: Floats, points: Floats) -> Floats:
    backward = BACKWARD[points] @ fit_phases(fitted_to)[1] + BACKWARD_KNOWN[points]
    return np.asarray(predict_forward(fitted_to, points) + backward)


def without_resnets(predicted: Floats) -> Floats:
    """Without the ResNets nothing tells the rate of dense convolutions: leaving that family out is no test."""
    return np.where(FAMILY == "resnet", np.nan, predicted)


def leave_one_model_out() -> FitError:
    predicted = held_out(each_alone(len(FULL_S)), predict_full)
    of = f"full training steps of {PUBLISHED}, each network left out of its fit; no partial update is published"
    return error_of(predicted, FULL_S, of, "benchmarks/fit_rpi4.py")


def latency() -> Latency:
    """The latency model that the profile states."""
    forward, backward = fit_phases(np.ones(len(FULL_S), bool))
    source = f"benchmarks/fit_rpi4.py: {len(FULL_S)} networks of {PUBLISHED}"
    peak = ", at the processor's peak where the fit is bounded" if forward[0] <= 1.001 / PEAK_MACS else ""
    sum_of_both = "fitted as forward, but to the sum of dx and dw: that they run alike is assumed"

    def phase(cost: Floats, origin: str, gemm_origin: str, *, assumed: bool) -> dict[str, object]:
        gemm = kernel(gemm_origin, assumed=assumed, overhead=OVERHEAD, macs=cost[0], bytes=cost[2])
        linear = "as pointwise: too small a part of these networks to be told apart"
        return {
            "dense": gemm,
            "pointwise": gemm,
            "depthwise": kernel(origin, assumed=assumed, overhead=OVERHEAD, macs=cost[1], bytes=cost[2]),
            "linear": kernel(linear, assumed=True, overhead=OVERHEAD, macs=cost[0], bytes=cost[2]),
            "elementwise": kernel(origin, assumed=assumed, overhead=OVERHEAD, bytes=cost[2]),
        }

    ahead = phase(forward, f"{source}; overhead assumed", f"{source}{peak}; overhead assumed", assumed=False)
    back = phase(backward, sum_of_both, sum_of_both, assumed=True)
    mask = kernel("packed at the speed of the memory by STREAM", assumed=True, bytes=1 / PEAK_BYTES)
    load = kernel("what no work explains of a forward pass, taken for loading images", assumed=True, bytes=forward[3])
    whole = Sourced[float](value=1.0, source="the rates were fitted to whole steps")
    return Latency.model_validate(
        {
            "clock": {"value": 1.5e9, "source": "Raspberry Pi 4 Model B product brief"},
            "forward": ahead | {"mask": mask, "input": load},
            "dx": back | {"mask": mask},
            "dw": back,
            "update": kernel("as elementwise", assumed=True, overhead=OVERHEAD, bytes=backward[2]),
            "forward_scale": whole,
            "backward_scale": whole,
            "constant": {"value": 0.0, "assumed": True, "source": "not told apart from loading images"},
            "fused": False,
            "confidence": "low",
            "error": leave_one_model_out(),
            "valid": Validity(batch=(8, 32), macs=(30e6, 4.2e9)),
        }
    )


def main() -> None:
    everything = np.ones(len(FULL_S), bool)
    models = each_alone(len(FULL_S))
    families = [name == FAMILY for name in sorted(set(FAMILY))]
    report("forward pass, fitted", predict_forward(everything, everything), FORWARD_S)
    report("forward pass, leave one model out", held_out(models, predict_forward), FORWARD_S)
    report("full step, fitted", predict_full(everything, everything), FULL_S)
    report("full step, leave one model out", held_out(models, predict_full), FULL_S)
    report("full step, leave one family out (ResNets aside)", without_resnets(held_out(families, predict_full)), FULL_S)
    conclude(as_read(latency()), "rpi4")


if __name__ == "__main__":
    main()
