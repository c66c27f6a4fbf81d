"""Scoring finalists again: one round, on episodes that the search has not seen, every result kept at once."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Protocol

from ..results.records import Rescore, TrialRecord
from ..spaces.policy import UpdatePolicy
from .distributed.base import Evaluate
from .engine import packed, shown
from .finalists import Standing
from .proxies.base import Score


class Store(Protocol):
    """Where re-scores are kept; see `tinysearch.results.trials.TrialStore`."""

    def all(self) -> list[TrialRecord]:
        """The trials of the run."""
        ...

    def add_rescore(self, rescore: Rescore) -> None:
        """Keep what was scored again; it is durable when this returns."""
        ...


def score_again(store: Store, now: Standing, evaluate: Evaluate) -> Iterator[Rescore]:
    """Score what is due in a round, and yield each result once it is in the store.

    Args:
        store: Where the trials are, and results go.
        now: The round, and what is due in it.
        evaluate: Scores policies on the episodes of that round.
    """
    records = {record.number: record for record in store.all()}
    # With the rates that the front states: it is these recipes that users will train by.
    policies = [UpdatePolicy.from_json(records[number].policy) for number in now.due]
    start = time.perf_counter()
    facts = [shown({**asdict(records[number]), "round": now.round}) for number in now.due]
    for place, result in evaluate(policies, facts):
        stated = policies[place].training.learning_rate
        if isinstance(result, Score) and stated is not None and result.learning_rate < stated:
            result = f"training diverged at the learning rate {stated:g} that was found for it"
        if isinstance(result, Score):
            rescore = Rescore(
                trial=now.due[place],
                round=now.round,
                accuracy=result.accuracy,
                accuracy_se=result.accuracy_se,
                loss=result.loss,
                answers=packed(result.answers),
                images=result.images,
                seconds=result.seconds,
            )
        else:
            seconds = time.perf_counter() - start
            rescore = Rescore(trial=now.due[place], round=now.round, error=result, seconds=seconds)
        store.add_rescore(rescore)
        yield rescore
