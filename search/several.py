"""A run of several networks: each is searched as a run of its own, in turns, and the best of all are one front."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self
from warnings import warn

from ..core.errors import InputError
from ..results.front import Front
from ..results.identity import run_name
from ..results.networks import NETWORKS, network_name, numbered_together
from ..results.records import TrialRecord
from ..results.rundir import TUNE, RunDirectory
from ..results.trials import TrialStore
from .distributed.base import Workers
from .distributed.choice import Place
from .engine import Search, require_success
from .judgement import doubts, failures, judge_together
from .networks import load_networks
from .observer import Observer
from .problem import Problem
from .provenance import inputs_of
from .proxies import make_proxy
from .proxies.several import SeveralProxies
from .request import Request
from .retrying import try_again
from .samplers.auto import OPENING, AutoSampler
from .seeds import seeds_of
from .stopping import AfterSeconds, AfterTrials, FirstOf
from .threads import one_thread
from .turns import Together, Turns

#: Of a network's request, what others of the same run may have otherwise.
_OWN = ("backbone", "input_size", "weights", "backbone_sha256")


@dataclass(frozen=True)
class Part:
    """One network's part of a run.

    Attributes:
        problem: What is searched.
        directory: Where it is kept.
        store: Its trials.
    """

    problem: Problem
    directory: RunDirectory
    store: TrialStore

    def write_front(self) -> None:
        """Write the network's own front as it stands, if there is one."""
        trials = self.store.all()
        if any(trial.state == "complete" for trial in trials):
            self.directory.write_front(self.problem.front(trials), self.store.by_number)


@dataclass(frozen=True)
class Several:
    """A run of several networks that is being written.

    Attributes:
        directory: The run.
        parts: The networks' own.
        left_out: Lines that say which networks were left out, and why.
    """

    directory: RunDirectory
    parts: Sequence[Part]
    left_out: Sequence[str]

    @classmethod
    @contextmanager
    def open(cls, path: Path | None, problems: Sequence[Problem], left_out: Sequence[str]) -> Iterator[Self]:
        """Begin or resume a run; None for a path is one in `runs/` with a name made from the request.

        Raises:
            ConflictError: The folder holds another run.
        """
        asked = _identity(problems)
        with ExitStack() as stack:
            folder = path if path is not None else Path("runs") / run_name(asked)
            directory = stack.enter_context(RunDirectory.open(folder, asked, threads=1))
            parts = []
            for problem, name in zip(problems, asked[NETWORKS], strict=True):
                # Marked: what it is told depends on the others, so it cannot be taken further alone.
                own = problem.identity() | {"one_of_several": True}
                folder, inputs = directory.path / NETWORKS / name, inputs_of(problem)
                run = stack.enter_context(RunDirectory.open(folder, own, threads=1, inputs=inputs))
                parts.append(Part(problem, run, stack.enter_context(run.store(problem.space.gene_levels))))
            yield cls(directory, parts, left_out)

    def trials(self) -> list[list[TrialRecord]]:
        """The trials of each network, numbered together."""
        return numbered_together([part.store.all() for part in self.parts])

    def write_front(self) -> Front | None:
        """Write the front of all networks as it stands; None where there is none yet."""
        together = self.trials()
        every = sorted((trial for own in together for trial in own), key=lambda trial: trial.number)
        if not any(trial.state == "complete" for trial in every):
            return None
        problems = [part.problem for part in self.parts]
        judged = judge_together(problems, together)
        names = dict.fromkeys(problem.trace.name for problem in problems)
        front = Front.from_trials(
            every,
            replace(problems[0].info, backbone=", ".join(names)),
            problems[0].reference_point,
            problems[0].ideal_point,
            judged=judged,
            warnings=[
                *self.left_out,
                *self._failed(),
                *doubts(every, judged),
                *failures([each for part in self.parts for each in part.store.failed], self.tried),
            ],
        )
        traces = [problems[member.trial % len(problems)].trace for member in front.members]
        members = tuple(
            replace(member, backbone=trace.name, input_size=trace.input_shape[1])
            for member, trace in zip(front.members, traces, strict=True)
        )
        front = replace(front, members=members)
        self.directory.write_front(front, {trial.number: trial for trial in every})
        return front

    def tell(self, part: Part, record: TrialRecord, observer: Observer | None) -> None:
        """Write the fronts that a new trial of one network is in, and tell of it by its number among all."""
        part.write_front()
        front = self.write_front()
        if observer is not None:
            number = record.number * len(self.parts) + self.parts.index(part)
            observer.trial(replace(record, number=number), front)

    @property
    def tried(self) -> int:
        """How many policies of all networks were trained, or tried to be."""
        return sum(part.store.tried for part in self.parts)

    def _failed(self) -> Iterator[str]:
        """Networks of which not even the head could be trained."""
        for part in self.parts:
            trials = part.store.all()
            if trials and not any(trial.state == "complete" for trial in trials):
                yield f"{part.directory.path.name} could not be trained: {trials[0].error}"


