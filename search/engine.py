"""The search loop: known methods first, then a sampler; cheap constraints before any training; nothing tried twice.

The loop owns no files and draws no progress. It reads the trials that a store already holds, so a run that was killed
goes on where it stopped, and hands every finished trial to the store before it asks for the next.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from ..core.errors import TinySearchError
from ..core.metrics import COSTS
from ..devices.costs import Costs
from ..results.limits import Limits
from ..results.pareto import OBJECTIVES, as_minimised
from ..results.records import TrialRecord
from ..spaces.policy import UpdatePolicy
from ..spaces.space import Genotype, UpdateSpace
from ..spaces.table import UpdateTable
from .distributed.base import Evaluate
from .proxies.base import Score
from .repair import Repair
from .request import ROUND_SIZE
from .samplers.base import Sampler
from .stopping import Progress, Stop

#: How often a sampler is asked for one round before the space counts as exhausted.
MAX_ATTEMPTS = 200


class Store(Protocol):
    """Where trials are kept; see `tinysearch.results.trials.TrialStore`."""

    def first(self) -> list[TrialRecord]:
        """The trials so far, in order, each as it ended when it was tried for the first time."""
        ...

    def append(self, trial: TrialRecord) -> None:
        """Keep a trial; it is durable when this returns."""
        ...


class Searched(Protocol):
    """What is searched; see `tinysearch.search.problem.Problem`."""

    @property
    def space(self) -> UpdateSpace:
        """Where policies come from."""
        ...

    @property
    def limits(self) -> Limits:
        """What a policy may cost."""
        ...

    def cost(self, table: UpdateTable) -> Costs:
        """What the policies of a table cost: for many."""
        ...

    def exact(self, table: UpdateTable) -> Costs:
        """As `cost`, with the memory that a plan of each policy needs."""
        ...

    def on_device(self, policy: UpdatePolicy) -> UpdatePolicy:
        """The policy with its training settings."""
        ...


@dataclass(frozen=True)
class Proposal:
    """A policy to try.

    Attributes:
        policy: The policy.
        genotype: The encoded policy, (D,); None for a policy that the space has not.
    """

    policy: UpdatePolicy
    genotype: Genotype | None


@dataclass
class Search:
    """A search over one space, with one sampler.

    Policies are proposed in rounds and the sampler learns of a round when all of it is done, so what is found does not
    depend on how many are scored at once, nor on which is done first. A trial that failed and was tried again counts
    here as it did at first, since what came after it was proposed in that light.

    Args:
        space: The space.
        sampler: Proposes encoded policies.
        cost: What the policies of a table cost: for many.
        adapt: Gives a decoded policy its training settings.
        evaluate: Scores policies.
        limits: What a policy may cost.
        store: Where trials are kept; those already there count as done.
        seeds: Policies to try first, such as the published methods.
        stop: When to end.
        exact: As `cost`, with the memory that a plan of each policy needs: for those that are about to be trained.
            None is `cost` itself.
        opening: Policies of the first rounds, where those are to be smaller than the others.
        round_size: Policies proposed at once: at most so many can be scored at the same time.

    Attributes:
        ended: Why the search ended, in words; empty until it has.
    """

    space: UpdateSpace
    sampler: Sampler
    cost: Callable[[UpdateTable], Costs]
    adapt: Callable[[UpdatePolicy], UpdatePolicy]
    evaluate: Evaluate
    limits: Limits
    store: Store
    seeds: Sequence[UpdatePolicy]
    stop: Stop
    exact: Callable[[UpdateTable], Costs] | None = None
    opening: Sequence[int] = ()
    round_size: int = ROUND_SIZE
    ended: str = field(default="", init=False)
    _seen: set[str] = field(default_factory=set, init=False)
    _repair: Repair = field(init=False)

    def __post_init__(self) -> None:
        self._repair = Repair(self.space, self.limits, self.cost, self.exact or self.cost)

    @classmethod
    def of(
        cls,
        problem: Searched,
        sampler: Sampler,
        evaluate: Evaluate,
        store: Store,
        seeds: Sequence[UpdatePolicy],
        stop: Stop,
        opening: Sequence[int] = (),
        round_size: int = ROUND_SIZE,
    ) -> Self:
        """The search of a problem, which says what policies there are and what they cost; for the others see above."""
        return cls(
            space=problem.space,
            sampler=sampler,
            cost=problem.cost,
            adapt=problem.on_device,
            evaluate=evaluate,
            limits=problem.limits,
            store=store,
            seeds=seeds,
            stop=stop,
            exact=problem.exact,
            opening=opening,
            round_size=round_size,
        )

    def __iter__(self) -> Iterator[TrialRecord]:
        """Yield every new trial once it is in the store."""
        return (record for record in self.steps() if record is not None)

    def steps(self) -> Iterator[TrialRecord | None]:
        """Yield every new trial, and None when a round is over, resumed or not: there a search may be left waiting."""
        begun = time.monotonic()
        done = {record.number: record for record in self.store.first()}
        tried = sum(record.tried for record in done.values())
        number = 0
        seeds, sizes = list(self.seeds), iter(self.opening)
        while True:
            progress = Progress(tried, time.monotonic() - begun)
            left = self.stop.left(progress)
            # What is done already is gone through whatever the rule says, so that the sampler learns of it.
            if left <= 0 and number >= len(done):
                self.ended = self.stop.reason(progress)
                return
            if number >= len(done) and (enough := self.sampler.enough()):
                self.ended = enough
                return
            proposals = dict(enumerate(islice(self._proposals(seeds), next(sizes, self.round_size)), start=number))
            if not proposals:
                self.ended = f"there is nothing new to try: {len(self._seen)} policies are known"
                return
            for record in self._run_round(proposals, proposals.keys() - done.keys(), left):
                done[record.number] = record
                tried += record.tried
                yield record
            if any(n not in done for n in proposals):  # the round was cut short
                self.ended = self.stop.reason(Progress(tried, time.monotonic() - begun))
                return
            for n in proposals:
                self._learn(done[n])
            number += len(proposals)
            yield None

    def _proposals(self, seeds: list[UpdatePolicy]) -> Iterator[Proposal]:
        """Policies not proposed before, until `MAX_ATTEMPTS` questions to the sampler are spent."""
        while seeds:
            policy = seeds.pop(0)
            if policy.hash not in self._seen:
                self._seen.add(policy.hash)
                # The row that comes closest to another policy is not what was scored: the sampler is told the truth, or
                # nothing.
                yield Proposal(policy, self.space.encode(policy) if self.space.contains(policy) else None)
        for attempt in range(MAX_ATTEMPTS):
            genotype = self._repair(self.sampler.ask(attempt))
            policy = self.adapt(self.space.decode(genotype))
            if policy.hash not in self._seen:
                self._seen.add(policy.hash)
                yield Proposal(policy, genotype)

    def _run_round(self, proposals: dict[int, Proposal], pending: set[int], most: float) -> Iterator[TrialRecord]:
        """Score those that are pending and fit, at most `most`, keep every result at once, and yield it."""
        if not pending:
            return
        # Of the whole round, resumed or not: the last bit of a sum depends on how many are summed at once.
        costs = (self.exact or self.cost)(
            UpdateTable.of(self.space.trace, [proposal.policy for proposal in proposals.values()])
        )
        over = self.limits.exceeded(costs)
        fitting: list[tuple[int, dict[str, Any]]] = []
        for place, (number, proposal) in enumerate(proposals.items()):
            if number not in pending:
                continue
            known = _known(number, proposal, costs, place)
            if over[place]:
                yield self._keep(TrialRecord(**known, state="infeasible", error="over budget"))
            elif len(fitting) < most:
                fitting.append((number, known))
        start = time.perf_counter()
        policies = [proposals[number].policy for number, _ in fitting]
        for place, result in self.evaluate(policies, [shown(known) for _, known in fitting]):
            outcome = ended(policies[place], result, time.perf_counter() - start)
            yield self._keep(TrialRecord(**fitting[place][1] | outcome))

    def _keep(self, record: TrialRecord) -> TrialRecord:
        self.store.append(record)
        return record

    def _learn(self, record: TrialRecord) -> None:
        if record.state == "complete":
            self.sampler.learn(record)
        if record.state == "complete" and record.row is not None:
            values = as_minimised([getattr(record, objective.name) for objective in OBJECTIVES], OBJECTIVES)
            self.sampler.tell(np.array(record.row, np.int64), [float(value) for value in values])


def require_success(where: Path, trials: Sequence[TrialRecord]) -> None:
    """Refuse a run of which nothing was trained.

    Raises:
        TinySearchError: A trial failed, and none was completed.
    """
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed and not any(trial.state == "complete" for trial in trials):
        raise TinySearchError(f"{where}: none of {len(failed)} policies could be trained; the first: {failed[0].error}")


def _known(number: int, proposal: Proposal, costs: Costs, place: int) -> dict[str, Any]:
    """What a trial's record says whatever comes of the trial: the policy and its costs."""
    policy, genotype = proposal.policy, proposal.genotype
    return {
        "number": number,
        "hash": policy.hash,
        "policy": policy.to_json(),
        "row": None if genotype is None else tuple(int(level) for level in genotype),
        "method": policy.method,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "saved_bytes": int(costs.saved_bytes[place]),
        "peak_bytes": int(costs.peak_bytes[place]),
        "arena_bytes": None if costs.arena_bytes is None else int(costs.arena_bytes[place]),
        "flash_bytes": int(costs.flash_bytes[place]),
        "macs": int(costs.macs[place]),
        "latency_s": float(costs.latency_s[place]),
        "energy_j": float(costs.energy_j[place]),
        "warnings": costs.warnings,
    }


def shown(known: Mapping[str, Any]) -> dict[str, object]:
    """What those who watch are told of a trial before it is scored: what it is, and its costs."""
    names = ("number", "round", "hash", "method", *COSTS)
    return {name: known[name] for name in names if known.get(name) is not None}


def ended(policy: UpdatePolicy, score: Score | str, seconds: float) -> dict[str, Any]:
    """What a trial's record says of how it ended; the policy keeps the rate that was tuned for it.

    Args:
        policy: The trial's.
        score: As what it was scored, or the reason of its failure.
        seconds: Time since it was asked for, s: what a failure took, if it was not more.
    """
    if isinstance(score, str):
        return {"state": "failed", "error": score, "seconds": seconds}
    return {
        "policy": policy.with_training(learning_rate=score.learning_rate).to_json(),
        "state": "complete",
        "accuracy": score.accuracy,
        "accuracy_se": score.accuracy_se,
        "loss": score.loss,
        "learning_rate": score.learning_rate,
        "seconds": score.seconds,
        "answers": packed(score.answers),
        "images": score.images,
    }


def packed(answers: bytes) -> str:
    """Answers as they are kept: a bit each, as hexadecimal digits."""
    return np.packbits(np.frombuffer(answers, np.uint8)).tobytes().hex()
