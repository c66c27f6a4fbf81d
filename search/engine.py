"""The search loop: known methods first, then a sampler; cheap constraints before any training; nothing tried twice.

The loop owns no files and draws no progress. It reads the trials that a store already holds, so a run that was killed
goes on where it stopped, and hands every finished trial to the store before it asks for the next.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Protocol

import numpy as np

from ..devices.costs import Costs
from ..results.pareto import OBJECTIVES, as_minimised
from ..results.records import TrialRecord
from ..spaces.policy import UpdatePolicy
from ..spaces.space import RATIOS, Rows, UpdateSpace
from ..spaces.table import UpdateTable
from .proxies.base import Score
from .samplers.base import Sampler

#: Policies proposed at once: at most so many can be scored at the same time.
ROUND = 4
#: How often a sampler is asked for one round before the space counts as exhausted.
MAX_ATTEMPTS = 200


class Store(Protocol):
    """Where trials are kept; see `tinysearch.results.trials.TrialStore`."""

    def all(self) -> list[TrialRecord]:
        """The trials so far, in order."""
        ...

    def append(self, trial: TrialRecord) -> None:
        """Keep a trial; it is durable when this returns."""
        ...


@dataclass(frozen=True)
class Proposal:
    """A policy to try, and the encoded row that comes closest to it."""

    policy: UpdatePolicy
    row: Rows


@dataclass(frozen=True)
class Limits:
    """What a training step may cost at most; None is no limit.

    Attributes:
        peak_bytes: Peak training memory.
        flash_bytes: Flash, on devices that have one.
        latency_s: Seconds of a step.
        energy_j: Joules of a step.
    """

    peak_bytes: float | None = None
    flash_bytes: float | None = None
    latency_s: float | None = None
    energy_j: float | None = None

    def exceeded(self, costs: Costs) -> np.ndarray:
        """Whether each of N policies breaks a limit, (N,)."""
        over = np.zeros(len(costs.peak_bytes), bool)
        for name in ("peak_bytes", "flash_bytes", "latency_s", "energy_j"):
            most = getattr(self, name)
            if most is not None:
                over |= getattr(costs, name) > most
        return over


@dataclass
class Search:
    """A search over one space, with one sampler.

    Policies are proposed in rounds of `ROUND` and the sampler learns of a round when all of it is done, so what is
    found does not depend on how many are scored at once, nor on which is done first.

    Args:
        space: The space.
        sampler: Proposes rows.
        cost: What the policies of a table cost: for many.
        adapt: Gives a decoded policy its training settings.
        evaluate: Scores policies; yields (index, score or the reason of its failure) as each is done.
        limits: What a policy may cost.
        store: Where trials are kept; those already there count as done.
        seeds: Policies to try first, such as the published methods.
        trials: Policies to train, those of earlier sessions and those that fail included.
        seconds: Wall time after which no further round begins; None for no bound.
        exact: As `cost`, with the memory that a plan of each policy needs: for those that are about to be trained.
            None is `cost` itself.
    """

    space: UpdateSpace
    sampler: Sampler
    cost: Callable[[UpdateTable], Costs]
    adapt: Callable[[UpdatePolicy], UpdatePolicy]
    evaluate: Callable[[Sequence[UpdatePolicy]], Iterator[tuple[int, Score | str]]]
    limits: Limits
    store: Store
    seeds: Sequence[UpdatePolicy]
    trials: int
    seconds: float | None = None
    exact: Callable[[UpdateTable], Costs] | None = None
    _seen: set[str] = field(default_factory=set, init=False)
    _weights: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._weights = [position for segment in self.space.segments for position in segment.weights]

    def __iter__(self) -> Iterator[TrialRecord]:
        """Yield every new trial once it is in the store."""
        deadline = None if self.seconds is None else time.monotonic() + self.seconds
        done = {record.number: record for record in self.store.all()}
        tried = sum(record.tried for record in done.values())
        number = 0
        seeds = list(self.seeds)
        while tried < self.trials or number < len(done):
            proposals = dict(enumerate(islice(self._proposals(seeds), ROUND), start=number))
            if not proposals:
                return
            pending = proposals.keys() - done.keys()
            if pending and deadline is not None and time.monotonic() >= deadline:
                return
            for record in self._run_round(proposals, pending, self.trials - tried):
                done[record.number] = record
                tried += record.tried
                yield record
            if any(n not in done for n in proposals):
                return  # the last round was cut short by the number of trials
            for n in proposals:
                self._learn(done[n])
            number += len(proposals)

    def _proposals(self, seeds: list[UpdatePolicy]) -> Iterator[Proposal]:
        """Policies not proposed before, until `MAX_ATTEMPTS` questions to the sampler are spent."""
        while seeds:
            policy = seeds.pop(0)
            if policy.hash not in self._seen:
                self._seen.add(policy.hash)
                yield Proposal(policy, self.space.encode(policy))
        for attempt in range(MAX_ATTEMPTS):
            row = self._shrink(self.sampler.ask(attempt))
            policy = self.adapt(self.space.decode(row))
            if policy.hash not in self._seen:
                self._seen.add(policy.hash)
                yield Proposal(policy, row)

    def _shrink(self, row: Rows) -> Rows:
        """The row itself if it keeps to the limits, else its cut that does and trains most.

        A cut freezes some of the lowest segments and lowers the channel ratios of the rest.
        """
        cuts = [row]
        for less in range(len(RATIOS) - 1):
            lowered = row.copy()
            lowered[self._weights] = np.maximum(np.minimum(row[self._weights], 1), row[self._weights] - less)
            for segment in self.space.segments:
                cuts.append(lowered.copy())
                lowered[list(segment.positions)] = 0
        cuts.append(np.zeros_like(row))  # the head alone, which was found to fit before the search began
        table = self.space.table(np.stack(cuts))
        fits = np.flatnonzero(~self.limits.exceeded(self.cost(table)))
        exact = self.exact or self.cost
        # The row itself, then by what they train.
        order = sorted(fits, key=lambda cut: (cut > 0, -int(table.trained_params[cut].sum())))
        for cut in order:
            if not self.limits.exceeded(exact(table[cut : cut + 1]))[0]:
                return cuts[cut]
        return cuts[-1]

    def _run_round(self, proposals: dict[int, Proposal], pending: set[int], most: int) -> Iterator[TrialRecord]:
        """Score those that are pending and fit, at most `most`, keep every result at once, and yield it."""
        if not pending:
            return
        # Of the whole round, resumed or not: the last bit of a sum depends on how many are summed at once.
        costs = (self.exact or self.cost)(
            UpdateTable.of(self.space.trace, [proposal.policy for proposal in proposals.values()])
        )
        over = self.limits.exceeded(costs)
        fitting: list[tuple[int, TrialRecord]] = []
        for place, (number, proposal) in enumerate(proposals.items()):
            if number not in pending:
                continue
            record = _unscored(number, proposal, costs, place)
            if over[place]:
                self.store.append(record)
                yield record
            elif len(fitting) < most:
                fitting.append((number, record))
        start = time.perf_counter()
        for place, result in self.evaluate([proposals[number].policy for number, _ in fitting]):
            number, record = fitting[place]
            finished = _finished(record, proposals[number].policy, result, time.perf_counter() - start)
            self.store.append(finished)
            yield finished

    def _learn(self, record: TrialRecord) -> None:
        if record.state == "complete" and record.row is not None:
            values = as_minimised([getattr(record, objective.name) for objective in OBJECTIVES], OBJECTIVES)
            self.sampler.tell(np.array(record.row, np.int64), [float(value) for value in values])


def _unscored(number: int, proposal: Proposal, costs: Costs, place: int) -> TrialRecord:
    return TrialRecord(
        number=number,
        hash=proposal.policy.hash,
        policy=proposal.policy.to_json(),
        row=tuple(int(level) for level in proposal.row),
        state="infeasible",
        error="over budget",
        method=proposal.policy.method,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        saved_bytes=int(costs.saved_bytes[place]),
        peak_bytes=int(costs.peak_bytes[place]),
        flash_bytes=int(costs.flash_bytes[place]),
        macs=int(costs.macs[place]),
        latency_s=float(costs.latency_s[place]),
        energy_j=float(costs.energy_j[place]),
        warnings=costs.warnings,
    )


def _finished(record: TrialRecord, policy: UpdatePolicy, result: Score | str, seconds: float) -> TrialRecord:
    if isinstance(result, str):
        return replace(record, state="failed", error=result, seconds=seconds)
    return replace(
        record,
        policy=policy.with_training(learning_rate=result.learning_rate).to_json(),
        state="complete",
        error=None,
        accuracy=result.accuracy,
        accuracy_se=result.accuracy_se,
        loss=result.loss,
        learning_rate=result.learning_rate,
        seconds=result.seconds,
    )
