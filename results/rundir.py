"""The folder that holds a run, and the only place where it does: what was asked, found and concluded.

    RUN/request.json  environment.json  trials.jsonl  study.db  front.json  policies/<hash>.json  pareto.png

Every file is described in docs/run-directory.md. Files are replaced whole, trials are added in transactions,
and one process at a time may write, so the run can be killed at any moment and resumed by opening it again.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict

from ..core.errors import ConflictError, InputError, StorageError
from ..core.files import TEMPORARY, read_text, write_atomically
from ..core.formats import Format
from .environment import environment, now
from .front import Front
from .identity import differences, normalised
from .networks import NETWORKS, numbered_together
from .pareto import OBJECTIVES, Objective
from .records import Member, Rescore, TrialRecord, policy_file
from .trials import TrialStore, keeping

if TYPE_CHECKING:
    from filelock import BaseFileLock

REQUEST, ENVIRONMENT, STUDY, FRONT, PARETO = (
    "request.json",
    "environment.json",
    "study.db",
    "front.json",
    "pareto.png",
)
#: Folder of what Ray Tune and TensorBoard write of a run; nothing reads it.
TUNE = "ray"
_LOCK = ".lock"
#: What was asked, and what the run was computed on.
RUN_FORMAT = Format("tinysearch.run", 1, "request of a run")
ENVIRONMENT_FORMAT = Format("tinysearch.environment", 1, "list of environments")


class RunFile(BaseModel):
    """The content of request.json.

    Attributes:
        created: When the run began, ISO 8601.
        request: What was asked, as JSON values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    created: str = ""
    request: dict[str, Any]


