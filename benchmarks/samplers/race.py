"""Searches of the same problems by every sampler, each trial kept as a line with the time that it came at.

Run: python benchmarks/samplers/race.py --data DIR --weights FILE --out DIR [--device cuda] [--jobs N]

The published methods are scored first by the samplers that begin with them, as in a run; each is scored once for all.
`auto` goes on to the end where it would have stopped, and says where that was. What is kept already is not done again.
Then: truth.py, and report.py.
"""

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from cells import CELLS
from peers import PEERS

sys.path.append(str(Path(__file__).parents[1] / "ground_truth"))
from cuda_graph import few_shot
from workers import run_together

from tinysearch.results.records import TrialRecord
from tinysearch.search.engine import Search
from tinysearch.search.problem import Problem
from tinysearch.search.proxies.base import Proxy, Score
from tinysearch.search.run import WARM_UP
from tinysearch.search.samplers import make_sampler
from tinysearch.search.seeds import seeds_of
from tinysearch.search.stopping import AfterTrials
from tinysearch.spaces.policy import UpdatePolicy
from tinysearch.spaces.table import UpdateTable

SAMPLERS = ("auto", "exact", "nsga2", "tpe", "gp", "random", *PEERS)
SEEDS = (0, 1, 2)
EVALUATIONS = 60
#: So many are enough of those that do not need more to be judged.
FEWER = {"auto": 30, "exact": 30, "gp": 30}
#: Those that do not begin with the published methods.
ALONE = ("auto", "exact", "greedy")
Job = tuple[str, int, str]


class Lines:
    """Trials in a file, one a line."""

    def __init__(self, path: Path, begun: float) -> None:
        self._path, self._begun = path, begun
        self._kept: list[TrialRecord] = []

    def all(self) -> list[TrialRecord]:
        return list(self._kept)

    def append(self, trial: TrialRecord) -> None:
        self._kept.append(trial)
        with self._path.open("a") as file:
            file.write(json.dumps({"elapsed": round(time.perf_counter() - self._begun, 2)} | asdict(trial)) + "\n")


class Shared:
    """Scores policies, those that any search of the same problem has scored already from memory.

    Args:
        problem: What is searched.
        proxy: Scores policies.
        scores: Of policies by their hash, shared among processes.
    """

    def __init__(self, problem: Problem, proxy: Proxy, scores: MutableMapping[Any, Score | str]) -> None:
        self._key = (problem.dataset.name, problem.seed)
        self._proxy, self._scores = proxy, scores
        self.saved = 0.0

    def __call__(self, policies: Sequence[UpdatePolicy]) -> Iterator[tuple[int, Score | str]]:
        for place, policy in enumerate(policies):
            key = (*self._key, policy.hash)
            if key in self._scores:
                score = self._scores[key]
                self.saved += score.seconds if isinstance(score, Score) else 0.0
            else:
                try:
                    score = self._proxy(policy)
                except FloatingPointError as error:
                    score = str(error)
                self._scores[key] = score
            yield place, score


def search(problem: Problem, name: str, evaluate: Shared, path: Path) -> None:
    """A whole search by one sampler."""
    begun = time.perf_counter()
    store = Lines(path, begun)
    if name in PEERS:
        sampler = PEERS[name](problem.space, problem.seed)
    else:
        sampler = make_sampler(name, problem.space, problem.seed, warm_up=WARM_UP)
    sampler.prepare(problem)
    stopped: list[str] = []
    enough = sampler.enough
    sampler.enough = lambda: (stopped.append(enough()) or "") if not any(stopped) else ""  # type: ignore[method-assign]
    seeds = seeds_of(problem, only_last=sampler.knows_better)
    every = Search.of(problem, sampler, evaluate, store, seeds, AfterTrials(FEWER.get(name, EVALUATIONS)))
    would_end = None
    for record in every:
        if would_end is None and any(stopped):
            would_end = record.number
    end = {"ended": every.ended, "would_end": would_end, "saved": round(evaluate.saved, 2)}
    with path.open("a") as file:
        file.write(json.dumps(end | {"elapsed": round(time.perf_counter() - begun, 2)}) + "\n")


def work(options: argparse.Namespace, jobs: Any, scores: Any) -> None:
    """Take job after job."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    problems: dict[tuple[str, int], tuple[Problem, Proxy]] = {}
    failed = False
    while not jobs.empty():
        try:
            cell, seed, name = jobs.get(timeout=1)
        except Exception:  # another was faster
            break
        if time.time() > options.deadline:
            break
        if (cell, seed) not in problems:
            problem = CELLS[cell].problem(options.data, options.weights, seed)
            problems = {(cell, seed): (problem, few_shot(problem, options.device))}
        problem, proxy = problems[cell, seed]
        evaluate = Shared(problem, proxy, scores)
        if name == "methods":
            list(evaluate([policy for policy in seeds_of(problem) if fits(problem, policy)]))
            continue
        path = options.out / f"{cell}_{seed}_{name}.jsonl"
        path.unlink(missing_ok=True)
        try:
            search(problem, name, evaluate, path)
        except Exception:  # others go on; what is finished of this one is kept
            traceback.print_exc()
            failed = True
    if failed:
        sys.exit(1)


def fits(problem: Problem, policy: UpdatePolicy) -> bool:
    """Whether a policy keeps to the limits."""
    return not problem.limits.exceeded(problem.exact(UpdateTable.of(problem.trace, [policy])))[0]


def finished(path: Path) -> bool:
    """Whether a search was kept to its end."""
    return path.exists() and '"ended"' in path.read_text()


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no search after so long")
    parser.add_argument("--cells", nargs="*", default=list(CELLS))
    parser.add_argument("--samplers", nargs="*", default=list(SAMPLERS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    options = parser.parse_args()
    options.deadline = time.time() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        scores, failed = manager.dict(), False
        missing = [
            (cell, seed, name)
            for seed, name, cell in product(options.seeds, options.samplers, options.cells)
            if not finished(options.out / f"{cell}_{seed}_{name}.jsonl")
        ]
        methods = sorted({(cell, seed, "methods") for cell, seed, _ in missing})
        alone = [job for job in missing if job[2] in ALONE]
        others = sorted((job for job in missing if job[2] not in ALONE), key=lambda job: (job[1], job[2] != "gp"))
        for jobs in (methods + alone, others):
            queue = manager.Queue()
            for job in jobs:
                queue.put(job)
            failed |= not run_together(work, [(options, queue, scores)] * options.jobs)
        if failed:
            raise SystemExit("a worker failed: what is finished is kept")


if __name__ == "__main__":
    main()
