"""Fit the latency model of profile jetson-nano to published fp16 inference and print how well it does.

Run: python benchmarks/fit_jetson_nano.py [--write]

One number for four measurements: the rate of all convolutions. The launch of an operation is published, bytes move at
the memory's peak. The profile computes in fp32, which peaks at half of fp16: it takes half of the rate and twice the
bytes. No training step of such networks is published.
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

from tinysearch.devices.profile.kernels import Latency, Validity

PEAK_FP16, PEAK_BYTES = 236e9, 25.6e9
LAUNCH = 0.11e-3
MEASURED = read_rows("jetson_nano_inference.csv")
SECONDS = 1e-3 * column(MEASURED, "ms")
MACS = (column(MEASURED, "dense") + column(MEASURED, "pointwise"))[:, None]
KNOWN = LAUNCH * column(MEASURED, "ops") + 2 * column(MEASURED, "elementwise") / PEAK_BYTES


def fit_macs(points: Floats) -> Floats:
    """Seconds of a multiply-accumulate in fp16."""
    return fit(MACS[points], SECONDS[points], KNOWN[points], PEAK_FP16)


def predict(fitted_to: Floats, points: Floats) -> Floats:
    return np.asarray(MACS[points] @ fit_macs(fitted_to) + KNOWN[points])


def latency() -> Latency:
    """The latency model that the profile states, in fp32."""
    mac = 2 * float(fit_macs(np.ones(len(SECONDS), bool))[0])
    half = "benchmarks/fit_jetson_nano.py: half of the rate fitted to fp16 inference (torch2trt benchmark)"
    memory = "at the memory's peak"
    conv = kernel(half, assumed=True, overhead=LAUNCH, macs=mac)
    bound = kernel("bound by memory; no such network is published", assumed=True, overhead=LAUNCH, macs=1 / 5e9)
    forward = {
        "dense": conv,
        "pointwise": conv,
        "depthwise": bound,
        "linear": kernel("weights read once at 25.6 GB/s", assumed=True, overhead=LAUNCH, bytes=1 / PEAK_BYTES),
        "elementwise": kernel(memory, overhead=LAUNCH, bytes=1 / PEAK_BYTES),
    }
    backward = {
        key: found.model_copy(update={"assumed": True, "source": "as forward"}) for key, found in forward.items()
    }
    unmeasured = {"value": 1.0, "assumed": True, "source": "no whole step was measured"}
    predicted = held_out(each_alone(len(SECONDS)), predict)
    of = "fp16 inference of four networks, each left out of its fit; training was not measured"
    return Latency.model_validate(
        {
            "clock": {"value": 921.6e6, "source": "the 10 W mode's, of the measurements"},
            "forward": forward,
            "dx": backward,
            "dw": backward,
            "update": kernel("as elementwise", assumed=True, overhead=LAUNCH, bytes=1 / PEAK_BYTES),
            "forward_scale": unmeasured,
            "backward_scale": unmeasured,
            "constant": {"value": 0.0, "assumed": True, "source": "no whole step was measured"},
            "fused": False,
            "confidence": "low",
            "error": error_of(predicted, SECONDS, of, "benchmarks/fit_jetson_nano.py"),
            "valid": Validity(batch=(1, 1), macs=(700e6, 4.2e9)),
        }
    )


def main() -> None:
    everything = np.ones(len(SECONDS), bool)
    report("fp16 inference, fitted", predict(everything, everything), SECONDS)
    report("fp16 inference, leave one out", held_out(each_alone(len(SECONDS)), predict), SECONDS)
    conclude(as_read(latency()), "jetson-nano")


if __name__ == "__main__":
    main()
