"""The hypervolume that the fronts of race.py truly have, by sampler and number of evaluations, printed and drawn.

Run: python benchmarks/samplers/report.py [--out DIR] [--plot FILE]

Without a folder it is what was measured for the project: fronts and truth, without the searches.

A front is worth the share of the box between chance at the costs of full fine-tuning and everything right at no cost
that its members dominate with the accuracies that truth.py measured. Behind +- is the standard error over seeds; how
far `auto` is ahead after 8 evaluations is paired by seed.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from race import SAMPLERS
from truth import AFTER, FRONTS, TRUTH

from tinysearch.results.pareto import OBJECTIVES, as_minimised, hypervolume

#: How fronts are reported: as a run does, the surrogate speaking for `auto` and `exact`; and as if for all.
OWN = {"auto": "judged", "exact": "judged"}
#: Evaluations of `auto` that all others are compared with.
REFERENCE = 8
Volumes = dict[tuple[str, str, int], dict[int, float]]
#: By sampler, way of reporting and evaluations.
Seconds = dict[tuple[str, str, int], list[float]]
#: What was measured for the project, without the searches themselves.
MEASURED = Path(__file__).parent / "measured"


def volumes(out: Path, how: str | None) -> tuple[dict[str, Volumes], dict[str, Seconds]]:
    """True hypervolumes by cell, then by sampler, way of reporting and evaluations, then by seed; and seconds."""
    truth = {
        (line["cell"], line["hash"]): float(np.mean(line["accuracy"]))
        for path in out.glob(TRUTH.format("*"))
        for line in map(json.loads, path.read_text().splitlines())
    }
    found: dict[str, Volumes] = defaultdict(lambda: defaultdict(dict))
    seconds: dict[str, Seconds] = defaultdict(lambda: defaultdict(list))
    for front in json.loads((out / FRONTS).read_text()):
        own = how or OWN.get(front["sampler"], "told")
        members = [
            [truth[front["cell"], key], memory, latency]
            for key, (_, memory, latency) in front["members"].items()
            if (front["cell"], key) in truth
        ]
        if front["how"] != own or len(members) < len(front["members"]):
            continue
        worst, best = (
            as_minimised([front[end][objective.name] for objective in OBJECTIVES], OBJECTIVES)
            for end in ("worst", "best")
        )
        value = hypervolume(as_minimised(members, OBJECTIVES), worst, best)
        key = front["sampler"], own, front["after"]
        found[front["cell"]][key][front["seed"]] = value
        seconds[front["cell"]][key].append(front["seconds"])
    return found, seconds


def table(cell: str, found: Volumes, seconds: Seconds) -> None:
    """Print a cell's."""
    print(f"\n{cell}: true hypervolume after so many evaluations (seeds), seconds")
    for (sampler, how, after), by_seed in sorted(
        found.items(), key=lambda item: (SAMPLERS.index(item[0][0]), item[0][2])
    ):
        values = np.array(list(by_seed.values()))
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        took = np.mean(seconds[sampler, how, after])
        line = f"{sampler:12} {how:7} {after:3}  {values.mean():.4f} +- {error:.4f} ({len(values)})  {took:6.0f} s"
        reference = found.get(("auto", OWN["auto"], REFERENCE))
        if reference and sampler != "auto":
            both = sorted(set(reference) & set(by_seed))
            ahead = np.array([reference[seed] - by_seed[seed] for seed in both])
            if len(both) > 1:
                spread = ahead.std(ddof=1) / np.sqrt(len(ahead))
                line += f"   auto after {REFERENCE} is ahead by {ahead.mean():+.4f} +- {spread:.4f}"
        print(line)


def draw(found: dict[str, Volumes], path: Path) -> None:
    """Draw true hypervolume over evaluations."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(6 * len(found), 4.5), squeeze=False, layout="constrained")
    for axis, (cell, own) in zip(axes[0], sorted(found.items()), strict=True):
        for sampler in SAMPLERS:
            points = {after: list(own[key].values()) for key in own for after in [key[2]] if key[0] == sampler}
            if not points:
                continue
            after = sorted(points)
            means = [np.mean(points[n]) for n in after]
            errors = [np.std(points[n], ddof=1) / np.sqrt(len(points[n])) if len(points[n]) > 1 else 0 for n in after]
            style = {"linewidth": 2.5, "color": "black"} if sampler == "auto" else {"linewidth": 1.2}
            axis.errorbar(after, means, errors, marker="o", markersize=4, capsize=3, label=sampler, **style)
        axis.set(title=cell, xlabel="policies fine-tuned by the proxy", xscale="log", xticks=AFTER)
        axis.set_xticklabels([str(n) for n in AFTER])
        axis.minorticks_off()
    axes[0, 0].set_ylabel("hypervolume by accuracies after full fine-tuning")
    axes[0, -1].legend(fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Print the tables and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=MEASURED)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--how", choices=("told", "judged"), help="report all fronts alike, not as a run does")
    options = parser.parse_args()
    found, seconds = volumes(options.out, options.how)
    for cell in sorted(found):
        table(cell, found[cell], seconds[cell])
    if options.plot:
        draw(found, options.plot)


if __name__ == "__main__":
    main()
