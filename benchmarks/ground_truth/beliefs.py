"""How well a search's beliefs rank policies that it has not tried, after few fine-tunings: by the ground truth.

Run: OMP_NUM_THREADS=1 python benchmarks/ground_truth/beliefs.py --data DIR

For each cell: tau of the tangent screen with the truth, and of the surrogate that has seen what the few-shot proxy said
of so many policies, drawn by chance twenty times; behind +- is the standard deviation over draws. The table keeps no
answers to single images, which a search has: so the surrogate takes the errors of the fine-tunings to be independent.
Before that, for each rate: for how many policies it is the best, the mean accuracy at it, and tau of what the few-shot
proxy said with the accuracies at it.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch

import tinysearch as ts
from tinysearch.search.ground_truth import Cell
from tinysearch.search.ground_truth.ranking import tau
from tinysearch.search.screens import make_screen
from tinysearch.search.surrogate import Evidence, Surrogate, features

sys.path.append(str(Path(__file__).parents[1]))
from proxies import task_of

AFTER = (8, 12, 20)
DRAWS = 20


def main() -> None:
    """Print a line for each cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("TINYSEARCH_DATA"), help="folder of real data")
    options = parser.parse_args()
    if options.data is None:
        parser.error("needs a folder with images and weights: --data, or TINYSEARCH_DATA")
    torch.set_num_threads(1)
    for cell in ts.ground_truth().cells:
        score = make_screen("tangent", task_of(cell, options.data))(cell.table)
        points = features(cell.table, score, cell.memory_bytes)

        def after(seen: np.ndarray, cell: Cell = cell, points: np.ndarray = points) -> float:
            evidence = Evidence.of(cell.few_shot.accuracy[seen], cell.few_shot.accuracy_se[seen], [b""] * len(seen))
            return tau(Surrogate(points[seen], evidence).predict(points)[0], cell.accuracy)

        print(
            f"{cell.name}: two seeds of the truth {cell.repeatability:.2f}, screen {cell.tau(score):.2f}, few-shot "
            f"{cell.tau(cell.few_shot.accuracy):.2f}"
        )
        (asked,) = set(cell.few_shot.learning_rate)
        print(f"  few-shot at {asked:g}; mean accuracy at each policy's best rate {cell.accuracy.mean():.4f}")
        for rate, accuracy in zip(cell.learning_rates, cell.accuracies.mean(2).T, strict=True):
            print(
                f"  {rate:6g}: best for {(cell.best_rate == rate).sum():2}, mean {accuracy.mean():.4f}, few-shot "
                f"{tau(cell.few_shot.accuracy, accuracy):.2f}"
            )
        rng = np.random.default_rng(0)
        for count in AFTER:
            taus = [after(rng.permutation(len(cell))[:count]) for _ in range(DRAWS)]
            print(f"  surrogate after {count:3}: {np.mean(taus):.2f} +- {np.std(taus):.2f}")
        print(f"  surrogate after all: {after(np.arange(len(cell))):.2f}", flush=True)


if __name__ == "__main__":
    main()
