"""Values of all tensors by their tangent kernels on one core, against autograd of one image after another.

Run: OMP_NUM_THREADS=1 python benchmarks/screen_speed.py [--backbone timm:vit_tiny_patch16_224 --input-size 64]

`tangent` is the whole screen: the head is fitted to 70 images, gradients are taken of 64 others. `alone` is what the
backward passes of those 64 images take one at a time, without their kernels. Wall time, best of three. The values of
both are checked to agree to 1 %: in float32 an image alone falls on the other side of some activations' kinks.
"""

import argparse
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
from tinysearch.search.screens.tensors import Tensors, tensors_by_row, training
from tinysearch.spaces.backbones import load_backbone
from tinysearch.spaces.trace import trace

CLASSES = 10
Answer = TypeVar("Answer")


def timed(call: Callable[[], Answer], repeats: int = 3) -> tuple[Answer, float]:
    """What a call gives, and its least wall time."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        answer = call()
        times.append(time.perf_counter() - start)
    return answer, min(times)


def alone(network: fx.GraphModule, tensors: Tensors, images: Tensor, direction: Tensor) -> list[Tensor]:
    """The gradients of every tensor, (N, elements), of one image after another."""
    found: list[list[Tensor]] = [[] for _ in tensors]
    with training(tensors):
        for image in images:
            gradients = torch.autograd.grad((network(image[None]) @ direction).sum(), list(tensors.values()))
            for each, gradient in zip(found, gradients, strict=True):
                each.append(gradient.flatten())
    return [torch.stack(each) for each in found]


def main() -> None:
    """Print both times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenetv2-w0.35", help="its weights are random")
    parser.add_argument("--input-size", type=int, default=96)
    options = parser.parse_args()
    size = options.input_size
    torch.set_num_threads(1)
    backbone = load_backbone(options.backbone, num_classes=CLASSES, input_size=size)
    images = torch.randn(14 * CLASSES, 3, size, size, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(images)) % CLASSES
    table = trace(backbone, (3, size, size))
    task = ScreenTask(backbone, table, images.contiguous(memory_format=torch.channels_last), labels)
    score, together = timed(lambda: make_screen("tangent", task))
    fitted, others = divide(labels, 2, task.seed)
    network = probe(task, fitted)
    tensors = tensors_by_row(network, table)
    seen, direction = task.images[others[:IMAGES]], random_direction(CLASSES, task.seed)
    gradients, apart = timed(lambda: alone(network, tensors, seen, direction))
    for (row, part), rows in zip(tensors, gradients, strict=True):
        value = getattr(score, part)[row]
        np.testing.assert_allclose(value, kernel_value(rows), rtol=1e-2, err_msg=f"{table.rows[row].name} {part}")
    print(f"{options.backbone} at {size} px, {len(seen)} images, {len(tensors)} tensors with lite residual modules")
    print(f"tangent {together:.2f} s, alone {apart:.2f} s: {apart / together:.1f} times; values agree")


if __name__ == "__main__":
    main()
