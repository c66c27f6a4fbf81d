"""Whether a front keeps its promise on a few hundred images: gains that searches report, and those of fine-tuning.

Run: python benchmarks/promise.py
     python benchmarks/promise.py --data FILE --weights FILE --out FILE [--device cuda] [--jobs N] [--repetitions N]

The first prints what was measured for the project, the second measures anew.

Each repetition draws other images, 30 a class; searches policies as `tinysearch run --device rpi4` does, finalists
scored again included; and then fine-tunes the most accurate member, the recommended one and `last` on the same images
as `tinysearch finetune` does, with two seeds, and measures on up to 2000 test images. A line is kept for each; those
that are there are not done again. Then the table is printed: of each repetition the gain over `last` that was promised,
and the one that was measured. Behind +- is what the front states, and the standard error of the measured difference by
its test images and seeds.
"""

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent / "ground_truth"))
from cuda_graph import few_shot, steps_on
from workers import run_together

from tinysearch.results.front import Front
from tinysearch.results.records import Member, Rescore, TrialRecord
from tinysearch.search.data.images import Dataset, Subset
from tinysearch.search.engine import Search
from tinysearch.search.problem import Problem
from tinysearch.search.proxies.base import Proxy, Score
from tinysearch.search.request import Request
from tinysearch.search.rescoring import score_again
from tinysearch.search.run import WARM_UP
from tinysearch.search.samplers import make_sampler
from tinysearch.search.seeds import seeds_of
from tinysearch.search.stopping import AfterTrials
from tinysearch.search.target import FineTuning, Target
from tinysearch.spaces.policy import UpdatePolicy

PER_CLASS, TESTED, STEPS, BATCH, SEEDS = 30, 200, 200, 32, (0, 1)
BACKBONE, SIZE, DEVICE = "mobilenetv2-w0.35-tf", 96, "rpi4"
MEASURED = Path(__file__).parent / "measured" / "promise.jsonl"
#: Standard errors of an interval that holds the truth nineteen times of twenty.
INTERVAL = 1.96


class Kept:
    """Trials and re-scores in memory."""

    def __init__(self) -> None:
        self._trials: list[TrialRecord] = []
        self.rescores: list[Rescore] = []

    def all(self) -> list[TrialRecord]:
        return list(self._trials)

    def append(self, trial: TrialRecord) -> None:
        self._trials.append(trial)

    def add_rescore(self, rescore: Rescore) -> None:
        self.rescores.append(rescore)


def problem_of(options: argparse.Namespace, repetition: int) -> Problem:
    """What a repetition searches."""
    request = Request.make(
        device=DEVICE,
        dataset=str(options.data),
        backbone=BACKBONE,
        weights=options.weights,
        input_size=SIZE,
        seed=repetition,
    )
    problem = Problem.of(request)
    whole = problem.dataset
    train, test = Subset.balanced(whole.train, PER_CLASS, repetition), Subset.balanced(whole.test, TESTED)
    return replace(problem, dataset=Dataset(whole.name, whole.classes, train, test, whole.source))


def found_by_search(problem: Problem, device: str) -> tuple[Front, Kept, float]:
    """The front that a run reports, what it was made of, and the seconds that it took."""
    begun = time.perf_counter()
    store = Kept()
    sampler = make_sampler(problem.request.sampler, problem.space, problem.request.seed, warm_up=WARM_UP)
    sampler.prepare(problem)
    seeds, stop = seeds_of(problem, only_last=True), AfterTrials(problem.request.trials)
    for _ in Search.of(problem, sampler, scoring(few_shot(problem, device)), store, seeds, stop):
        pass
    while (now := problem.standing(store.all(), store.rescores)).due and now.round <= problem.request.rescore:
        again = scoring(few_shot(replace(problem, round=now.round), device))
        for _ in score_again(store, now, again):
            pass
    return problem.front(store.all(), store.rescores), store, time.perf_counter() - begun


def scoring(proxy: Proxy) -> Any:
    """What a search asks for scores."""

    def evaluate(policies: Sequence[UpdatePolicy]) -> Iterator[tuple[int, Score | str]]:
        for place, policy in enumerate(policies):
            try:
                yield place, proxy(policy)
            except FloatingPointError as error:
                yield place, str(error)

    return evaluate


