"""What the fronts of race.py are worth: every policy that one of them reports, fine-tuned in full.

Run: python benchmarks/samplers/truth.py --data DIR --weights FILE --out DIR [--device cuda] [--jobs N]

Fronts are taken after so many evaluations, in two ways: `told` is what dominates by the few-shot results themselves,
as a run reports with samplers that do not screen; `judged` is by what the surrogate believes of them, as with `auto`
and `exact`. True accuracies are those of test images, at the rate of three that held-out images choose, one training
for each seed.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from cells import CELLS

sys.path.append(str(Path(__file__).parents[1] / "ground_truth"))
from cuda_graph import steps_on
from measure import BATCH, RATES, SEEDS, steps_of
from workers import run_together

from tinysearch.results.front import Front
from tinysearch.results.records import TrialRecord
from tinysearch.search.judgement import judge
from tinysearch.search.problem import Problem
from tinysearch.search.target import FineTuning, Target
from tinysearch.spaces.policy import UpdatePolicy

AFTER = (8, 15, 30, 60)
FRONTS, TRUTH = "fronts.json", "truth-{}.jsonl"


def trials_of(path: Path) -> list[TrialRecord]:
    """The trials of a search."""
    names = {field.name for field in fields(TrialRecord)}
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [TrialRecord(**{k: v for k, v in line.items() if k in names}) for line in lines if "number" in line]


def seconds_of(path: Path) -> list[float]:
    """When each evaluation of a search was done, from its beginning."""
    lines = [line for line in map(json.loads, path.read_text().splitlines()) if "number" in line]
    return [line["elapsed"] for line in lines if line["state"] != "infeasible"]


def fronts(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    """The front of each search after so many evaluations, and all policies in them, by cell and hash."""
    found, policies, problems = [], {}, {}
    for path in sorted(options.out.glob("*_*_*.jsonl")):
        cell, seed, sampler = path.stem.split("_")
        if (cell, seed) not in problems:
            problems = {(cell, seed): CELLS[cell].problem(options.data, options.weights, int(seed))}
        problem, every, seconds = problems[cell, seed], trials_of(path), seconds_of(path)
        for after in AFTER:
            trials = first(every, after)
            if sum(trial.tried for trial in trials) < after:
                continue
            for how, front in reported(problem, trials):
                members = {
                    member.hash: [member.accuracy, member.peak_bytes, member.latency_s] for member in front.members
                }
                entry = {"cell": cell, "seed": int(seed), "sampler": sampler, "after": after, "how": how}
                entry["seconds"] = seconds[after - 1]
                ends = {"worst": front.reference_point, "best": front.ideal_point}
                found.append(entry | ends | {"members": members})
                texts = {trial.hash: trial.policy for trial in trials}
                policies.setdefault(cell, {}).update({key: texts[key] for key in members})
    return found, policies


def first(trials: list[TrialRecord], count: int) -> list[TrialRecord]:
    """The first trials, of which so many were tried."""
    tried, taken = 0, []
    for trial in trials:
        tried += trial.tried
        if tried > count:
            break
        taken.append(trial)
    return taken


def reported(problem: Problem, trials: list[TrialRecord]) -> Iterator[tuple[str, Front]]:
    """The front by the results themselves, and by what is believed of them."""
    told = problem.front(trials)
    for how, judged in (("told", {}), ("judged", judge(problem, trials))):
        yield how, Front.from_trials(trials, told.run, told.reference_point, told.ideal_point, judged=judged)


def work(options: argparse.Namespace, policies: dict[str, dict[str, str]], number: int) -> None:
    """Fine-tune every `jobs`-th policy, those of one cell after those of another."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    make_step = steps_on(options.device)
    done = {
        (line["cell"], line["hash"])
        for path in options.out.glob(TRUTH.format("*"))
        for line in map(json.loads, path.read_text().splitlines())
    }
    with (options.out / TRUTH.format(number)).open("a") as file:
        for cell, texts in policies.items():
            target = None
            for key in sorted(texts)[number :: options.jobs]:
                if (cell, key) in done:
                    continue
                if time.time() > options.deadline:
                    return
                policy = UpdatePolicy.from_json(texts[key])
                if target is None:
                    problem = CELLS[cell].problem(options.data, options.weights, 0)
                    backbone = problem.backbone.to(options.device)
                    target = Target(backbone, policy.head, problem.dataset, CELLS[cell].size)
                steps = steps_of(len(target.train))
                tuning = FineTuning(target, policy, BATCH, make_step=make_step)
                held_out = {rate: tuning.attempt(rate, steps).accuracy for rate in RATES}
                rate = max(held_out, key=lambda rate: held_out[rate])
                accuracies = [tuning.train(rate, steps, seed).accuracy for seed in SEEDS[: options.seeds]]
                line = {"cell": cell, "hash": key, "rate": rate, "accuracy": [round(a, 5) for a in accuracies]}
                file.write(json.dumps(line) + "\n")
                file.flush()


def main() -> None:
    """Find the fronts, and fine-tune what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no policy after so long")
    options = parser.parse_args()
    options.deadline = time.time() + options.seconds
    found, policies = fronts(options)
    (options.out / FRONTS).write_text(json.dumps(found))
    print({cell: len(texts) for cell, texts in policies.items()}, "policies", flush=True)
    if not run_together(work, [(options, policies, number) for number in range(options.jobs)]):
        raise SystemExit("a worker failed: what is finished is kept")


if __name__ == "__main__":
    main()
