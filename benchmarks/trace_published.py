"""Trace the networks of the published Raspberry Pi 4 measurements and write benchmarks/data/rpi4_work.csv.

Run: pip install --no-deps torchvision==0.28.0 && python benchmarks/trace_published.py

The work of one training step is that of `devices.latency`: batch 16, 224 x 224, fp32, SGD, everything trained.
"""

import csv
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fitting import DATA

from tinysearch.devices.latency.seconds import Work
from tinysearch.devices.profile.kernels import class_keys
from tinysearch.devices.profile.model import Dtypes
from tinysearch.spaces.optimizers import SGD
from tinysearch.spaces.trace import INPUT, trace

BATCH, SIZE = 16, 224
HEADER = """\
# Work of one training step, batch 16, 224 x 224, fp32, SGD, everything trained; written by trace_published.py from
# torchvision 0.28's definitions. gemm: dense, pointwise, grouped and linear layers; update: the optimizer.
"""


def networks() -> dict[str, Callable[[], Any]]:
    # torchvision's wheels ask for operators that a CPU build of torch lacks; none of them is used here.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import models
    from torchvision.models.mobilenetv3 import MobileNetV3, _mobilenet_v3_conf

    return {
        "resnet18": models.resnet18,
        "resnet50": models.resnet50,
        "mobilenetv2-w1.0": models.mobilenet_v2,
        "mobilenetv3-small-w0.75": lambda: MobileNetV3(*_mobilenet_v3_conf("mobilenet_v3_small", width_mult=0.75)),
        "mobilenetv3-small-w1.0": models.mobilenet_v3_small,
        "mobilenetv3-large-w1.0": models.mobilenet_v3_large,
        "mnasnet-w0.5": models.mnasnet0_5,
        "mnasnet-w1.0": models.mnasnet1_0,
        "efficientnet-b0": models.efficientnet_b0,
        "efficientnet-b1": models.efficientnet_b1,
        "efficientnet-b3": models.efficientnet_b3,
    }


def work_of(network: torch.nn.Module) -> dict[str, int]:
    found = trace(network.eval(), (3, SIZE, SIZE))
    work = Work.of(found, BATCH, Dtypes(activation=4, frozen=4, trained=4, gradient=4))
    rows = found.layers
    here = np.arange(len(found.rows)) < len(rows)
    kinds = np.array([class_keys(layer)[-1] for layer in found.rows])
    live = here & np.array([any(source != INPUT for source in layer.inputs) for layer in found.rows])
    weight = here & np.array([layer.weights > 0 for layer in found.rows])
    bias = here & np.array([layer.bias for layer in found.rows])
    macs = work.forward.macs
    result = {"params": sum(layer.params for layer in rows), "input_bytes": 4 * BATCH * 3 * SIZE * SIZE}
    for name, forward, which in (("forward", True, (here,)), ("backward", False, (live, weight))):
        for key, kind in (("depthwise", kinds == "depthwise"), ("gemm", (macs > 0) & (kinds != "depthwise"))):
            result[f"{name}_{key}_macs"] = int(sum(macs @ (runs & kind) for runs in which))
        loads = [(work.forward, here)] if forward else [(work.dx, live), (work.dw, weight), (work.bias, bias)]
        result[f"{name}_bytes"] = int(sum(load.bytes @ runs for load, runs in loads))
        result[f"{name}_calls"] = int(sum(runs.sum() for _, runs in loads))
    result["update_bytes"] = 4 * SGD.traffic * result["params"]
    result["update_calls"] = int(weight.sum() + bias.sum())
    return result


def main() -> None:
    with (DATA / "rpi4_work.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(HEADER)
        writer = None
        for name, build in networks().items():
            row = {"model": name, **work_of(build())}
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
            print(name, file=sys.stderr)


if __name__ == "__main__":
    main()
