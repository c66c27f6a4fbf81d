"""The trials of a run, kept in an Optuna study in SQLite: one transaction each, readable by optuna-dashboard.

A trial is written when it has ended, never before, so a killed run leaves no trial half done: SQLite rolls an
unfinished transaction back. The fields of a `TrialRecord` are user attributes of the study's trial. The
encoded policy is one of them and not a parameter per gene, because Optuna runs queries for each parameter:
with 150 genes that is many times slower (`python benchmarks/trial_store.py`).

A trial that has ended cannot be changed. Where its policy is scored again, that is an attribute of the study, one
transaction each as well; programs that do not know them pass over them.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import TypeAdapter, ValidationError

from ..core.errors import ConflictError, InputError
from ..core.files import move_durably, open_bounded, temporary_path
from .pareto import OBJECTIVES, Objective
from .records import Rescore, TrialRecord

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study import Study

#: Bytes of a store and of one of its values; a trial has some ten thousand.
MAX_BYTES, MAX_CELL = 4 << 30, 16 << 20
#: What a store holds beside tables: a view could be computed without end.
_ODD = "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'"
#: Name of the study inside its file.
STUDY = "tinysearch"
#: What the study's attributes that hold re-scores begin with; round and trial follow.
_RESCORE = "rescore:"
#: How the study's trials show the states of ours.
_STATES = {"complete": "COMPLETE", "infeasible": "PRUNED", "failed": "FAIL"}


class TrialStore:
    """The trials of one run. One process may write at a time; others may read meanwhile."""

    def __init__(self, path: Path, storage: "RDBStorage", study: "Study") -> None:
        """Use `open` or `load`."""
        self.path = path
        self._storage = storage
        self._study = study
        records = (_record(trial.user_attrs, path) for trial in study.get_trials(deepcopy=False))
        self._records = {record.number: record for record in records}
        again = (_rescore(value, path) for key, value in study.user_attrs.items() if key.startswith(_RESCORE))
        self._rescores = {(rescore.round, rescore.trial): rescore for rescore in again}

    @classmethod
    def open(cls, path: str | Path, genes: Mapping[str, int], objectives: Sequence[Objective] = OBJECTIVES) -> Self:
        """Load the store at a path, or create an empty one.

        Args:
            path: The SQLite file.
            genes: Number of values of each gene, in the order of an encoded policy.
            objectives: The objectives, which become the study's.

        Raises:
            ConflictError: The store holds trials of another space or other objectives.
            InputError: The file is no store.
        """
        path = Path(path)
        if not path.exists():
            _create(path, genes, objectives)
        store = cls.load(path)
        if list(store.genes.items()) != list(genes.items()) or store.objectives != tuple(objectives):
            store.close()
            raise ConflictError(
                f"{path}: its trials are of another space or other objectives: choose another out", "out"
            )
        return store

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load the store at a path.

        Raises:
            InputError: There is none, or the file is no store.
        """
        import optuna
        import sqlalchemy.exc

        path = Path(path)
        with open_bounded(path, MAX_BYTES):  # SQLite opens it by its name
            pass
        storage = None
        try:
            with _said_from(optuna.logging.CRITICAL):  # what is wrong is told below, in one line
                storage = _storage(path)
                store = cls(path, storage, optuna.load_study(study_name=STUDY, storage=storage))
                _ = store.genes, store.objectives  # which are read here, so that damage is told here
            return store
        except (
            sqlalchemy.exc.SQLAlchemyError,
            optuna.exceptions.OptunaError,
            *(LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError),
        ) as error:
            if storage is not None:
                storage.engine.dispose()
            cause = error.__cause__ or error  # Optuna's own words do not say what is wrong
            reason = (str(cause).splitlines() or [type(cause).__name__])[0]
            raise InputError(f"{path}: no readable study: {reason:.200}") from error

    @cached_property
    def genes(self) -> dict[str, int]:
        """Number of values of each gene, in the order of an encoded policy."""
        return TypeAdapter(dict[str, int]).validate_python(dict(self._study.user_attrs["genes"]))

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What the study optimises."""
        from optuna.study import StudyDirection

        directions = self._study.directions
        names = TypeAdapter(list[str]).validate_python(self._study.user_attrs["objectives"])
        return tuple(Objective(n, d == StudyDirection.MINIMIZE) for n, d in zip(names, directions, strict=True))

    def all(self) -> list[TrialRecord]:
        """All trials, by number, as of when this store was loaded, and those appended since."""
        return [self._records[number] for number in sorted(self._records)]

    @property
    def by_number(self) -> Mapping[int, TrialRecord]:
        """The trials that `all` gives, by number: a view, which grows with the store."""
        return MappingProxyType(self._records)

    @property
    def tried(self) -> int:
        """How many policies were trained, or tried to be: what a run's number of trials counts."""
        return sum(record.tried for record in self._records.values())

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
        """
        from optuna.trial import TrialState, create_trial

        if trial.number in self._records:
            raise ValueError(f"trial {trial.number} is there already")
        counts = list(self.genes.values())
        if trial.row is not None and (
            len(trial.row) != len(counts) or not all(0 <= v < k for v, k in zip(trial.row, counts, strict=True))
        ):
            raise ValueError(f"trial {trial.number}: its row is not within the genes")
        values = [getattr(trial, objective.name) for objective in self.objectives]
        if trial.state == "complete" and None in values:
            raise ValueError(f"trial {trial.number} is complete but lacks an objective")
        entry = create_trial(
            state=TrialState[_STATES[trial.state]],
            values=values if trial.state == "complete" else None,
            user_attrs={key: value for key, value in asdict(trial).items() if value is not None},
        )
        entry.datetime_complete = datetime.now()  # naive local time is what Optuna keeps
        entry.datetime_start = entry.datetime_complete - timedelta(seconds=trial.seconds)
        self._study.add_trial(entry)
        self._records[trial.number] = trial

    def add_rescore(self, rescore: Rescore) -> None:
        """Add what a trial's policy was scored again as; once this returns, it survives a kill and a power cut.

        Args:
            rescore: Of a complete trial that is here, and not there yet of that round.

        Raises:
            ValueError: It is not.
        """
        place = (rescore.round, rescore.trial)
        trial = self._records.get(rescore.trial)
        if place in self._rescores or trial is None or trial.state != "complete":
            raise ValueError(f"trial {rescore.trial} is not to be scored again in round {rescore.round}")
        values = {key: value for key, value in asdict(rescore).items() if value is not None}
        self._study.set_user_attr(f"{_RESCORE}{rescore.round}:{rescore.trial}", values)
        self._rescores[place] = rescore

    def close(self) -> None:
        """Close the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def __len__(self) -> int:
        return len(self._records)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _create(path: Path, genes: Mapping[str, int], objectives: Sequence[Objective]) -> None:
    """Make the file under another name first: a process killed meanwhile leaves no half-made store."""
    import optuna

    temporary = temporary_path(path)
    temporary.unlink(missing_ok=True)
    temporary.touch()
    with _said_from(optuna.logging.WARNING):
        storage = _storage(temporary, new=True)
        study = optuna.create_study(
            study_name=STUDY,
            storage=storage,
            directions=["minimize" if objective.minimise else "maximize" for objective in objectives],
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([objective.name for objective in objectives])
    study.set_user_attr("objectives", [objective.name for objective in objectives])
    # A list of pairs: the order of genes is what gives an encoded policy its meaning.
    study.set_user_attr("genes", [[name, count] for name, count in genes.items()])
    storage.remove_session()
    storage.engine.dispose()
    move_durably(temporary, path)


@contextmanager
def _said_from(level: int) -> Iterator[None]:
    """Let Optuna log nothing below a level."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(level)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _storage(path: Path, new: bool = False) -> "RDBStorage":
    """Open an existing SQLite file with Optuna.

    The connection is made here because a path inside a URL must not hold "?", "%" or "{", and because Optuna
    would create a file that is missing.
    """
    import sqlite3

    from optuna.storages import RDBStorage

    address = f"{path.resolve().as_uri()}?mode=rw"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(address, uri=True, timeout=60, check_same_thread=False)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL)
        if odd := connection.execute(_ODD).fetchone():
            connection.close()
            raise sqlite3.DatabaseError(f"it has {odd[0]!r:.60}, which is no table")
        return connection

    return RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect}, skip_table_creation=not new)


def _rescore(values: object, path: Path) -> Rescore:
    try:
        return TypeAdapter(Rescore).validate_python(values)
    except ValidationError as error:
        from ..core.validation import first_error

        raise InputError(f"{path}: what was scored again: {first_error(error)}") from error


def _record(attributes: Mapping[str, Any], path: Path) -> TrialRecord:
    try:
        str(attributes.get("policy")).encode()  # which is written to a file again
        return TypeAdapter(TrialRecord).validate_python(dict(attributes) | {"row": attributes.get("row")})
    except ValidationError as error:
        from ..core.validation import first_error

        raise InputError(f"{path}: trial {attributes.get('number')}: {first_error(error)}") from error
