"""How well a search's beliefs rank policies that it has not tried: Kendall's tau with their accuracies in full.

Run: python benchmarks/samplers/ranking.py --data DIR --weights FILE --out DIR

The policies are those that any search of race.py scored and truth.py fine-tuned. For each seed: tau of the screen, of
the few-shot accuracies themselves, and of the surrogate after so many evaluations of each sampler's; and that of one
seed of the truth with the other, which no ranking can exceed by much.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from cells import CELLS
from race import ALONE
from truth import AFTER, TRUTH, first, trials_of

from tinysearch.search.ground_truth.ranking import tau
from tinysearch.search.judgement import evidence_of, trial_features
from tinysearch.search.surrogate import Surrogate

#: Fewest policies of a search that a surrogate is asked after.
FEWEST = 6


def main() -> None:
    """Print the table of each cell and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    truths: dict[str, dict[str, list[float]]] = {}
    for path in options.out.glob(TRUTH.format("*")):
        for line in map(json.loads, path.read_text().splitlines()):
            truths.setdefault(line["cell"], {})[line["hash"]] = line["accuracy"]
    for cell, truth in sorted(truths.items()):
        one, other, *_ = np.array(list(truth.values())).T
        print(f"\n{cell}: {len(truth)} policies, tau of one seed with the other {tau(one, other):.2f}")
        for seed in sorted({int(path.stem.split("_")[1]) for path in options.out.glob(f"{cell}_*.jsonl")}):
            problem = CELLS[cell].problem(options.data, options.weights, seed)
            searches = {path.stem.split("_")[2]: trials_of(path) for path in options.out.glob(f"{cell}_{seed}_*.jsonl")}
            every = {t.hash: t for trials in searches.values() for t in trials if t.state == "complete"}
            known = [trial for key, trial in every.items() if key in truth]
            true = np.array([np.mean(truth[trial.hash]) for trial in known])
            points = trial_features(problem, known)
            few_shot = tau([trial.accuracy for trial in known], true)
            print(
                f"  seed {seed}, {len(known)} policies: screen {tau(points[:, 0], true):.2f}, few-shot {few_shot:.2f}"
            )
            for sampler in sorted(searches, key=lambda name: (name not in ALONE, name)):
                line = f"    surrogate after evaluations by {sampler:12}"
                for after in AFTER:
                    trials = [trial for trial in first(searches[sampler], after) if trial.state == "complete"]
                    if len(trials) >= max(FEWEST, after // 2):
                        surrogate = Surrogate(trial_features(problem, trials), evidence_of(trials))
                        line += f"  {after}: {tau(surrogate.predict(points)[0], true):.2f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
