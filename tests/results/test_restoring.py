"""What is finished survives damage to either of its two records, and what cannot be written is told in one line."""

import json
import shutil
import sqlite3
import tracemalloc
import warnings
import zlib
from pathlib import Path

import pytest

from tinysearch.core.errors import ConflictError, InputError, StorageError
from tinysearch.results.journal import Journal
from tinysearch.results.records import Rescore
from tinysearch.results.restoring import journal_path
from tinysearch.results.study import Study
from tinysearch.results.trials import TrialStore

AGAIN = Rescore(trial=1, round=1, accuracy=0.5, answers="a0", images=(3, 1))


@pytest.fixture(scope="module")
def made(tmp_path_factory, genes, trial) -> Path:
    """A store of six trials, one of them scored again."""
    folder = tmp_path_factory.mktemp("made")
    with TrialStore.open(folder / "study.db", genes) as store:
        for number in range(6):
            store.append(trial(number, policy="x" * 9000))
        store.add_rescore(AGAIN)
    return folder


@pytest.fixture
def path(made, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(made, tmp_path / "run") / "study.db"


@pytest.fixture
def every(trial):
    return [trial(number, policy="x" * 9000) for number in range(6)]


def quietly(path, genes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return TrialStore.open(path, genes)


def test_both_records_have_all(path, every, genes):
    study = Study.load(path)
    assert [values["number"] for values in study.trials] == list(range(6))
    study.close()
    lines = [json.loads(line) for line in journal_path(path).read_text().splitlines()]
    assert lines[0]["format"] == "tinysearch.trials"
    assert [line["trial"]["number"] for line in lines[1:-1]] == list(range(6))
    assert lines[-1]["rescore"]["images"] == [3, 1]
    with quietly(path, genes) as store:
        assert (store.all(), store.rescores) == (every, [AGAIN])


@pytest.mark.parametrize("share", [0.0, 0.003, 0.1, 0.5, 0.9, 0.999])
def test_a_study_that_lost_its_end_is_made_again_of_the_record(path, every, genes, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with TrialStore.load(path) as store:
        assert (store.all(), store.rescores) == (every, [AGAIN])
    with pytest.warns(UserWarning, match=r"study\.db: no readable study.*made again of trials\.jsonl, which has 6 fin"):
        store = TrialStore.open(path, genes)
    with store:
        assert (store.all(), store.rescores) == (every, [AGAIN])
    assert path.with_name("study.db.damaged").stat().st_size == int(share * len(content))
    quietly(path, genes).close()


def test_garbage_within_a_study(path, every, genes):
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 5000] = b"\xa5" * 5000
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="made again"):
        store = TrialStore.open(path, genes)
    with store:
        assert store.all() == every


def test_garbage_behind_either_changes_nothing(path, every, genes):
    for file in (path, journal_path(path)):
        file.write_bytes(file.read_bytes() + b"\x00garbage" * 99)
    with quietly(path, genes) as store:
        assert (store.all(), store.rescores) == (every, [AGAIN])
    with TrialStore.load(path) as store:
        assert store.all() == every


@pytest.mark.parametrize("lost", [1, 7, 9_000, 30_000])
def test_a_record_that_lost_its_end_is_completed_by_the_study(path, every, genes, lost):
    record = journal_path(path)
    whole = record.read_bytes()
    record.write_bytes(whole[:-lost])
    with quietly(path, genes) as store:
        assert (store.all(), store.rescores) == (every, [AGAIN])
    assert record.read_bytes() == whole


def test_a_record_damaged_within_is_written_anew(path, every, genes):
    record = journal_path(path)
    whole = record.read_bytes()
    damaged = whole.replace(b'"accuracy":0.508', b'"accuracy":0.608')
    assert damaged != whole
    record.write_bytes(damaged)
    with TrialStore.load(path) as store:
        assert store.all() == every
    with pytest.warns(UserWarning, match=r"trials\.jsonl: 1 of its lines cannot be read; it was written anew"):
        store = TrialStore.open(path, genes)
    with store:
        assert (store.all(), store.rescores) == (every, [AGAIN])
    assert record.read_bytes() == whole
    assert record.with_name("trials.jsonl.damaged").read_bytes() == damaged


def test_lines_of_what_no_trial_has_are_damaged_and_take_little_memory(path, every, genes):
    with journal_path(path).open("ab") as file:
        for content in (b'{"x":[' + b",".join([b"[]"] * 100_000) + b"]}", b'{"x":{}}', b"[]", b"{" * 10_000):
            file.write(b'{"crc32":"%08x","trial":%s}\n' % (zlib.crc32(content), content))
    tracemalloc.start()
    assert Journal.read(journal_path(path)).damaged == 4
    assert tracemalloc.get_traced_memory()[0] < 2_000_000  # what is kept; the lists alone would be 6.4 MB
    tracemalloc.stop()
    with pytest.warns(UserWarning, match="4 of its lines cannot be read"):
        store = TrialStore.open(path, genes)
    with store:
        assert store.all() == every


def test_what_both_lost_is_missing_and_nothing_else(path, every, genes, trial):
    record = journal_path(path)
    record.write_bytes(b"\n".join(record.read_bytes().splitlines()[:4]) + b"\n{tor")
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.warns(UserWarning, match="which has 3 finished trials"):
        store = TrialStore.open(path, genes)
    with store:
        assert store.all() == every[:3]
        store.append(trial(3))
    with quietly(path, genes) as store:
        assert [record.number for record in store.all()] == [0, 1, 2, 3]


def test_neither_can_be_read(path, genes):
    for file in (path, journal_path(path)):
        file.write_bytes(b"nothing")
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(InputError, match=r"no readable study.*put a copy of the two in their place, or delete them"):
        TrialStore.open(path, genes)
    with pytest.raises(InputError, match="no readable study"):
        TrialStore.load(path)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize("name", ["study.db", "trials.jsonl"])
def test_either_may_be_missing(path, every, genes, name):
    """A run from before there was a record has none."""
    path.with_name(name).unlink()
    with TrialStore.load(path) as store:
        assert (store.all(), store.rescores) == (every, [AGAIN])
    with quietly(path, genes) as store:
        assert (store.all(), store.rescores) == (every, [AGAIN])
    assert path.with_name(name).is_file()
    with quietly(path, genes) as store:
        assert store.all() == every


def test_a_kill_between_the_two_is_made_good(path, every, genes):
    """The record has the last trial, the study has not yet."""
    with sqlite3.connect(path) as database:
        (last,) = database.execute("SELECT max(trial_id) FROM trials").fetchone()
        for table in ("trials", "trial_values", "trial_user_attributes"):
            database.execute(f"DELETE FROM {table} WHERE trial_id = {last}")
    database.close()
    with quietly(path, genes) as store:
        assert store.all() == every
    study = Study.load(path)
    assert [values["number"] for values in study.trials] == list(range(6))
    study.close()


def test_a_study_that_says_otherwise_is_made_again(path, every, genes):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE trial_user_attributes SET value_json = '0.75' WHERE key = 'accuracy' AND trial_id = 2")
    database.close()
    with pytest.warns(UserWarning, match=r"its trials are not those of trials\.jsonl"):
        store = TrialStore.open(path, genes)
    with store:
        assert store.all() == every
    quietly(path, genes).close()


def test_a_left_over_journal_of_sqlite_that_was_cut(path, every, genes):
    """A process was killed in a transaction, and the end of what would have undone it is lost."""
    path.with_name("study.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\x00" * 300)
    with TrialStore.open(path, genes) as store:
        assert store.all() == every


def test_a_reader_is_told_what_a_damaged_run_lacks(path, every):
    record = journal_path(path)
    record.write_bytes(record.read_bytes().replace(b'"accuracy":0.508', b'"accuracy":0.608'))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.warns(UserWarning, match="only what can be read of that is shown"):
        store = TrialStore.load(path)
    assert [trial.number for trial in store.all()] == [0, 1, 3, 4, 5]


# --- other versions ---------------------------------------------------------------------------------------------------


def newer(path: Path) -> None:
    """The record, and the study, as a later version might write them."""
    record = journal_path(path)
    first, *rest = record.read_text().splitlines(keepends=True)
    record.write_text(first.replace('"version":1', '"version":2') + "".join(rest))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE study_user_attributes SET value_json = '2' WHERE key = 'version'")
        database.execute(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) SELECT trial_id, 'mood', '3' FROM trials"
        )
    database.close()