def repeat(options: argparse.Namespace, repetition: int) -> dict[str, Any]:
    """Search once, fine-tune, and compare."""
    problem = problem_of(options, repetition)
    front, store, seconds = found_by_search(problem, options.device)
    head = problem.trace.layers[problem.trace.head].name
    target = Target(problem.backbone.to(options.device), head, problem.dataset, SIZE)
    trials = {trial.number: trial for trial in store.all()}
    last = next(trial for trial in trials.values() if trial.method == "last")
    base = right(target, last, options.device)
    members = {"best": front.best(), "recommended": front.recommended or front.best()}
    told = {
        name: compared(member, base, right(target, trials[member.trial], options.device))
        for name, member in members.items()
    }
    counts = {"trials": len(trials), "rescores": len(store.rescores), "seconds": round(seconds, 1)}
    return {"repetition": repetition, "last": round(float(base.mean()), 4)} | counts | told


def right(target: Target, trial: TrialRecord, device: str) -> np.ndarray:
    """Which test images are answered right after fine-tuning, with each seed, (S, N)."""
    tuning = FineTuning(target, UpdatePolicy.from_json(trial.policy), BATCH, make_step=steps_on(device))
    rate = tuning.find_rate(STEPS)
    return np.array([tuning.train(rate, STEPS, seed).right.numpy() for seed in SEEDS], np.float64)


def compared(member: Member, base: np.ndarray, own: np.ndarray) -> dict[str, float | str]:
    """The gain that a member promises, and the one that it has."""
    differences = own - base
    by_image, by_seed = differences.mean(0), differences.mean(1)
    error = math.hypot(by_image.std() / math.sqrt(by_image.size), by_seed.std(ddof=1) / math.sqrt(by_seed.size))
    values = {
        "promised": member.gain or 0.0,
        "promised_se": member.gain_se or 0.0,
        "measured": float(differences.mean()),
        "measured_se": error,
    }
    return {"hash": member.hash} | {name: round(value, 4) for name, value in values.items()}


def work(options: argparse.Namespace, repetitions: Any) -> None:
    """Do one repetition after another."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    while not repetitions.empty():
        try:
            repetition = repetitions.get(timeout=1)
        except Exception:  # another was faster
            return
        line = repeat(options, repetition)
        with options.out.open("a") as file:
            file.write(json.dumps(line) + "\n")


def report(out: Path) -> None:
    """Print the table."""
    lines = sorted((json.loads(line) for line in out.read_text().splitlines()), key=lambda line: line["repetition"])
    print("gain over the head alone, in points: promised, measured; whether they agree at two standard errors")
    for name in ("best", "recommended"):
        agreed = within = 0
        for line in lines:
            one = line[name]
            apart = abs(one["promised"] - one["measured"])
            agrees = apart <= INTERVAL * math.hypot(one["promised_se"], one["measured_se"])
            agreed, within = agreed + agrees, within + (apart <= INTERVAL * one["promised_se"])
            promised, measured = (
                f"{100 * one[what]:+5.1f} +- {100 * one[what + '_se']:.1f}" for what in ("promised", "measured")
            )
            print(f"  {name:12} {line['repetition']:3}  {promised}   {measured}   {'agree' if agrees else 'DIFFER'}")
        means = {what: 100 * np.mean([line[name][what] for line in lines]) for what in ("promised", "measured")}
        print(
            f"  {name}: {agreed} of {len(lines)} agree, {within} without allowance for the error of measuring; "
            f"on average {means['promised']:+.1f} promised, {means['measured']:+.1f} measured"
        )


def main() -> None:
    """Do what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--out", type=Path, default=MEASURED)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=20)
    options = parser.parse_args()
    done = (
        {json.loads(line)["repetition"] for line in options.out.read_text().splitlines()}
        if options.out.exists()
        else set()
    )
    with multiprocessing.get_context("spawn").Manager() as manager:
        queue = manager.Queue()
        for repetition in set(range(options.repetitions)) - done:
            queue.put(repetition)
        well = run_together(work, [(options, queue)] * options.jobs)
    report(options.out)
    if not well:
        raise SystemExit("a worker failed: what is finished is kept, and counted above")


if __name__ == "__main__":
    main()
