"""The trials of a run: kept twice, in a record that is only added to and in an Optuna study, and read once.

A trial is written when it has ended, never before, so a killed run leaves no trial half done.
"""

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from ..core.errors import StorageError
from ..core.files import TEMPORARY
from .contenders import Contenders
from .journal import RESCORE, TRIAL, Header
from .pareto import OBJECTIVES, Objective
from .records import Rescore, TrialRecord
from .restoring import Finished, Opened, read, restore
from .study import STUDY
from .values import values_of

__all__ = ["STUDY", "TrialStore", "keeping"]


@contextmanager
def keeping(path: Path, remedy: str = "run the same command again; finished trials are kept") -> Iterator[None]:
    """Tell in one line that something cannot be written, and what to do.

    Args:
        path: What is written.
        remedy: What to do once there is room.

    Raises:
        StorageError: The system refused it.
    """
    try:
        yield
    except OSError as error:
        known = error.filename is not None and TEMPORARY not in str(error.filename)
        raise StorageError(
            f"{error.filename if known else path}: cannot be written ({error.strerror or error}): make room, or the "
            f"folder writable, and {remedy}"
        ) from error


class TrialStore:
    """The trials of one run. One process may write at a time; others may read meanwhile."""

    def __init__(self, path: Path, header: Header, finished: Finished, opened: Opened | None = None) -> None:
        """Use `open` or `load`."""
        self.path = path
        self._header = header
        self._opened = opened
        self._records: dict[int, TrialRecord] = {}
        self._first: dict[int, TrialRecord] = {}
        self._numbers: list[int] = []
        self._failed: dict[int, TrialRecord] = {}
        self._tried = 0
        self._leading = Contenders(self.objectives)
        for place in sorted(finished.trials):
            self._note(finished.trials[place])
        self._rescores = dict(finished.rescores)

    @classmethod
    def open(cls, path: str | Path, genes: Mapping[str, int], objectives: Sequence[Objective] = OBJECTIVES) -> Self:
        """Load the store at a path, or create an empty one; what is damaged of it is mended with a warning.

        Args:
            path: The study's SQLite file; the record lies beside it.
            genes: Number of values of each gene, in the order of an encoded policy.
            objectives: The objectives, which become the study's.

        Raises:
            ConflictError: The store holds trials of another space or other objectives, or is of a newer version.
            InputError: What is there is no store, or damaged beyond reading.
            StorageError: It cannot be written.
        """
        path = Path(path)
        header = Header(dict(genes), {objective.name: objective.minimise for objective in objectives})
        with keeping(path):
            opened = restore(path, header)
        return cls(path, header, opened.finished, opened)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load the store at a path, for reading.

        Raises:
            InputError: There is none, or it is damaged beyond reading.
        """
        path = Path(path)
        return cls(path, *read(path))

    @property
    def genes(self) -> dict[str, int]:
        """Number of values of each gene, in the order of an encoded policy."""
        return dict(self._header.genes)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What the study optimises."""
        return tuple(Objective(name, minimise) for name, minimise in self._header.objectives.items())

    def all(self) -> list[TrialRecord]:
        """All trials, by number, as of when this store was loaded, and those appended since."""
        return [self._records[number] for number in self._numbers]

    def first(self) -> list[TrialRecord]:
        """As `all`, but of trials that were tried again how they ended at first."""
        return [self._first[number] for number in self._numbers]

    @property
    def by_number(self) -> Mapping[int, TrialRecord]:
        """The trials that `all` gives, by number: a view, which grows with the store."""
        return MappingProxyType(self._records)

    @property
    def leading(self) -> list[TrialRecord]:
        """The complete trials that no other dominates, by number: what a front is chosen from."""
        return self._leading.trials

    @property
    def failed(self) -> list[TrialRecord]:
        """The trials that failed, and have not been scored since, by number."""
        return [self._failed[number] for number in sorted(self._failed)]

    @property
    def tried(self) -> int:
        """How many policies were trained, or tried to be: what a run's number of trials counts."""
        return self._tried

    @property
    def rescores(self) -> list[Rescore]:
        """What was scored again, by round and trial, as of when this store was loaded, and those added since."""
        return [self._rescores[place] for place in sorted(self._rescores)]

    def append(self, trial: TrialRecord) -> None:
        """Add a finished trial; once this returns, the trial survives a kill and a power cut.

        Args:
            trial: The trial; its number must be new, and its encoded policy within the genes. Trials that are scored
                at the same time may come in any order.

        Raises:
            ValueError: The number or the encoded policy is wrong, or a complete trial lacks an objective.
            StorageError: It cannot be written; trials before it are kept.
        """
        if trial.number in self._records:
            raise ValueError(f"trial {trial.number} is there already")
        self._add(trial)

    def retry(self, trial: TrialRecord) -> None:
        """Add how a trial that had failed ended when it was tried again; durable as of `append`.

        Args:
            trial: The trial, with the number that it has. `all` gives it from now on; what it was before stays.

        Raises:
            ValueError: There is no failed trial of that number, or as of `append`.
            StorageError: As of `append`.
        """
        before = self._records.get(trial.number)
        if before is None or before.state != "failed" or before.hash != trial.hash:
            raise ValueError(f"trial {trial.number} is none that failed")
        self._add(trial)

    def add_rescore(self, rescore: Rescore) -> None:
        """Add what a trial's policy was scored again as; once this returns, it survives a kill and a power cut.

        Args:
            rescore: Of a complete trial that is here, and not there yet of that round.

        Raises:
            ValueError: It is not.
            StorageError: It cannot be written; what was before it is kept.
        """
        opened = self._require_opened()
        place = (rescore.round, rescore.trial)
        trial = self._records.get(rescore.trial)
        if place in self._rescores or trial is None or trial.state != "complete":
            raise ValueError(f"trial {rescore.trial} is not to be scored again in round {rescore.round}")
        values = values_of(rescore)
        with keeping(self.path):
            opened.journal.add(RESCORE, values)
            self._rescores[place] = rescore
            opened.study.add_rescore(values)

    def close(self) -> None:
        """Close the files."""
        if self._opened is not None:
            self._opened.journal.close()
            self._opened.study.close()

    def _add(self, trial: TrialRecord) -> None:
        opened = self._require_opened()
        counts = self._header.genes.values()
        if trial.row is not None and (
            len(trial.row) != len(counts) or not all(0 <= v < k for v, k in zip(trial.row, counts, strict=True))
        ):
            raise ValueError(f"trial {trial.number}: its row is not within the genes")
        if trial.state == "complete" and None in [getattr(trial, name) for name in self._header.objectives]:
            raise ValueError(f"trial {trial.number} is complete but lacks an objective")
        values = values_of(trial)
        with keeping(self.path):
            opened.journal.add(TRIAL, values)
            self._note(trial)
            opened.study.add_trial(values)

    def _note(self, trial: TrialRecord) -> None:
        """Take note of a trial; one that is tried again was counted already."""
        if trial.number not in self._records:
            insort(self._numbers, trial.number)  # within a round, trials come as they are done
            self._first[trial.number] = trial
            self._tried += trial.tried
        self._records[trial.number] = trial
        if trial.state == "failed":
            self._failed[trial.number] = trial
        else:
            self._failed.pop(trial.number, None)
        self._leading.add(trial)

    def _require_opened(self) -> Opened:
        if self._opened is None:
            raise ValueError(f"{self.path} was opened for reading")
        return self._opened

    def __len__(self) -> int:
        return len(self._records)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
