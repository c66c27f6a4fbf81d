"""Fit the forward pass of profile cortex-m7-int8 to published inference on an STM32H747 and print how well it does.

Run: python benchmarks/fit_cortex_m7.py [--write]

Three numbers, in cycles: of a convolution's multiply-accumulate, of an element that a convolution writes (requantised,
stored), and of a linear layer's multiply-accumulate, whose weight is read from flash once. Kinds of convolutions are
not told apart: a depthwise or a first one costs more a multiply-accumulate since it adds up fewer of them into an
element. Cycles carry over to other Cortex-M7 by the clock. Of the backward pass no measurement of a kernel is
published; whole sparse steps are, and are printed beside the model's answers.
"""

from functools import cache

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
from torch import Tensor, nn

from tinysearch.devices.breakdown import estimate
from tinysearch.devices.latency.seconds import Work
from tinysearch.devices.profile import load_device
from tinysearch.devices.profile.kernels import Latency, Validity, class_keys
from tinysearch.devices.profile.model import Dtypes
from tinysearch.spaces import methods
from tinysearch.spaces.backbones.catalogue import load_backbone
from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2
from tinysearch.spaces.trace import Trace, trace

CLOCK = 400e6
#: Cycles that are not fitted: of calling a kernel, and of a byte that an addition or a pool reads or writes.
CALL, BYTE = 1000, 1
#: Cycles of a fp32 multiply-accumulate and of a byte in the backward pass: priors.
BACKWARD_MAC, BACKWARD_BYTE = 6, 1
INT8 = Dtypes(activation=1, frozen=1, trained=4, gradient=4)
MEASURED = read_rows("h747_inference.csv")
STEPS = read_rows("f746_sparse_steps.csv")
CYCLES = CLOCK * 1e-3 * column(MEASURED, "ms")


def mobilenetv1(width: float, classes: int) -> nn.Module:
    def unit(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU6()]

    channels = int(32 * width)
    layers = unit(3, channels, 3, 2, 1)
    stages = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for base, stride in stages:
        outputs = int(base * width)
        layers += [*unit(channels, channels, 3, stride, channels), *unit(channels, outputs, 1, 1, 1)]
        channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu2(self.second(self.relu1(self.first(x))) + self.shortcut(x))
        return out


def resnet8() -> nn.Module:
    """The image classification network of MLPerf Tiny, norms folded."""
    blocks = [Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 64, 2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), *blocks, *head)


@cache
def traced(model: str, size: int, width: float = 1.0, classes: int = 1000) -> Trace:
    if model == "mobilenetv2":
        network: nn.Module = MobileNetV2(width, classes)
    elif model == "mobilenetv1":
        network = mobilenetv1(width, classes)
    elif model == "vww":
        network = mobilenetv1(0.25, 2)
    elif model == "resnet8":
        network = resnet8()
    else:
        network = load_backbone(model, num_classes=classes, input_size=size)
    return trace(network, (3, size, size))


def terms(found: Trace) -> Floats:
    """Convolutions' multiply-accumulates and elements, linear multiply-accumulates, and cycles that are not fitted."""
    count, load = len(found), Work.of(found, 1, INT8).forward
    kinds = np.array([class_keys(layer)[-1] for layer in found])
    runs = np.array([layer.kind not in ("norm", "act") for layer in found])
    conv, linear = (kinds != "linear") & (kinds != "elementwise"), kinds == "linear"
    macs, outputs, moved = (values[:count] for values in (load.macs, load.outputs, load.bytes))
    known = CALL * runs.sum() + BYTE * moved @ (runs & (kinds == "elementwise"))
    return np.array([macs @ conv, outputs @ conv, macs @ linear, known])


WORK = np.stack(
    [terms(traced(r["model"], int(r["resolution"]), float(r["width"]), int(r["classes"]))) for r in MEASURED]
)


def fit_cycles(points: Floats) -> Floats:
    return fit(WORK[points, :3], CYCLES[points], WORK[points, 3])


def predict(fitted_to: Floats, points: Floats) -> Floats:
    return np.asarray(WORK[points, :3] @ fit_cycles(fitted_to) + WORK[points, 3])


