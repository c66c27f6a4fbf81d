"""A run: from a device, a data set and a backbone to a Pareto front of policies that train."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..results.front import Front
from ..results.identity import run_name
from ..results.rundir import TUNE, RunDirectory
from ..results.trials import TrialStore
from .distributed.base import Workers
from .distributed.choice import Place
from .engine import Search, require_success
from .finalists import Standing
from .judgement import failures
from .networks import requests_of
from .observer import Observer
from .problem import Problem
from .provenance import inputs_of
from .proxies import make_proxy
from .rescoring import score_again
from .retrying import try_again
from .samplers import make_sampler
from .seeds import seeds_of
from .several import run_several
from .stopping import AfterSeconds, AfterTrials, FirstOf, Progress
from .threads import one_thread

#: Policies that spread over the space, the published methods among them, before the sampler takes over.
WARM_UP = 24


def run(
    *,
    device: str | None = None,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    backbone: str | Sequence[str] | None = None,
    weights: str | Mapping[str, str] | None = None,
    input_size: int | str | Sequence[int] | None = None,
    trials: int | None = None,
    round_size: int | None = None,
    rescore: int | None = None,
    time_budget: str | float | None = None,
    trial_timeout: str | float | None = None,
    seed: int | None = None,
    sampler: str | None = None,
    screen: str | None = None,
    compare: bool | None = None,
    proxy: str | Mapping[str, Any] | None = None,
    max_memory: str | int | None = None,
    max_latency: str | float | None = None,
    max_energy: str | float | None = None,
    batch: int | None = None,
    out: str | Path | None = None,
    retry_failed: bool | None = None,
    jobs: int | str | None = None,
    ray: str | bool | None = None,
    cpus_per_trial: float | None = None,
    gpus_per_trial: float | None = None,
    observer: Observer | None = None,
) -> RunDirectory:
    """Search update policies and keep everything that was found.

    All arguments have the names that they have on the command line. None stands for the default that is stated.

    Args:
        device: Device id, or the path of a profile; "rpi4".
        dataset: Data set name, or the path of class folders; "digits".
        data_dir: Where data sets lie; named ones are else looked for in the cache, or downloaded.
        backbone: Backbone name, `timm:NAME`, `torchvision:NAME` or `package.module:function`; "mobilenetv2-w0.35".
            Several, as a list or with commas between them, are searched together, each at every input size: one front,
            and one budget of trials and time.
        weights: "bundled", "imagenet", "none" or a file; what is published for the backbone. With several backbones,
            files by backbone: as a mapping, or as "NAME=FILE,NAME=FILE".
        input_size: Side of the images in pixels; the weights' own, or 96 if that is less. Several likewise.
        trials: Policies to score; 30.
        round_size: Policies that are proposed together, and so the most that can be scored at once. With another one
            the search is another and finds other policies; 4.
        rescore: Rounds at most in which finalists are scored again, on other images of the training split, before the
            front is final; 0 for none; 2.
        time_budget: After this no further round begins, such as "10min", or in seconds; no bound.
        trial_timeout: A policy that takes longer than this to score counts as failed, such as "5min", or seconds; no
            bound.
        seed: Seed of episodes and search; 0.
        sampler: How policies are proposed; "auto".
        screen: How "auto" ranks all policies before any is trained; "tangent".
        compare: Whether all published methods are scored too, with a sampler that does not begin with them; False.
        proxy: How their accuracy is judged: the proxy's name, or its settings and its `name`; "few-shot".
        max_memory: Most peak training memory, such as "256KiB", or in bytes; the device's budget.
        max_latency: Longest training step, such as "800ms", or in seconds; no limit.
        max_energy: Most energy of a step, such as "2J", or in joules; no limit.
        batch: Samples of a training step on the device; the device's.
        out: The run directory; `runs/` and a name made from the request, so that the same request finds its run again.
            A run that is there is resumed.
        retry_failed: Whether policies that failed in earlier sessions are tried again first. What was proposed in the
            light of their failure stays as it is; False.
        jobs: Policies scored at once; "auto" is one for each processor, at most `round_size`, and the default; with Ray
            as many as its resources allow. It does not change what is found.
        ray: Whether Ray Tune does the scoring: an address, "auto" for the cluster of this machine, or True for a Ray
            that lasts as long as the run. It does not change what is found.
        cpus_per_trial: Processors that Ray keeps free for each policy; 1.
        gpus_per_trial: Graphics processors likewise; the built-in proxy computes on processors; 0.
        observer: Told of the run's progress; nobody.

    Returns:
        The run directory, with the front written. A second call with the same request only adds what is missing.

    Raises:
        InputError: A value is wrong.
        MissingDataError: Data or weights are missing.
        BudgetError: No policy fits the device or the limits.
        ConflictError: `out` holds another run.
        UnsupportedError: Ray is asked for, and not installed.
        TinySearchError: Every policy failed to train, or no process could be begun.
        KeyboardInterrupt: The search was stopped; all finished trials and their front are kept.

    Example:
        >>> import tinysearch as ts
        >>> small = {"shot": 2, "queries": 30, "steps": 1}  # for seconds instead of minutes
        >>> run = ts.run(device="rpi4", dataset="digits", input_size=32, trials=1, proxy=small, out="runs/small")
        >>> len(run.front.members)
        1
    """
    requests = requests_of(
        backbone,
        input_size,
        weights,
        device=device,
        dataset=dataset,
        data_dir=data_dir,
        trials=trials,
        round_size=round_size,
        rescore=rescore,
        time_budget=time_budget,
        trial_timeout=trial_timeout,
        seed=seed,
        sampler=sampler,
        screen=screen,
        compare=compare,
        proxy=proxy,
        max_memory=max_memory,
        max_latency=max_latency,
        max_energy=max_energy,
        batch=batch,
    )
    place = Place.of(
        jobs,
        requests[0].round_size,
        timeout=requests[0].trial_timeout,
        ray=ray,
        cpus=cpus_per_trial,
        gpus=gpus_per_trial,
    )
    if len(requests) > 1:
        return run_several(requests, out, place, observer, retry_failed=bool(retry_failed))
    (request,) = requests
    problem = Problem.of(request)
    asked = problem.identity()
    path = Path(out) if out is not None else Path("runs") / run_name(asked)
    with (
        RunDirectory.open(path, asked, threads=1, inputs=inputs_of(problem)) as directory,
        directory.store(problem.space.gene_levels) as store,
        place.workers(path / TUNE) as workers,
    ):
        if observer is not None:
            observer.prepared(problem, directory, store.all())
        try:
            if retry_failed and store.failed:
                _try_again(problem, directory, store, workers, observer)
            _work(problem, directory, store, workers, observer)
        finally:
            if _write_front(problem, directory, store) is not None:
                directory.plot_pareto()
        require_success(path, store.all())
    return RunDirectory.load(path)


def _try_again(
    problem: Problem, directory: RunDirectory, store: TrialStore, workers: Workers, observer: Observer | None
) -> None:
    """Try again what failed."""
    with workers(make_proxy(problem), problem.request.round_size) as evaluate:
        for record in try_again(store, evaluate):
            front = _write_front(problem, directory, store)
            if observer is not None:
                observer.trial(record, front)


def _work(
    problem: Problem, directory: RunDirectory, store: TrialStore, workers: Workers, observer: Observer | None
) -> None:
    """Search, score the finalists again, and say why that is all."""
    request, begun = problem.request, time.monotonic()
    reasons = []
    if store.tried < request.trials:
        reasons.append(_search(problem, directory, store, workers, observer))
    over = AfterSeconds(request.time_budget or math.inf)
    if request.rescore and any(record.state == "complete" for record in store.all()):
        again = 0
        while (now := problem.standing(store.all(), store.rescores)).due and now.round <= request.rescore:
            if over.left(Progress(store.tried, time.monotonic() - begun)) <= 0:
                break
            again += len(now.due)
            _score_again(problem, directory, store, now, workers, observer)
        if again:
            reasons.append(f"{again} fine-tunings of finalists were repeated on other images")
    if reasons and observer is not None:
        observer.ended("; ".join(reasons))


def _search(
    problem: Problem, directory: RunDirectory, store: TrialStore, workers: Workers, observer: Observer | None
) -> str:
    """Find new trials; why no more."""
    request = problem.request
    sampler = make_sampler(request.sampler, problem.space, request.seed, warm_up=WARM_UP)
    enough = AfterTrials(request.trials)
    budget = request.time_budget
    with workers(make_proxy(problem), request.round_size) as evaluate:
        with one_thread():
            sampler.prepare(problem)
            seeds = seeds_of(problem, only_last=sampler.knows_better and not request.compare)
        stop = enough if budget is None else FirstOf((enough, AfterSeconds(budget)))
        search = Search.of(problem, sampler, evaluate, store, seeds, stop, round_size=request.round_size)
        for record in search:
            # Written at once, so that a run that is killed can be shown.
            front = _write_front(problem, directory, store)
            if observer is not None:
                observer.trial(record, front)
    return search.ended


def _score_again(
    problem: Problem,
    directory: RunDirectory,
    store: TrialStore,
    now: Standing,
    workers: Workers,
    observer: Observer | None,
) -> None:
    """Score finalists again in one round."""
    if observer is not None:
        observer.rescoring(now.round, [store.by_number[number] for number in now.due])
    with workers(make_proxy(replace(problem, round=now.round)), len(now.due)) as evaluate:
        for rescore in score_again(store, now, evaluate):
            front = _write_front(problem, directory, store)
            if observer is not None:
                observer.rescored(rescore, front)


def _write_front(problem: Problem, directory: RunDirectory, store: TrialStore) -> Front | None:
    """Write the front as it stands; None where there is none yet."""
    if not store.leading:
        return None
    trials = store.all() if problem.needs_all(store.rescores) else store.leading
    front = problem.front(trials, store.rescores, among=len(store))
    front = replace(front, warnings=(*front.warnings, *failures(store.failed, store.tried)))
    directory.write_front(front, store.by_number)
    return front
