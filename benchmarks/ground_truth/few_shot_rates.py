"""At which learning rate the few-shot proxy ranks policies best where images are few.

Run: OMP_NUM_THREADS=1 python benchmarks/ground_truth/few_shot_rates.py --data DIR [--cell NAME] [--rates R ...]

Scores some policies of a cell of `ts.ground_truth()` with the cell's own training images, all at one rate, as a search
would, and prints tau with the truth and its standard error by drawing policies again, the partial tau with the count of
trained weight tensors held constant, tau with the tangent screen, and the standard error of a difference between two
policies by the queries that they answer differently. Half a minute of one core a policy and rate.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
from measure import CELLS, Proxy

import tinysearch as ts
from tinysearch.search.ground_truth import Cell
from tinysearch.search.ground_truth.ranking import partial_tau, tau
from tinysearch.search.screens import make_screen

sys.path.append(str(Path(__file__).parents[1]))
from proxies import WEIGHTS, error, task_of

#: From the head alone to most of the network.
POLICIES = (
    "last",
    "mobiletl-1",
    "mobiletl-3",
    "mobiletl-5",
    "sparse-update-0",
    "sparse-update-2",
    "found-cifar10-rpi4@sparse-update-4",
    "front-cifar10-912",
    "front-cifar10-25037",
    "front-gtsrb-13507",
)


def report(cell: Cell, data: Path, rates: list[float]) -> None:
    """Print a line for each rate."""
    names = [each[0] for each in cell.names]
    chosen = np.array([names.index(name) for name in POLICIES])
    truth, counts = cell.accuracy[chosen], cell.weight_counts[chosen]
    task = task_of(cell, data)
    screen = make_screen("tangent", task)(cell.table)[chosen]
    (measured,) = (each for each in CELLS if each.name == cell.name)
    options = argparse.Namespace(device="cpu")
    proxy = Proxy(measured.load(data), task.backbone, task.trace, cell.input_size, options)
    print(f"{cell.name}: {len(chosen)} policies; tau of the screen with the truth {tau(screen, truth):.2f}")
    for rate in rates:
        scores = [proxy(cell.policies[place].with_training(optimizer="adam", learning_rate=rate)) for place in chosen]
        said = np.array([score.accuracy for score in scores])
        right = np.array([np.frombuffer(score.answers, np.uint8) for score in scores])
        apart = np.sqrt((right[:, None] != right[None]).mean(-1) / right.shape[1])[np.triu_indices(len(said), 1)]
        print(
            f"  {rate:g}: tau {tau(said, truth):.2f} +- "
            f"{error(lambda drawn, said=said: tau(said[drawn], truth[drawn]), len(said)):.2f}, within count "
            f"{partial_tau(said, truth, counts):.2f}, with the screen {tau(said, screen):.2f}; mean {said.mean():.3f}, "
            f"standard error of a difference {np.median(apart):.3f}",
            flush=True,
        )
        print("    " + ", ".join(f"{name} {each:.3f}" for name, each in zip(POLICIES, said, strict=True)), flush=True)


def main() -> None:
    """Print the cells that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("TINYSEARCH_DATA"), help="folder of real data")
    parser.add_argument("--cell", nargs="*", default=["cifar10-20", "dtd10-20"])
    parser.add_argument("--rates", nargs="*", type=float, default=[3e-4, 1e-3])
    options = parser.parse_args()
    if options.data is None or not (options.data / "weights" / WEIGHTS).is_file():
        parser.error(f"needs a folder with images and weights/{WEIGHTS}: --data, or TINYSEARCH_DATA")
    torch.set_num_threads(1)
    for name in options.cell:
        report(ts.ground_truth().cell(name), options.data, options.rates)


if __name__ == "__main__":
    main()
