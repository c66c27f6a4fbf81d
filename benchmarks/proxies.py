"""How well screens and the few-shot proxy rank policies, against test accuracies after full fine-tuning.

Run: OMP_NUM_THREADS=1 python benchmarks/proxies.py [--data DIR]

For each cell of `ts.ground_truth()`: Kendall's tau with the truth and its standard error, by drawing policies again;
how far it is above that of the trivial count, with the standard error of the difference; partial taus, the number of
trained weight tensors or the peak memory on a Raspberry Pi 4 held constant; tau among those policies alone that no
screen has found (random ones and published methods); and the regret of trying only the five policies that are ranked
highest, in points of accuracy. Screens are computed here, from at most 500 images of the cell's own
training split; what the few-shot proxy said, and its time on a GPU, is what was kept when the truth was measured.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata

import tinysearch as ts
from tinysearch.search.data.images import normalisation_of, to_float
from tinysearch.search.ground_truth import Cell
from tinysearch.search.ground_truth.ranking import Floats, tau
from tinysearch.search.network import load_network
from tinysearch.search.screens import ScreenTask, make_screen

sys.path.append(str(Path(__file__).parent / "ground_truth"))
from measure import CELLS

WEIGHTS = "mobilenetv2_w0.35_224_notop.pth"
SCREENS = ("tangent", "fisher", "sign-alignment", "count")
#: Most images that screens see.
IMAGES = 500
#: Draws of the bootstrap.
DRAWS = 400
#: How the names of policies begin that the tangent screen has found.
FOUND = ("found-", "front-")


def task_of(cell: Cell, data: Path, seed: int = 0) -> ScreenTask:
    """The network and some training images of a cell."""
    (measured,) = (each for each in CELLS if each.name == cell.name)
    train = measured.load(data).train
    chosen = np.random.default_rng(seed).permutation(len(train))[:IMAGES]
    backbone, trace = load_network(
        cell.backbone, classes=cell.classes, weights=str(data / "weights" / WEIGHTS), input_size=cell.input_size
    )
    pixels = to_float(train.load(chosen, cell.input_size), normalisation_of(backbone))
    images = pixels.contiguous(memory_format=torch.channels_last)
    return ScreenTask(backbone, trace, images, torch.from_numpy(train.labels[chosen]), seed)


def values_of(cell: Cell, data: Path) -> dict[str, tuple[Floats, str]]:
    """What each says of the policies, higher is better, and what it took."""
    task = task_of(cell, data)
    found: dict[str, tuple[Floats, str]] = {}
    for name in SCREENS:
        begun = time.perf_counter()
        values = make_screen(name, task)(cell.table)
        found[name] = values, f"{time.perf_counter() - begun:.1f}"
    said = cell.few_shot
    each = f"{said.seconds.mean():.1f} each"
    found["few-shot accuracy"] = said.accuracy, each
    found["few-shot loss"] = -said.loss, each
    found["few-shot + tangent"] = rankdata(said.accuracy) + rankdata(found["tangent"][0]), each
    return found


def error(statistic: Callable[[np.ndarray], float], count: int) -> float:
    """The standard error of a statistic of policies, by the bootstrap."""
    rng = np.random.default_rng(0)
    return float(np.std([statistic(rng.integers(count, size=count)) for _ in range(DRAWS)]))


def chance(truth: Floats, top: int = 5) -> float:
    """The regret to expect of policies that are picked at random."""
    rng = np.random.default_rng(0)
    best = [truth[rng.choice(len(truth), top, replace=False)].max() for _ in range(4000)]
    return float(truth.max() - np.mean(best))


def report(cell: Cell, data: Path) -> None:
    """Print a cell's table."""
    truth, found = cell.accuracy, values_of(cell, data)
    others = np.array([not names[0].startswith(FOUND) for names in cell.names])
    trivial = found["count"][0]
    print(
        f"\n**{cell.name}**: {len(cell)} policies, {cell.train_images} training images, truth {truth.min():.3f} to "
        f"{truth.max():.3f} with a standard error of {cell.accuracy_se.mean():.3f} ({cell.test_images} test images); "
        f"tau between two of its three seeds {cell.repeatability:.2f}; {others.sum()} policies that no screen found; "
        f"regret of five at random {100 * chance(truth):.1f}\n"
    )
    print("| | tau | above count | within count | within memory | not found | regret of five | seconds |")
    print("| --- " + 7 * "| ---: " + "|")
    for name, (values, seconds) in found.items():

        def own(drawn: np.ndarray, values: Floats = values) -> float:
            return tau(values[drawn], truth[drawn])

        def above(drawn: np.ndarray, values: Floats = values) -> float:
            return tau(values[drawn], truth[drawn]) - tau(trivial[drawn], truth[drawn])

        def rest(drawn: np.ndarray, values: Floats = values) -> float:
            return tau(values[others][drawn], truth[others][drawn])

        gain = cell.tau(values) - cell.tau(trivial)
        cells = [
            f"{cell.tau(values):.2f} ± {error(own, len(cell)):.2f}",
            "" if name == "count" else f"{gain:+.2f} ± {error(above, len(cell)):.2f}",
            f"{cell.tau(values, within='count'):.2f}",
            f"{cell.tau(values, within='memory'):.2f}",
            f"{tau(values[others], truth[others]):.2f} ± {error(rest, others.sum()):.2f}",
            f"{100 * cell.regret(values):.1f}",
            seconds,
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("TINYSEARCH_DATA"), help="folder of real data")
    options = parser.parse_args()
    if options.data is None or not (options.data / "weights" / WEIGHTS).is_file():
        parser.error(f"needs a folder with images and weights/{WEIGHTS}: --data, or TINYSEARCH_DATA")
    torch.set_num_threads(1)
    for cell in ts.ground_truth().cells:
        report(cell, options.data)


if __name__ == "__main__":
    main()