def test_a_store_of_a_newer_version_is_read_with_a_warning_and_not_written(path, every, genes):
    newer(path)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.warns(UserWarning, match=r"trials\.jsonl: written by a newer format \(version 2\)"):
        assert TrialStore.load(path).all() == every
    with pytest.raises(ConflictError, match="written by a newer version of TinySearch: go on with that"):
        TrialStore.open(path, genes)
    journal_path(path).rename(path.with_name("gone"))
    with pytest.warns(UserWarning, match=r"study\.db: written by a newer format \(version 2\); ignored: mood"):
        assert TrialStore.load(path).all() == every
    with pytest.raises(ConflictError, match="written by a newer version"):
        TrialStore.open(path, genes)
    path.with_name("gone").rename(journal_path(path))
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


# --- what cannot be written -------------------------------------------------------------------------------------------


def test_a_trial_that_does_not_fit_leaves_no_half(path, every, genes, trial, monkeypatch):
    """As on a full disk: a part is written, and then nothing more."""
    with quietly(path, genes) as store:
        store.append(trial(6))
        whole = journal_path(path).read_bytes()

        def refuse(file: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", refuse)
            with pytest.raises(StorageError, match=r"No space left on device.*finished trials are kept"):
                store.append(trial(7))
        assert journal_path(path).read_bytes() == whole
        store.append(trial(7))
    with quietly(path, genes) as store:
        assert [record.number for record in store.all()] == list(range(8))


def test_a_trial_that_only_the_record_took_is_kept(path, genes, trial, monkeypatch):
    from tinysearch.results import study

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with quietly(path, genes) as store, monkeypatch.context() as patch:
        patch.setattr(study.Study, "add_trial", refuse)
        with pytest.raises(StorageError):
            store.append(trial(6))
        assert len(store) == 7
    with quietly(path, genes) as store:
        assert len(store) == 7


def test_the_clock_may_go_backwards(path, genes, trial, monkeypatch):
    from datetime import datetime

    from tinysearch.results import study

    class Past(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(1999, 1, 1, tzinfo=tz)

    monkeypatch.setattr(study, "datetime", Past)
    with quietly(path, genes) as store:
        store.append(trial(6, started="1998-12-31T23:59:00+00:00"))
    with quietly(path, genes) as store:
        assert [record.number for record in store.all()] == list(range(7))


def test_a_reader_does_not_write(path, trial):
    with TrialStore.load(path) as store, pytest.raises(ValueError, match="opened for reading"):
        store.append(trial(6))
