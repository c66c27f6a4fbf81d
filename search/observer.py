"""Who watches a run."""

from collections.abc import Sequence
from typing import Protocol

from ..results.front import Front
from ..results.records import Rescore, TrialRecord
from ..results.rundir import RunDirectory
from .problem import Problem


class Observer(Protocol):
    """Told what happens in a run, to show it."""

    def prepared(self, problem: Problem, run: RunDirectory, done: Sequence[TrialRecord]) -> None:
        """Everything is loaded and the search begins; with several networks, told of each.

        Args:
            problem: What is searched.
            run: Where it is kept.
            done: The trials of earlier sessions.
        """
        ...

    def trial(self, record: TrialRecord, front: Front | None) -> None:
        """A trial is finished and kept.

        Args:
            record: The trial.
            front: The front as it stands now; None as long as nothing was scored.
        """
        ...

    def rescoring(self, number: int, trials: Sequence[TrialRecord]) -> None:
        """The search has ended, and a round begins in which finalists are scored again.

        Args:
            number: Which round, from 1.
            trials: What is scored again.
        """
        ...

    def rescored(self, rescore: Rescore, front: Front | None) -> None:
        """A finalist was scored again, and that is kept.

        Args:
            rescore: As what.
            front: The front as it stands now.
        """
        ...

    def ended(self, reason: str) -> None:
        """The run is over; not told where there was nothing to do, or where it was interrupted.

        Args:
            reason: Why, in words.
        """
        ...
