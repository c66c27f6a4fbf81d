"""Which channels of a weight to train: those of the largest L1 norm, by Fisher information, by tangent kernel, or any.

Run: python benchmarks/channels.py --data DIR --weights FILE [--device cuda] [--jobs N]

Policies train a share of the channels of every weight in the last blocks, by input or by output, and the norm shifts of
these blocks. Each is scored by the few-shot proxy on several draws of episodes. Printed is what is gained, in points,
over channels of the largest L1 norm; behind +- is the standard error, by the queries that the two answer differently.
What is drawn at random is drawn twice, and the mean of the two is shown.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).parent / "ground_truth"))
sys.path.append(str(Path(__file__).parent / "samplers"))
from cells import CELLS
from cuda_graph import few_shot

from tinysearch.search.problem import Problem
from tinysearch.search.screens.gradients import CHUNK, visit_gradients
from tinysearch.search.screens.parts import divide
from tinysearch.search.screens.probe import probe
from tinysearch.search.screens.tangent import random_direction
from tinysearch.search.screens.task import ScreenTask
from tinysearch.spaces.policy import Channels, LayerUpdate, NormUpdate, UpdatePolicy
from tinysearch.spaces.trace import Layer, Trace

Axis = Literal["in", "out"]
#: What each channel of a layer is worth, by the layer's name and the axis.
Worth = Callable[[Layer, Axis], np.ndarray]
RATIOS, AXES, BLOCKS, DRAWS, IMAGES = (0.125, 0.25, 0.5), ("in", "out"), 5, 3, 64
CRITERIA = ("l1", "fisher", "tangent", "random 0", "random 1")


def worth_of(problem: Problem, criterion: str) -> Worth:
    """The criterion by its name, on the images that a search would choose by."""
    trace = problem.trace
    if criterion == "l1":
        return lambda layer, axis: trace.channel_norms[layer.name][axis]
    if criterion.startswith("random"):
        rng = np.random.default_rng(int(criterion[-1]))
        return lambda layer, axis: rng.random(layer.in_channels if axis == "in" else layer.out_channels)
    support = problem.support_task()
    task = ScreenTask(problem.backbone, trace, support.images, support.labels, problem.seed)
    fitted, others = divide(task.labels, 2, problem.seed)
    picked = others[:IMAGES]
    direction = random_direction(trace.num_classes, problem.seed)
    squares: dict[str, torch.Tensor] = {}

    def visit(row: int, part: str, gradients: torch.Tensor) -> None:
        if part == "weight":
            name = trace.rows[row].name
            squares[name] = squares.get(name, 0) + gradients.double().square().sum(0)

    model = probe(task, fitted)
    for chosen in torch.split(picked, CHUNK):
        labels = task.labels[chosen]
        objective = {
            "fisher": lambda logits, labels=labels: F.cross_entropy(logits, labels, reduction="none"),
            "tangent": lambda logits: logits @ direction,
        }[criterion]
        visit_gradients(model, trace, task.images[chosen], objective, visit)

    def worth(layer: Layer, axis: Axis) -> np.ndarray:
        shape = model.get_submodule(layer.name).weight.shape  # (out, in / groups, h, w)
        weight = squares[layer.name].view(shape)
        if axis == "out" or layer.depthwise:
            return weight.flatten(1).sum(1).numpy()
        return weight.transpose(0, 1).flatten(1).sum(1).numpy()

    return worth


def policy_of(trace: Trace, worth: Worth, ratio: float, axis: Axis) -> UpdatePolicy:
    """Trains so much of the weights of the last blocks."""
    inside = [layer for layer in trace.layers if layer.block >= len(trace.blocks) - BLOCKS]
    layers = [
        LayerUpdate(name=layer.name, weight=channels(worth(layer, axis), ratio, axis))
        for layer in inside
        if layer.kind == "conv" and layer.sliceable
    ]
    norms = [NormUpdate(name=layer.name, shift=True) for layer in inside if layer.kind == "norm"]
    head = trace.layers[trace.head].name
    return UpdatePolicy(
        backbone=trace.name, input_shape=trace.input_shape, head=head, layers=tuple(layers), norms=tuple(norms)
    )


def channels(worth: np.ndarray, ratio: float, axis: Axis) -> Channels:
    """Those that are worth most."""
    count = max(1, int(ratio * len(worth)))
    best = np.argsort(-worth, kind="stable")[:count]
    return Channels(axis=axis, index=tuple(sorted(int(channel) for channel in best)))


def score(options: argparse.Namespace, cell: str, draw: int) -> dict[tuple[str, float, str], np.ndarray]:
    """Which queries of a draw each policy answers right, by criterion, ratio and axis."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    problem = CELLS[cell].problem(options.data, options.weights, draw)
    proxy = few_shot(problem, options.device)
    found = {}
    for criterion in CRITERIA:
        worth = worth_of(problem, criterion)
        for ratio in RATIOS:
            for axis in AXES:
                policy = problem.on_device(policy_of(problem.trace, worth, ratio, axis))
                found[criterion, ratio, axis] = np.frombuffer(proxy(policy).answers, np.uint8).astype(float)
    return found


def main() -> None:
    """Score all and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        tasks = [(options, cell, draw) for cell in CELLS for draw in range(DRAWS)]
        drawn = dict(zip([task[1:] for task in tasks], pool.starmap(score, tasks, chunksize=1), strict=True))
    for cell in CELLS:
        print(f"\n{cell}: points over L1, {DRAWS} draws")
        for ratio in RATIOS:
            for axis in AXES:
                answers = {
                    criterion: np.concatenate([drawn[cell, draw][criterion, ratio, axis] for draw in range(DRAWS)])
                    for criterion in CRITERIA
                }
                line = f"  {ratio:5} by {axis:3}  l1 {answers['l1'].mean():.3f}"
                for name in ("fisher", "tangent", "random"):
                    own = np.mean([values for key, values in answers.items() if key.startswith(name)], 0)
                    gain = own - answers["l1"]
                    line += f"  {name} {100 * gain.mean():+5.1f} +- {100 * gain.std() / np.sqrt(len(gain)):.1f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
