"""Values of all tensors by their tangent kernels on one core, against autograd of one image after another.

Run: OMP_NUM_THREADS=1 python benchmarks/screen_speed.py

`tangent` is the whole screen: the head is fitted to 70 images, gradients are taken of 64 others. `alone` is what the
backward passes of those 64 images take one at a time, without their kernels. Wall time, best of three. The values of
both are checked to agree to 1 %: in float32 an image alone falls on the other side of some activations' kinks.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, fx

from tinysearch.search.screens import ScreenTask, make_screen
from tinysearch.search.screens.parts import divide
from tinysearch.search.screens.probe import probe
from tinysearch.search.screens.tangent import IMAGES, kernel_value, random_direction
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.trace import trace

NAME, SIZE, CLASSES = "mobilenetv2-w0.35", 96, 10
Answer = TypeVar("Answer")


def timed(call: Callable[[], Answer], repeats: int = 3) -> tuple[Answer, float]:
    """What a call gives, and its least wall time."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        answer = call()
        times.append(time.perf_counter() - start)
    return answer, min(times)


def alone(network: fx.GraphModule, images: Tensor, direction: Tensor) -> dict[str, list[Tensor]]:
    """The gradients of every parameter, of one image after another."""
    found: dict[str, list[Tensor]] = {name: [] for name, _ in network.named_parameters()}
    for image in images:
        gradients = torch.autograd.grad((network(image[None]) @ direction).sum(), list(network.parameters()))
        for name, gradient in zip(found, gradients, strict=True):
            found[name].append(gradient.flatten())
    return found


def main() -> None:
    """Print both times."""
    torch.set_num_threads(1)
    backbone = load_backbone(NAME, num_classes=CLASSES, input_size=SIZE)
    images = torch.randn(14 * CLASSES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(images)) % CLASSES
    table = trace(backbone, (3, SIZE, SIZE))
    task = ScreenTask(backbone, table, images.contiguous(memory_format=torch.channels_last), labels)
    score, together = timed(lambda: make_screen("tangent", task))
    fitted, others = divide(labels, 2, task.seed)
    network = probe(task, fitted).requires_grad_(True)
    seen, direction = task.images[others[:IMAGES]], random_direction(CLASSES, task.seed)
    gradients, apart = timed(lambda: alone(network, seen, direction))
    for name, rows in gradients.items():
        layer, _, attribute = name.rpartition(".")
        row = table.index[layer]
        norm = table.rows[row].kind == "norm"
        values = score.bias if attribute == "bias" else score.scale if norm else score.weight
        np.testing.assert_allclose(values[row], kernel_value(torch.stack(rows)), rtol=1e-2, err_msg=name)
    print(f"{NAME} at {SIZE} px, {len(seen)} images, {len(gradients)} tensors with lite residual modules")
    print(f"tangent {together:.2f} s, alone {apart:.2f} s: {apart / together:.1f} times; values agree")


if __name__ == "__main__":
    main()
