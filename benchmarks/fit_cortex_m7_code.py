"""Make the latency of profile cortex-m7 of the instructions that its own C kernels take, and print how well that does.

Run: python benchmarks/fit_cortex_m7_code.py [--write]

The instructions were counted in an emulator (`benchmarks/kernels/instructions.py`), which knows neither pipelines nor
caches nor wait states of flash. A kernel's time is its instructions, by an assumed number of cycles each, at the clock
of the device. A call takes some tens of instructions and is left out. What a partly trained weight costs to put
together, and what it costs to run by channels or line by line, is in two coefficients, of the forward and of the
backward pass, that are fitted to whole steps (`benchmarks/kernels/steps.py`). The error is that of whole steps, each
network held out in turn; that of the cycles an instruction takes comes on top, and is not known.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fitting import Floats, conclude, error_of, fit, held_out, kernel, report

from tinysearch.devices.latency.seconds import step_seconds
from tinysearch.devices.profile import load_device
from tinysearch.devices.profile.kernels import MAP_RATIO, STEM_CHANNELS, Kernel, Latency, Validity
from tinysearch.spaces import methods
from tinysearch.spaces.backbones.catalogue import load_backbone
from tinysearch.spaces.table import UpdateTable
from tinysearch.spaces.trace import Trace, trace

#: Cycles an instruction: the core can begin two at once, and it waits for memory; neither was measured.
CYCLES = 1.0
#: How the exported makefile lets the compiler optimise.
LEVEL = "O2"
FLOAT_BYTES = 4
#: Multiply-accumulates below which a case says more of the call than of the kernel.
LEAST_WORK = 1000
CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "measured" / "cortex_m7_instructions.json").read_text(encoding="utf-8")
)["cases"]
COUNTED: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "measured" / "cortex_m7_steps.json").read_text(encoding="utf-8")
)["steps"]
SCALES = ("forward_scale", "backward_scale")
CLOCK = device.clock.value if (device := load_device("cortex-m7")).clock else 0.0

#: Kinds of kernels with multiply-accumulates, by what the counted cases call them.
KINDS = {"conv": "dense", "pointwise": "pointwise", "depthwise": "depthwise", "linear": "linear"}
#: Operations without, by class: the counted kernels whose instructions an element add up.
ELEMENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "forward": {
        "elementwise": ("add",),
        "act": ("relu6",),
        "act-hardswish": ("hardswish",),
        "norm-group": ("group_norm",),
        "mask": ("relu6_mask",),
    },
    "dx": {"elementwise": ("add",), "act": ("mask_backward",), "norm-group": ("group_norm",)},
    "dw": {"elementwise": ("axpy",)},
}


def instructions(cases: list[dict[str, Any]]) -> Floats:
    return np.array([case["instructions"][LEVEL]["kernel"] for case in cases], np.float64)


def counted_cases(kind: str, direction: str) -> list[dict[str, Any]]:
    """Those of a kind in a direction whose weight trains whole or not at all; not the few that do next to nothing."""
    named = [case for case in CASES if KINDS.get(case["kernel"]) == kind and case["direction"] == direction]
    return [case for case in named if case["trains"] in ("nothing", "all") and case["work"] >= LEAST_WORK]


def fine_key(case: dict[str, Any]) -> str:
    """The finest class of a case: its kind, kernel, stride and size of map (`devices.profile.kernels.class_keys`)."""
    side = MAP_RATIO ** int(np.log(case["size"]) / np.log(MAP_RATIO) + 1e-9)
    kind = KINDS[case["kernel"]]
    kind = "stem" if kind == "dense" and case["ins"] <= STEM_CHANNELS else kind
    return f"{kind}-k{case['k']}-s{case['stride']}-m{side}"


def fit_kind(kind: str, direction: str) -> dict[str, Kernel]:
    """The kernels of a kind in a direction: of all its maps together, and of each kernel, stride and size of map."""
    cases = counted_cases(kind, direction)
    counted, work = instructions(cases), np.array([case["work"] for case in cases], np.float64)
    written = np.array([written_by(case) for case in cases], np.float64)
    found = {kind: mac_kernel(*fit(np.column_stack((work, written)), counted))}
    keys = [fine_key(case) if kind != "linear" else kind for case in cases]
    predicted = np.empty(len(cases))
    for key in dict.fromkeys(keys):
        members = np.array([other == key for other in keys])
        (rate,) = fit(work[members, None], counted[members])
        predicted[members] = rate * work[members]
        if kind != "linear":
            found[key] = mac_kernel(rate)
    report(f"{kind}, {direction}: {len(cases)} shapes in {len(set(keys))} classes", predicted, counted)
    return found


def written_by(case: dict[str, Any]) -> int:
    """Elements of the result: of the map, of the input's gradient, or of the weight's."""
    if case["direction"] == "dx":
        return int(case["ins"] * (case["size"] * case["stride"]) ** 2)
    return int(case["outputs"] if case["direction"] == "forward" else case["work"] // case["size"] ** 2)


def mac_kernel(mac: float, element: float = 0.0) -> Kernel:
    """A kernel from its instructions a multiply-accumulate and an element of the result."""
    also = f", {element:.3g} an element" if element > 1e-3 else ""
    source = f"{mac:.3g} instructions a multiply-accumulate{also}: counted in QEMU, {CYCLES} cycles each"
    seconds = CYCLES / CLOCK
    return kernel(source, assumed=True, macs=mac * seconds, outputs=element * seconds if also else 0.0)


def element_kernel(names: tuple[str, ...]) -> Kernel:
    """The kernel of an operation without multiply-accumulates."""
    each = sum(float(np.mean([count_of(c) for c in CASES if c["kernel"] == name])) for name in names)
    source = f"{each:.3g} instructions an element: counted in QEMU, {CYCLES} cycles each"
    return kernel(source, assumed=True, outputs=each * CYCLES / CLOCK)


def count_of(case: dict[str, Any]) -> float:
    return float(case["instructions"][LEVEL]["kernel"] / case["work"])


@cache
def latency() -> Latency:
    """The model of the kernels alone."""
    phases: dict[str, dict[str, Kernel]] = {}
    for direction, elements in ELEMENTS.items():
        phases[direction] = {}
        for kind in KINDS.values():
            phases[direction] |= fit_kind(kind, direction)
        phases[direction] |= {name: element_kernel(names) for name, names in elements.items()}
    folded = kernel("part of the convolution before it", assumed=True, overhead=1e-9)
    phases["forward"]["norm-batch"] = phases["dx"]["norm-batch"] = folded
    summed = float(np.mean([count_of(case) for case in CASES if case["kernel"] == "channel_sum"]))
    seconds = CYCLES / CLOCK / FLOAT_BYTES
    phases["dw"]["bias"] = kernel(
        f"{summed:.3g} instructions an element of the gradient: counted in QEMU, {CYCLES} cycles each",
        assumed=True,
        bytes=summed * seconds,
    )
    moved = float(np.mean([count_of(case) for case in CASES if case["kernel"] == "axpy"]))
    whole = {"value": 1.0, "source": "the sum of its kernels"}
    return Latency.model_validate(
        {
            **phases,
            "update": kernel(
                f"{moved:.3g} instructions a value: counted in QEMU, {CYCLES} cycles each",
                assumed=True,
                bytes=moved * seconds,
            ),
            "forward_scale": whole,
            "backward_scale": whole,
            "constant": {"value": 0.0, "source": "a step is the sum of its kernels"},
            "fused": False,
            "confidence": "low",
            "valid": Validity(batch=(1, 64), macs=(1e5, 600e6)),
        }
    )


@cache
def parts() -> tuple[Floats, Floats]:
    """Of each counted step, seconds of forward pass, backward pass and rest, (N, 3), and those of its count, (N,)."""
    plain = latency()

    def seconds(table: UpdateTable, **factors: float) -> float:
        scales = {name: getattr(plain, name).model_copy(update={"value": value}) for name, value in factors.items()}
        profile = device.model_copy(update={"latency": plain.model_copy(update=scales)})
        return float(step_seconds(table, profile, 1, "sgd").total[0])

    rows, counted = [], []
    for step in COUNTED:
        found = traced(step["backbone"], step["size"])
        table = UpdateTable.of(found, [methods.named(found)[step["method"]]])
        whole = seconds(table)
        forward, backward = (seconds(table, **{name: 2.0}) - whole for name in SCALES)
        rows.append((forward, backward, whole - forward - backward))
        counted.append(step["instructions"] * CYCLES / CLOCK)
    return np.array(rows), np.array(counted)


@cache
def traced(name: str, size: int) -> Trace:
    return trace(load_backbone(name, num_classes=10, input_size=size), (3, size, size))


def fit_scales(points: Floats) -> Floats:
    """Coefficients of the forward and the backward pass, rounded as they are written."""
    work, counted = parts()
    return np.round(fit(work[points, :2], counted[points], work[points, 2]), 3)


def with_steps() -> Latency:
    """The model with the coefficients of whole steps, and its error on them."""
    work, counted = parts()
    everything = np.ones(len(counted), np.bool_)
    networks = [
        np.array([step["backbone"] == name for step in COUNTED]) for name in sorted({s["backbone"] for s in COUNTED})
    ]
    predicted = held_out(networks, lambda known, asked: work[asked, :2] @ fit_scales(known) + work[asked, 2])
    of = "instructions of whole training steps in QEMU, each network held out; cycles were not measured"
    source = f"fitted to {len(counted)} whole steps: line by line, by channels, partly trained weights"
    scales = {
        name: {"value": value, "source": source} for name, value in zip(SCALES, fit_scales(everything), strict=True)
    }
    error = error_of(predicted, counted, of, "benchmarks/fit_cortex_m7_code.py")
    report("whole steps, each network held out", predicted, counted)
    for step, seconds, truth in zip(COUNTED, predicted, counted, strict=True):
        label = f"{step['backbone']} at {step['size']} px, {step['method']}"
        print(f"    {label:52} {step['instructions'] / 1e6:6.1f} M instructions, predicted {seconds / truth - 1:+.1%}")
    return Latency.model_validate(latency().model_dump() | scales | {"error": error})


def main() -> None:
    conclude(with_steps(), "cortex-m7")


if __name__ == "__main__":
    main()
