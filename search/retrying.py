"""Trying again what failed: every result kept at once, beside what it was before."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Protocol

from ..results.records import TrialRecord
from ..spaces.policy import UpdatePolicy
from .distributed.base import Evaluate
from .engine import ended, shown


class Store(Protocol):
    """Where trials are kept; see `tinysearch.results.trials.TrialStore`."""

    @property
    def failed(self) -> list[TrialRecord]:
        """The trials that failed."""
        ...

    def retry(self, trial: TrialRecord) -> None:
        """Keep how a trial that had failed ended now; it is durable when this returns."""
        ...


def try_again(store: Store, evaluate: Evaluate) -> Iterator[TrialRecord]:
    """Score every policy that failed once more, and yield each trial once it is in the store."""
    failed = store.failed
    policies = [UpdatePolicy.from_json(record.policy) for record in failed]
    start = time.perf_counter()
    for place, result in evaluate(policies, [shown(asdict(record)) for record in failed]):
        outcome = ended(policies[place], result, time.perf_counter() - start)
        record = TrialRecord(**asdict(failed[place]) | {"error": None} | outcome)
        store.retry(record)
        yield record
