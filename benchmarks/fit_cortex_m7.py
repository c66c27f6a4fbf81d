"""Fit the forward rates of profile cortex-m7 to published inference on an STM32H747 and print how well they do.

Run: python benchmarks/fit_cortex_m7.py

Cycles a multiply-accumulate by class, from the MobileNetV2 points alone; MobileNetV1 tests them. Cycles carry over to
other Cortex-M7 by the clock, within about 15 %. The backward pass of no fp32 network on such a core is published.
"""

import csv
from pathlib import Path

import numpy as np
from scipy.optimize import lsq_linear
from torch import nn

from tinysearch.devices.kernels import class_keys
from tinysearch.spaces.backbones.mobilenetv2 import MobileNetV2
from tinysearch.spaces.trace import Trace, trace

DATA = Path(__file__).parent / "data" / "h747_inference.csv"
CLASSES = ("dense", "pointwise", "depthwise", "linear")
H747, F746 = 400e6, 216e6


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


def macs_by_class(found: Trace) -> list[int]:
    return [sum(layer.macs_forward for layer in found if class_keys(layer)[-1] == name) for name in CLASSES]


def main() -> None:
    lines = [line for line in DATA.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    work = []
    for row in rows:
        build = MobileNetV2 if row["model"] == "mobilenetv2" else mobilenetv1
        size = int(row["resolution"])
        work.append(macs_by_class(trace(build(float(row["width"]), int(row["classes"])), (3, size, size))))
    macs = np.array(work, float)
    cycles = np.array([float(row["ms"]) * 1e-3 * H747 for row in rows])
    fitted = np.array([row["model"] == "mobilenetv2" for row in rows])
    scaled = macs[fitted] / cycles[fitted, None]
    each = lsq_linear(scaled, np.ones(fitted.sum()), bounds=(0.5, 12)).x
    for name, value in zip(CLASSES, each, strict=True):
        print(f"{name:10} {value:5.2f} cycles a MAC, {F746 / value / 1e6:6.1f} MMAC/s at 216 MHz")
    error = np.abs(macs @ each / cycles - 1)
    print(f"fitted {error[fitted].mean():.1%}, MobileNetV1 {error[~fitted].mean():.1%}, all {error.mean():.1%}")


if __name__ == "__main__":
    main()
