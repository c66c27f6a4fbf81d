"""The tangent-kernel score: how far, and in how many directions, training a tensor can move the network's answers.

To first order a tensor t moves the answers to n images by the tangent kernel K_t = J_t J_t^T, where J_t, (n, |t|), is
the gradient of the answers (Jacot et al. 2018). Two numbers of it count:

    tr_t = trace(K_t) / n                  how strongly t moves the answers
    pr_t = trace(K_t)^2 / |K_t|_F^2        in how many independent directions over images (participation ratio)

and the value of a tensor is sqrt(tr_t pr_t). Square roots are summed since many tensors that move a little are worth
more than one that moves much.
"""

import math

import torch
from torch import Tensor

from ...spaces.trace import Trace
from .base import AdditiveScore
from .collect import Values
from .gradients import CHUNK, visit_gradients
from .parts import divide
from .probe import probe
from .task import ScreenTask
from .tensors import Part

#: Most images that gradients are taken of.
IMAGES = 64
#: Gradients between this and its inverse have squares that neither overflow nor vanish when they are added up.
USUAL = 1e12


def tangent(task: ScreenTask) -> AdditiveScore:
    """Score tensors by their tangent kernels.

    The head is that of class prototypes (Snell et al. 2017) of one half of the images. Gradients are taken on at most
    `IMAGES` images of the other half, of one random direction over the logits: centred, of unit length, drawn by the
    task's seed. Statistics of norms are frozen. Lite residual modules have values as `probe` says: exact ones of their
    last norm, and of their other layers those at a last norm of scale 0.1.

    Args:
        task: The network and its images.
    """
    fitted, others = divide(task.labels, 2, task.seed)
    network = probe(task, fitted)
    direction = random_direction(task.trace.num_classes, task.seed)
    images = task.images[others[:IMAGES]]
    chunks = torch.split(images, _at_once(task.trace))
    values, waiting = Values(task.trace), dict[tuple[int, Part], list[Tensor]]()

    def visit(row: int, part: Part, gradients: Tensor) -> None:
        parts = [*waiting.pop((row, part), []), gradients]
        if sum(map(len, parts)) == len(images):
            values.add(row, part, kernel_value(*parts))
        else:
            waiting[row, part] = parts

    for chunk in chunks:
        visit_gradients(network, task.trace, chunk, lambda logits: logits @ direction, visit)
    return values.score()


def _at_once(trace: Trace) -> int:
    """Images passed at once: all, if their activations need less memory than to keep gradients of a part of them."""
    activations = sum(layer.out_elements for layer in trace.rows)
    tensors = sum(layer.params for layer in trace.rows)
    return IMAGES if activations * (IMAGES - CHUNK) <= tensors * CHUNK else CHUNK


def kernel_value(*parts: Tensor) -> float:
    """sqrt(tr pr) of the kernel of some gradients; 0 where all of them vanish.

    Args:
        parts: The gradients, (n, elements), in as many parts as they come in: joined, they would be copied.
    """
    largest = max(abs(float(value)) for part in parts for value in torch.aminmax(part))
    if largest == 0:
        return 0.0
    unit = 1.0 if 1 / USUAL < largest < USUAL else largest
    parts = parts if unit == 1 else tuple(part / unit for part in parts)
    kernel = torch.cat([torch.cat([one @ other.T for other in parts], 1) for one in parts]).double()
    trace, norm = float(kernel.trace()), float(kernel.norm())
    return unit * math.sqrt(trace / len(kernel)) * trace / norm


def random_direction(classes: int, seed: int) -> Tensor:
    """A random direction over logits, (classes,): its sum is 0 and its length 1, or 0 where there is one class."""
    drawn = torch.randn(classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    centred = drawn - drawn.mean()
    length = centred.norm()
    return (centred / length if length > 0 else centred).float()
