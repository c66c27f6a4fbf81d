"""The two records of a run's trials, brought together when it is opened: each makes good what the other lost.

What is finished is in `trials.jsonl` first and in `study.db` then, so after a kill the study may lack the last trial.
After damage, either may lack more: a file system that lost the end of a file, a copy that was made while the run was
written. What one of the two has is not lost. A damaged file is kept under another name, in case that someone wants to
look.
"""

import shutil
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import ConflictError, InputError
from .journal import JOURNAL_FORMAT, RESCORE, TRIAL, Header, Journal, JournalWriter
from .records import Rescore, TrialRecord
from .study import Study, put_aside, unused_name
from .values import rescore_of, trial_of, values_of


@dataclass
class Finished:
    """What was finished of a run.

    Attributes:
        trials: By number and attempt, from 0: a trial that had failed may have been tried again.
        rescores: What was scored again, by round and trial.
    """

    trials: dict[tuple[int, int], TrialRecord] = field(default_factory=dict)
    rescores: dict[tuple[int, int], Rescore] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Journal | Study, version: int, origin: str) -> "Finished":
        """What a file has.

        Raises:
            InputError: A field of a trial is wrong, or the file is damaged.
        """
        finished, attempts = cls(), Counter[int]()
        for trial in (trial_of(values, version, origin) for values in source.trials):
            finished.trials[trial.number, attempts[trial.number]] = trial
            attempts[trial.number] += 1
        for rescore in (rescore_of(values, version, origin) for values in source.rescores):
            finished.rescores.setdefault((rescore.round, rescore.trial), rescore)
        return finished

    def without(self, other: "Finished") -> "Finished":
        """What another has not."""
        return Finished(
            {place: self.trials[place] for place in sorted(self.trials.keys() - other.trials.keys())},
            {place: self.rescores[place] for place in sorted(self.rescores.keys() - other.rescores.keys())},
        )

    def and_of(self, other: "Finished") -> "Finished":
        """What either has; where both have it, this one counts."""
        return Finished(other.trials | self.trials, other.rescores | self.rescores)

    def contradicts(self, other: "Finished") -> bool:
        """Whether both have something that is not the same."""
        return any(other.trials.get(place, trial) != trial for place, trial in self.trials.items()) or any(
            other.rescores.get(place, rescore) != rescore for place, rescore in self.rescores.items()
        )


def journal_path(study: Path) -> Path:
    """Where the record lies that belongs to a study's file."""
    return study.with_name("trials.jsonl")


def read(path: Path) -> tuple[Header, Finished]:
    """What was finished of a run, of which another process may be writing.

    Args:
        path: The study's file. It is not looked at where the record beside it is whole.

    Raises:
        InputError: There is none, or nothing can be read.
    """
    record = journal_path(path)
    journal = _journal(record)
    finished = _finished(journal, record)
    if journal.header is not None and not journal.damaged:
        return journal.header, finished
    try:
        study = Study.load(path)
    except InputError as error:
        if journal.header is None:
            raise
        warnings.warn(f"{error}, and {record.name} is damaged: only what can be read of that is shown", stacklevel=4)
        return journal.header, finished
    try:
        return study.header, finished.and_of(Finished.of(study, study.header.version, str(path)))
    finally:
        study.close()


@dataclass(frozen=True)
class Opened:
    """A run's finished work, and where more is added.

    Attributes:
        finished: All that is known.
        journal: The record, for adding to.
        study: The study, likewise.
    """

    finished: Finished
    journal: JournalWriter
    study: Study


def restore(path: Path, header: Header) -> Opened:
    """Open a run's study and its record for writing, make them where there are none, and mend them.

    Args:
        path: The study's file.
        header: What the trials must have in common.

    Raises:
        ConflictError: The trials there are of another space or other objectives, or written by a newer version.
        InputError: Neither of the two can be read.
        OSError: The disk is full, or the like.
    """
    record = journal_path(path)
    journal = _journal(record)
    if journal.header is not None:
        _require_same(path, journal.header, header)
    noted = _finished(journal, record)
    study, kept, complaint = _studied(path, header)
    if complaint and journal.header is None:
        raise InputError(
            f"{complaint}; nor is there a readable {record.name} to make it again of: put a copy of the two in their "
            "place, or delete them to begin again"
        )
    if study is not None and noted.contradicts(kept):
        study.close()
        study, kept, complaint = None, Finished(), f"{path}: its trials are not those of {record.name}"
    together = noted.and_of(kept)
    # The record first: whatever ends this, the rest can be made again of it.
    writer = _mended(record, journal, header, together, missing=kept.without(noted))
    if study is None:
        if path.exists():
            aside = put_aside(path)
            warnings.warn(
                f"{complaint}; it was made again of {record.name}, which has {len(together.trials)} finished trials "
                f"(what was there is {aside.name} now)",
                stacklevel=4,
            )
        study, kept = Study.create(path, header), Finished()
    try:
        missing = together.without(kept)
        for trial in missing.trials.values():
            study.add_trial(values_of(trial))
        for rescore in missing.rescores.values():
            study.add_rescore(values_of(rescore))
    except BaseException:
        study.close()
        raise
    return Opened(together, writer, study)


def _journal(record: Path) -> Journal:
    return Journal.read(record) if record.is_file() else Journal(None)


def _finished(journal: Journal, record: Path) -> Finished:
    """What a record has; of one whose first line is lost, the lines are of the version that is known."""
    version = journal.header.version if journal.header is not None else JOURNAL_FORMAT.version
    return Finished.of(journal, version, str(record))


def _studied(path: Path, header: Header) -> tuple[Study | None, Finished, str]:
    """The study, what it has, and why it cannot be read."""
    if not path.exists():
        return None, Finished(), ""
    study = None
    try:
        study = Study.load(path)
        study.check()
        _require_same(path, study.header, header)
        return study, Finished.of(study, study.header.version, str(path)), ""
    except BaseException as error:
        if study is not None:
            study.close()
        if isinstance(error, InputError):
            return None, Finished(), str(error)
        raise


def _require_same(path: Path, there: Header, header: Header) -> None:
    if there.version > header.version:
        raise ConflictError(
            f"{path.parent}: written by a newer version of TinySearch: go on with that, or choose another out", "out"
        )
    same_genes = list(there.genes.items()) == list(header.genes.items())
    if not same_genes or list(there.objectives.items()) != list(header.objectives.items()):
        raise ConflictError(f"{path}: its trials are of another space or other objectives: choose another out", "out")


def _mended(record: Path, journal: Journal, header: Header, together: Finished, missing: Finished) -> JournalWriter:
    """The record, for adding to, with all that is known."""
    if journal.header is not None and not journal.damaged:
        writer = JournalWriter(record)
        for kind, values in _entries(missing):
            writer.add(kind, values)
        return writer
    if record.is_file():
        aside = unused_name(record)
        shutil.copyfile(record, aside)
        warnings.warn(
            f"{record}: {journal.damaged or 1} of its lines cannot be read; it was written anew with the "
            f"{len(together.trials)} finished trials that it and study.db have, and others will be scored again (what "
            f"was there is {aside.name} now)",
            stacklevel=5,
        )
    return JournalWriter.create(record, header, _entries(together))


def _entries(finished: Finished) -> Iterable[tuple[str, dict[str, object]]]:
    for _, trial in sorted(finished.trials.items()):
        yield TRIAL, values_of(trial)
    for _, rescore in sorted(finished.rescores.items()):
        yield RESCORE, values_of(rescore)