class EnvironmentFile(BaseModel):
    """The content of environment.json.

    Attributes:
        sessions: What each process ran on, as it was noted: JSON values that nothing depends on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: tuple[dict[str, Any], ...]


class RunDirectory:
    """One run on disk.

    `open` gives it for writing and holds its lock until `close`; `load` gives it for reading.

    Attributes:
        path: The folder.
        request: What was asked, as JSON values.

    Example:
        >>> import tinysearch as ts
        >>> run = ts.load_run("runs/digits")
        >>> run.request["device"], len(run.trials())
        ('rpi4', 2)
    """

    def __init__(self, path: Path, request: dict[str, Any], lock: "BaseFileLock | None" = None) -> None:
        """Use `open` or `load`."""
        self.path = path
        self.request = request
        self._lock = lock
        self._policies: dict[str, str] | None = None  # of the members last written, by file; None before the first time

    @classmethod
    def open(
        cls,
        path: str | Path,
        request: Mapping[str, Any],
        *,
        threads: int | None = None,
        inputs: Mapping[str, Any] = MappingProxyType({}),
    ) -> Self:
        """Begin a run in a new or empty folder, or resume the one that is there.

        Args:
            path: The folder; it is made with its parents.
            request: Everything that decides the outcome, as JSON values; equal requests are the same run.
            threads: Threads that the run computes with, for the record.
            inputs: What it was loaded from, by checksum, likewise.

        Returns:
            The run, locked against other writers.

        Raises:
            ConflictError: The folder holds something else or another request, or another process writes it.
            InputError: The path cannot be a folder, or the request in it is damaged.
            StorageError: The folder cannot be written.
        """
        from filelock import FileLock, Timeout

        path = Path(path)
        request = normalised(request)
        try:
            path.mkdir(parents=True, exist_ok=True)
            # In this order: what another process begins meanwhile is no obstacle.
            if (foreign := _foreign(path)) and not (path / REQUEST).exists():
                raise ConflictError(f"{path} is no run and not empty (it has {foreign}): choose another out", "out")
            lock = FileLock(path / _LOCK)
            lock.acquire(blocking=False)
        except Timeout as error:
            raise ConflictError(
                f"{path}: another process is writing this run: wait for it, or choose another out", "out"
            ) from error
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(f"{path}: cannot keep a run there: {error.strerror}") from error
        except OSError as error:
            raise StorageError(
                f"{path}: cannot keep a run there: {error.strerror}: make room, or the folder writable, or choose "
                "another out",
                "out",
            ) from error
        run = cls(path, request, lock)
        try:
            with keeping(path):
                _remove_unfinished(path)
                if (path / REQUEST).exists():
                    _require_same(path, request)
                else:
                    asked = RunFile(created=now(), request=request)
                    write_atomically(path / REQUEST, RUN_FORMAT.text(asked.model_dump()))
                run._note_environment(threads, inputs)
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a run, finished or not.

        Raises:
            InputError: The folder is missing or holds no run.
        """
        path = Path(path)
        if not path.is_dir():
            raise InputError(f"{path}: no such folder")
        if not (path / REQUEST).is_file():
            raise InputError(f"{path} is no run: it has no {REQUEST}")
        return cls(path, _read_request(path))

    def store(self, genes: Mapping[str, int], objectives: Sequence[Objective] = OBJECTIVES) -> TrialStore:
        """The run's trials, for adding to; only a run that was opened for writing may do so.

        Raises:
            ConflictError: The trials there are of another space.
        """
        self._require_lock()
        return TrialStore.open(self.path / STUDY, genes, objectives)

    @property
    def networks(self) -> "tuple[RunDirectory, ...]":
        """The runs of the networks, each on its own, in a run of several; else empty.

        Raises:
            InputError: One is missing, or lies elsewhere.
        """
        names = self.request.get(NETWORKS, {})
        if not isinstance(names, dict) or any(name in ("", ".", "..") or Path(name).name != name for name in names):
            raise InputError(f"{self.path / REQUEST}: a network's name is no name of a folder")
        return tuple(RunDirectory.load(self.path / NETWORKS / name) for name in names)

    def of(self, member: Member) -> "RunDirectory":
        """The run that a member was found in: this one, or that of its network."""
        networks = self.networks
        return networks[member.trial % len(networks)] if networks else self

    @property
    def sessions(self) -> tuple[dict[str, Any], ...]:
        """What each process that worked on the run ran on, as it was noted; empty where that was deleted.

        Raises:
            InputError: The file is damaged.
        """
        path = self.path / ENVIRONMENT
        return _read_sessions(path) if path.is_file() else ()

    def trials(self) -> list[TrialRecord]:
        """All finished trials; of several networks, numbered as `numbered_together` says.

        Raises:
            InputError: There are none, or they cannot be read.
        """
        if networks := self.networks:
            together = numbered_together([network.trials() for network in networks])
            return sorted((trial for trials in together for trial in trials), key=lambda trial: trial.number)
        with TrialStore.load(self.path / STUDY) as store:
            return store.all()

    def rescores(self) -> list[Rescore]:
        """What was scored again of the finalists, by round and trial.

        Raises:
            InputError: There are no trials, or they cannot be read.
        """
        with TrialStore.load(self.path / STUDY) as store:
            return store.rescores

    def write_front(self, front: Front, trials: Mapping[int, TrialRecord]) -> Path:
        """Write front.json and a policy file for each of its members, and remove those of former members.

        Args:
            front: The front.
            trials: By number, the trials that it was chosen from: they hold the policies. Beyond the members they are
                looked at once a session only.

        Returns:
            The path of front.json.

        Raises:
            StorageError: It cannot be written; the front before it stays.
        """
        self._require_lock()
        with keeping(self.path / FRONT):
            (self.path / "policies").mkdir(exist_ok=True)
            texts = {policy_file(member.hash): trials[member.trial].policy for member in front.members}
            for file, text in texts.items():
                if self._policies is None or self._policies.get(file) != text:
                    self._write_policy(file, text)
            path = front.save(self.path / FRONT)
            # Last, so that front.json never names a file that is not there.
            former = set(self._policies) if self._policies is not None else self._left_behind(trials.values())
            for file in former - texts.keys():
                (self.path / file).unlink(missing_ok=True)
        self._policies = texts
        return path

    @property
    def front(self) -> Front:
        """The front as last written.

        Raises:
            InputError: There is none yet, or it is damaged.
        """
        path = self.path / FRONT
        if not path.is_file():
            raise InputError(f"{self.path} has no {FRONT} yet: run the same command again to resume the search")
        return Front.load(path)

    def policy_path(self, member: Member) -> Path:
        """The policy file of a member of the front.

        Raises:
            InputError: The file that the front names lies outside the run, or is not there.
        """
        path = self.path / member.policy
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise InputError(f"{self.path / FRONT}: the policy {member.policy!r} lies outside the run")
        if not path.exists():
            raise InputError(
                f"{path}: no such file, though {FRONT} names it: was the run copied while it was written? The command "
                "that made it writes the front anew"
            )
        return path

    def plot_pareto(self, path: str | Path | None = None) -> Path:
        """Draw the front and the trials behind it, by default to pareto.png of the run; returns the path."""
        from .plots import plot_pareto

        front, trials = self.front, self.trials()
        if path is not None:
            if not Path(path).parent.is_dir():
                raise InputError(f"{path}: there is no folder {Path(path).parent}")
            with keeping(Path(path), "draw it again, or name another file"):
                return plot_pareto(front, trials, Path(path))
        with keeping(self.path / PARETO):
            return plot_pareto(front, trials, self.path / PARETO)

    def close(self) -> None:
        """Let other processes write."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _left_behind(self, trials: Iterable[TrialRecord]) -> set[str]:
        """Policy files of trials, relative to the run: a session that was killed may not have removed all it should."""
        there = {f"policies/{file.name}" for file in (self.path / "policies").iterdir()}
        return there & {policy_file(trial.hash) for trial in trials}

    def _write_policy(self, file: str, text: str) -> None:
        path = self.path / file
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text)

    def _note_environment(self, threads: int | None, inputs: Mapping[str, Any]) -> None:
        """Add this process to the ones that have worked on the run."""
        path = self.path / ENVIRONMENT
        try:
            before = _read_sessions(path) if path.exists() else ()
        except InputError as error:
            raise InputError(f"{error}; delete the file, the run does not need it") from error
        session = environment(threads) | ({"inputs": dict(inputs)} if inputs else {})
        write_atomically(path, ENVIRONMENT_FORMAT.text({"sessions": [*before, session]}))

    def _require_lock(self) -> None:
        if self._lock is None:
            raise ValueError(f"{self.path} was opened for reading")


def _require_same(path: Path, request: Mapping[str, Any]) -> None:
    """Refuse to go on with a run that was asked otherwise, or by a newer version."""
    file = path / REQUEST
    content, version = RUN_FORMAT.parse(read_text(file), str(file))
    if version > RUN_FORMAT.version:
        raise ConflictError(
            f"{file}: written by a newer version of TinySearch: go on with that, or choose another out", "out"
        )
    there = RUN_FORMAT.validate(RunFile, content, version, str(file)).request
    if told := differences(there, request):
        raise ConflictError(f"{path} holds another run ({told}): choose another out, or ask as before", "out")


def _remove_unfinished(path: Path) -> None:
    """Delete what processes left that were killed while they wrote; the lock says that none is at it."""
    for folder in (path, path / "policies"):
        for file in folder.glob(f"{TEMPORARY}*"):
            if not file.name.endswith(PARETO):  # which readers write too
                file.unlink(missing_ok=True)


def _read_request(path: Path) -> dict[str, Any]:
    file = path / REQUEST
    return RUN_FORMAT.read(RunFile, read_text(file), str(file)).request


def _read_sessions(file: Path) -> tuple[dict[str, Any], ...]:
    return ENVIRONMENT_FORMAT.read(EnvironmentFile, read_text(file), str(file)).sessions


def _foreign(path: Path) -> str | None:
    """The first thing in a folder that an interrupted start of a run would not have left."""
    names = [entry.name for entry in path.iterdir()]
    return min((name for name in names if name != _LOCK and not name.startswith(TEMPORARY)), default=None)