def latency() -> Latency:
    """The latency model that the profile states, at the STM32H747's clock."""
    mac, element, linear = fit_cycles(np.ones(len(CYCLES), bool))
    call = CALL / CLOCK
    fitted = "fitted to the STM32H747, X-CUBE-AI 10; the call assumed"
    conv = kernel(
        f"{mac:.3g} cycles a multiply-accumulate, {element:.3g} an element: {fitted}",
        overhead=call,
        macs=mac / CLOCK,
        outputs=element / CLOCK,
    )
    classes = ("dense", "pointwise", "depthwise")
    forward = dict.fromkeys(classes, conv)
    forward["linear"] = kernel(
        f"{linear:.3g} cycles a multiply-accumulate, the weight read from flash: {fitted}",
        overhead=call,
        macs=linear / CLOCK,
    )
    forward["elementwise"] = kernel("a byte a cycle", assumed=True, overhead=call, bytes=BYTE / CLOCK)
    prior = "6 +/- 2 cycles a fp32 multiply-accumulate: a prior, no backward kernel is published"
    mac_back = kernel(prior, assumed=True, overhead=call, macs=BACKWARD_MAC / CLOCK)
    moved = kernel("four cycles a fp32 value", assumed=True, overhead=call, bytes=BACKWARD_BYTE / CLOCK)
    backward = dict.fromkeys((*classes, "linear"), mac_back) | {"elementwise": moved}
    unmeasured = {"value": 1.0, "assumed": True, "source": "no whole step was fitted"}
    return Latency.model_validate(
        {
            "clock": {"value": CLOCK, "source": "the STM32H747 of the measurements"},
            "forward": forward,
            "dx": backward,
            "dw": backward,
            "update": kernel("as elementwise", assumed=True, overhead=call, bytes=BACKWARD_BYTE / CLOCK),
            "forward_scale": unmeasured,
            "backward_scale": unmeasured,
            "constant": {"value": 0.0, "assumed": True, "source": "no whole step was fitted"},
            "fused": True,
            "transferred": "cycles of an STM32H747, by the clock: within 15 % on other Cortex-M7 in inference",
            "confidence": "low",
            "valid": Validity(batch=(1, 1), macs=(5e6, 600e6)),
        }
    )


def sparse_steps(model: Latency) -> tuple[Floats, Floats]:
    """Seconds of the published sparse steps on the STM32F746, predicted and measured."""
    device = load_device("cortex-m7-int8").model_copy(update={"latency": model})
    predicted = []
    for row in STEPS:
        found = traced(row["model"], 128, classes=10)
        policy = methods.sparse_update(found, int(row["scheme"]))
        predicted.append(estimate(found, policy, device, optimizer="sgd").latency_s)
    return np.array(predicted), 1e-3 * column(STEPS, "ms")


def with_error(model: Latency) -> Latency:
    """The model with its error on what it is for: training steps."""
    of = "whole sparse training steps on the STM32F746 (Lin et al. 2022), none of them fitted"
    return model.model_copy(update={"error": error_of(*sparse_steps(model), of, "benchmarks/fit_cortex_m7.py")})


def main() -> None:
    everything = np.ones(len(CYCLES), bool)
    report("H747 inference, fitted", predict(everything, everything), CYCLES)
    report("H747 inference, leave one out", held_out(each_alone(len(CYCLES)), predict), CYCLES)
    cost = np.append(fit_cycles(everything), 1.0)
    others = read_rows("cortex_m7_other.csv")
    predicted_ms = [
        terms(traced(r["model"], int(r["resolution"]))) @ cost / float(r["clock_mhz"]) / 1e3 for r in others
    ]
    report("other Cortex-M7 and engines, none of them fitted", np.array(predicted_ms), column(others, "ms"))
    for row, ms in zip(others, predicted_ms, strict=True):
        label = f"{row['device']} at {row['clock_mhz']} MHz, {row['engine']}, {row['model']} at {row['resolution']}"
        print(f"    {label:62} {float(row['ms']):6.1f} ms, predicted {ms:6.1f} ms ({ms / float(row['ms']) - 1:+.1%})")
    model = as_read(latency())
    report("sparse training steps on an STM32F746, none of them fitted", *sparse_steps(model))
    for row, seconds in zip(STEPS, sparse_steps(model)[0], strict=True):
        label = f"{row['model']}, published scheme {row['scheme']}"
        error = 1e3 * seconds / float(row["ms"]) - 1
        print(f"    {label:62} {float(row['ms']):6.1f} ms, predicted {1e3 * seconds:6.1f} ms ({error:+.1%})")
    conclude(with_error(model), "cortex-m7-int8")


if __name__ == "__main__":
    main()
