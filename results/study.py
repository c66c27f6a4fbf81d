"""The Optuna study of a run in SQLite: what optuna-dashboard opens, and what makes good a record that is damaged.

The fields of a trial are user attributes of the study's trial. The encoded policy is one of them and not a parameter
per gene, because Optuna runs queries for each parameter: with 150 genes that is many times slower (`python
benchmarks/trial_store.py`). A trial is one transaction, written when it has ended, so no trial is ever half there.

A trial that has ended cannot be changed. Where its policy is scored again, that is an attribute of the study, one
transaction each as well; programs that do not know them pass over them.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..core.errors import InputError
from ..core.files import move_durably, open_bounded, temporary_path
from .journal import JOURNAL_FORMAT, Header

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study import Study as OptunaStudy

#: Bytes of a study, and of one value of it; a trial has some ten thousand.
MAX_BYTES, MAX_CELL = 4 << 30, 16 << 20
#: What a study holds beside tables: a view could be computed without end.
_ODD = "SELECT name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'"
#: Name of the study inside its file.
STUDY = "tinysearch"
#: What the study's attributes that hold re-scores begin with; round and trial follow.
_RESCORE = "rescore:"
#: How the study's trials show the states of ours.
_STATES = {"complete": "COMPLETE", "infeasible": "PRUNED", "failed": "FAIL"}


class Study:
    """A study's file. One process may write at a time; others may read meanwhile.

    Attributes:
        header: What its trials have in common.
    """

    def __init__(self, path: Path, storage: "RDBStorage", study: "OptunaStudy") -> None:
        """Use `create` or `load`."""
        from optuna.study import StudyDirection

        self._path, self._storage, self._study = path, storage, study
        attributes = study.user_attrs
        smaller = [direction == StudyDirection.MINIMIZE for direction in study.directions]
        self.header = Header(
            genes=dict(attributes["genes"]),
            objectives=dict(zip(attributes["objectives"], smaller, strict=True)),
            version=attributes.get("version", 1),
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open a study.

        Raises:
            InputError: There is none, or the file is damaged.
        """
        import optuna

        with open_bounded(path, MAX_BYTES):  # SQLite opens it by its name
            pass
        storage = None
        try:
            with _damage(path), _said_from(optuna.logging.CRITICAL):  # what is wrong is told in one line
                storage = _storage(path)
                return cls(path, storage, optuna.load_study(study_name=STUDY, storage=storage))
        except InputError:
            if storage is not None:
                storage.engine.dispose()
            raise

    @classmethod
    def create(cls, path: Path, header: Header) -> Self:
        """Write a study without trials and open it.

        It is made under another name first: a process killed meanwhile leaves no half-made study.

        Raises:
            OSError: The disk is full, or the like.
        """
        import optuna

        temporary = temporary_path(path)
        try:
            with _refusal(path), _said_from(optuna.logging.WARNING):
                _remove(temporary)
                temporary.touch()
                storage = _storage(temporary, new=True)
                study = optuna.create_study(
                    study_name=STUDY,
                    storage=storage,
                    directions=["minimize" if small else "maximize" for small in header.objectives.values()],
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    study.set_metric_names(list(header.objectives))
                study.set_user_attr("version", JOURNAL_FORMAT.version)
                study.set_user_attr("objectives", list(header.objectives))
                # A list of pairs: the order of genes is what gives an encoded policy its meaning.
                study.set_user_attr("genes", [[name, count] for name, count in header.genes.items()])
                storage.remove_session()
                storage.engine.dispose()
                move_durably(temporary, path)
        except BaseException:
            with suppress(OSError):
                _remove(temporary)
            raise
        return cls.load(path)

    def check(self) -> None:
        """Look for damage that reading need not meet.

        Raises:
            InputError: The file is damaged.
        """
        from sqlalchemy import text

        with _damage(self._path), self._storage.engine.connect() as connection:
            said = connection.execute(text("PRAGMA quick_check(1)")).scalar()
        if said != "ok":
            raise InputError(f"{self._path}: no readable study: {str(said).splitlines()[-1]}")

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The trials as JSON values, in the order that they were added.

        Raises:
            InputError: The file is damaged.
        """
        from optuna.trial import TrialState

        with _damage(self._path):
            trials = self._study.get_trials(deepcopy=False)
            # Another state is nothing that was ever written: SQLite took back a half of a transaction.
            ended = [trial for trial in trials if trial.state not in (TrialState.RUNNING, TrialState.WAITING)]
            return [dict(trial.user_attrs) for trial in ended]

    @property
    def rescores(self) -> list[Any]:
        """What was scored again, as JSON values.

        Raises:
            InputError: The file is damaged.
        """
        with _damage(self._path):
            return [value for key, value in self._study.user_attrs.items() if key.startswith(_RESCORE)]

    def add_trial(self, values: Mapping[str, Any]) -> None:
        """Add a finished trial.

        Args:
            values: Its fields as JSON values.

        Raises:
            OSError: The disk is full, or the like.
        """
        from optuna.trial import TrialState, create_trial

        complete = values["state"] == "complete"
        entry = create_trial(
            state=TrialState[_STATES[values["state"]]],
            values=[values[name] for name in self.header.objectives] if complete else None,
            user_attrs=dict(values),
        )
        entry.datetime_complete = datetime.now()  # naive local time is what Optuna keeps
        entry.datetime_start = entry.datetime_complete - timedelta(seconds=values["seconds"])
        with _refusal(self._path):
            self._study.add_trial(entry)

    def add_rescore(self, values: Mapping[str, Any]) -> None:
        """Add what a trial's policy was scored again as.

        Args:
            values: Its fields as JSON values.

        Raises:
            OSError: The disk is full, or the like.
        """
        with _refusal(self._path):
            self._study.set_user_attr(f"{_RESCORE}{values['round']}:{values['trial']}", dict(values))

    def close(self) -> None:
        """Close the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()


def put_aside(path: Path) -> Path:
    """Rename a damaged file, and what SQLite keeps beside it, out of the way; gives the new name."""
    aside = unused_name(path)
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    return aside


def unused_name(path: Path) -> Path:
    """What a damaged file may be called from now on."""
    number, aside = 1, path.with_name(f"{path.name}.damaged")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    return aside


#: What SQLite appends to the names of files of its own.
_SUFFIXES = ("", "-journal", "-wal", "-shm")


def _remove(path: Path) -> None:
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


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


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Tell what SQLite and Optuna say of a damaged file as one line."""
    import optuna
    import sqlalchemy.exc

    try:
        yield
    except (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.OptunaError,
        *(LookupError, RuntimeError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError),
    ) as error:
        reason = getattr(error.__cause__, "orig", None) or getattr(error, "orig", None) or error
        raise InputError(
            f"{path}: no readable study: {(str(reason) or type(error).__name__).splitlines()[0]}"
        ) from error


@contextmanager
def _refusal(path: Path) -> Iterator[None]:
    """Raise what SQLite says of a file that it cannot write as the operating system would."""
    import optuna
    import sqlalchemy.exc

    try:
        yield
    except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
        raise OSError(None, _reason(error), str(path)) from error


def _reason(error: Exception) -> str:
    """What SQLite said, in one line, where Optuna and SQLAlchemy have wrapped it."""
    reason = getattr(error.__cause__, "orig", None) or getattr(error, "orig", None) or error
    return f"{(str(reason).splitlines() or [type(reason).__name__])[0]:.200}"


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