def run_several(
    requests: Sequence[Request],
    out: str | Path | None,
    place: Place,
    observer: Observer | None,
    *,
    retry_failed: bool = False,
) -> RunDirectory:
    """Search several networks for one front; see `run`.

    Args:
        requests: One for each network: see `requests_of`.
        out: The run directory; None is one in `runs/` with a name made from the request.
        place: Where policies are scored.
        observer: Told of the run's progress: of `prepared` once for each network, and of trials as numbered together.
        retry_failed: Whether policies that failed in earlier sessions are tried again first.

    Raises:
        InputError: A value is wrong.
        MissingDataError: Data or weights are missing.
        BudgetError: None of the networks fits the device or the limits.
        ConflictError: `out` holds another run.
        TinySearchError: Every policy failed to train, or no process could be begun.
    """
    problems, left_out = load_networks(requests)
    for line in left_out:
        warn(line, stacklevel=3)
    with (
        Several.open(None if out is None else Path(out), problems, left_out) as several,
        place.workers(several.directory.path / TUNE) as workers,
    ):
        if observer is not None:
            for part in several.parts:
                observer.prepared(part.problem, part.directory, part.store.all())
        try:
            if retry_failed or several.tried < requests[0].trials:
                _search(several, requests[0], workers, observer, retry_failed=retry_failed)
        finally:
            for part in several.parts:
                part.write_front()
            if several.write_front() is not None:
                several.directory.plot_pareto()
        path = several.directory.path
        require_success(path, [trial for own in several.trials() for trial in own])
    return RunDirectory.load(path)


def _search(
    several: Several, request: Request, workers: Workers, observer: Observer | None, *, retry_failed: bool
) -> None:
    problems = [part.problem for part in several.parts]
    samplers = [AutoSampler(problem.space, problem.seed) for problem in problems]
    enough = AfterTrials(request.trials)
    budget = request.time_budget
    stop = Together(enough if budget is None else FirstOf((enough, AfterSeconds(budget))), several.tried)
    makers = {(problem.trace.name, problem.trace.input_shape): make_proxy(problem) for problem in problems}
    with workers(partial(SeveralProxies, makers), request.round_size) as evaluate:
        for part in several.parts if retry_failed else ():
            for record in try_again(part.store, evaluate):
                several.tell(part, record, observer)
        with one_thread():
            for sampler, part in zip(samplers, several.parts, strict=True):
                try:
                    sampler.prepare(part.problem)
                except InputError as error:  # which speaks of "the network"
                    raise InputError(f"{part.directory.path.name}: {error}", *error.options) from error
                sampler.rivals = [other for other in samplers if other is not sampler]
        searches = [
            Search.of(
                part.problem,
                sampler,
                evaluate,
                part.store,
                seeds_of(part.problem, only_last=True),
                stop,
                opening=[1] * OPENING,
                round_size=request.round_size,
            )
            for part, sampler in zip(several.parts, samplers, strict=True)
        ]
        turns = Turns(searches, samplers, stop)
        for place, record in turns:
            several.tell(several.parts[place], record, observer)
        if observer is not None:
            observer.ended(turns.ended)


def _identity(problems: Sequence[Problem]) -> dict[str, Any]:
    """What decides the outcome: what all networks are asked, and what each is, by the name of its folder."""
    identities = [problem.identity() for problem in problems]
    shared = {key: value for key, value in identities[0].items() if key not in _OWN}
    names = [network_name(problem.trace.name, problem.trace.input_shape[1]) for problem in problems]
    own = [{key: identity[key] for key in _OWN} for identity in identities]
    return shared | {NETWORKS: dict(zip(names, own, strict=True))}
