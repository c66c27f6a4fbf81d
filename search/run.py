"""A run: from a device, a data set and a backbone to a Pareto front of policies that train."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from ..core.errors import InputError, TinySearchError
from ..results.identity import run_name
from ..results.records import TrialRecord
from ..results.rundir import RunDirectory
from ..results.trials import TrialStore
from .distributed.local import evaluator
from .engine import ROUND, Search
from .problem import Task, front_of, identity, make_proxy, one_thread, prepare, seeds_of
from .request import Request
from .samplers import make_sampler

#: Trials that spread over the space, the published methods among them, before the sampler takes over.
WARM_UP = 24


class Observer(Protocol):
    """Told what happens in a run, to show it."""

    def prepared(self, task: "Task", run: RunDirectory, done: Sequence[TrialRecord]) -> None:
        """Everything is loaded and the search begins."""
        ...

    def trial(self, record: TrialRecord) -> None:
        """A trial is finished and kept."""
        ...


def run(
    *,
    out: str | Path | None = None,
    jobs: int | None = None,
    observer: Observer | None = None,
    **request: Any,
) -> RunDirectory:
    """Search update policies and keep everything that was found.

    Args:
        out: The run directory; by default `runs/` and a name made from the request, so that the same request finds
            its run again. A run that is there is resumed.
        jobs: Policies scored at once; by default one for each processor, at most `ROUND`. It does not change what
            is found.
        observer: Told of the run's progress.
        **request: The fields of `Request`: device, dataset, data_dir, backbone, weights, input_size, trials,
            time_budget, seed, sampler, proxy, max_memory, max_latency, max_energy, batch. Limits may be texts such
            as "256KiB", "800ms" or "2J".

    Returns:
        The run directory, with the front written. A second call with the same request only adds what is missing.

    Raises:
        InputError: A value is wrong.
        MissingDataError: Data or weights are missing.
        BudgetError: No policy fits the device or the limits.
        ConflictError: `out` holds another run.
        TinySearchError: Every policy failed to train, or a process that trained one died.
        KeyboardInterrupt: The search was stopped; all finished trials and their front are kept.
    """
    if jobs is None:
        jobs = min(ROUND, os.cpu_count() or 1)
    if not 1 <= jobs <= ROUND:
        raise InputError(f"jobs is {jobs}: it must be from 1 to {ROUND}, the policies of a round")
    task = prepare(Request.make(**request))
    asked = identity(task)
    path = Path(out) if out is not None else Path("runs") / run_name(asked)
    with RunDirectory.open(path, asked, threads=1) as directory:
        genes = dict(zip(task.space.gene_names, (gene.levels for gene in task.space.genes), strict=True))
        with directory.store(genes) as store:
            done = store.all()
            if observer is not None:
                observer.prepared(task, directory, done)
            try:
                if sum(record.tried for record in done) < task.request.trials:
                    _search(task, directory, store, jobs, observer)
            finally:
                _conclude(task, directory, store.all())
            _require_success(path, store.all())
    return RunDirectory.load(path)


def _search(task: Task, directory: RunDirectory, store: TrialStore, jobs: int, observer: Observer | None) -> None:
    make = make_proxy(task)
    with one_thread():
        seeds = seeds_of(task, make())
    with evaluator(make, jobs) as evaluate:
        search = Search(
            space=task.space,
            sampler=make_sampler(task.request.sampler, task.space, task.request.seed, warm_up=WARM_UP),
            cost=task.cost,
            exact=task.exact,
            adapt=task.on_device,
            evaluate=evaluate,
            limits=task.limits,
            store=store,
            seeds=seeds,
            trials=task.request.trials,
            seconds=task.request.time_budget,
        )
        for record in search:
            _write_front(task, directory, store.all())
            if observer is not None:
                observer.trial(record)


def _conclude(task: Task, directory: RunDirectory, trials: list[TrialRecord]) -> None:
    if _write_front(task, directory, trials):
        directory.plot_pareto()


def _write_front(task: Task, directory: RunDirectory, trials: list[TrialRecord]) -> bool:
    """Write the front as it stands, so that a run that is killed can be shown; whether there is one yet."""
    if not any(record.state == "complete" for record in trials):
        return False
    directory.write_front(front_of(task, trials), trials)
    return True


def _require_success(path: Path, trials: list[TrialRecord]) -> None:
    failed = [record for record in trials if record.state == "failed"]
    if failed and not any(record.state == "complete" for record in trials):
        raise TinySearchError(f"{path}: none of {len(failed)} policies could be trained; the first: {failed[0].error}")
