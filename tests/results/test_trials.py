import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tinysearch.core.errors import ConflictError, InputError
from tinysearch.results.pareto import Objective
from tinysearch.results.records import Rescore
from tinysearch.results.trials import STUDY, TrialStore

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.db"


def test_trials_of_every_kind_come_back(path, genes, trial):
    trials = [
        trial(0, method="full", warnings=("outside its range",)),
        trial(1, row=None, energy_j=None),
        trial(
            2,
            state="infeasible",
            accuracy=None,
            accuracy_se=None,
            loss=None,
            learning_rate=None,
            error="too big",
        ),
        trial(3, state="failed", accuracy=None, peak_bytes=None, error="loss is NaN \N{SNOWMAN}"),
        trial(4, policy="x" * 100_000, accuracy=0.1 + 0.2, macs=2**60),
    ]
    with TrialStore.open(path, genes) as store:
        for record in trials:
            store.append(record)
        assert store.all() == trials
    with TrialStore.load(path) as store:
        assert store.all() == trials
        assert store.genes == genes
        assert list(store.genes) == list(genes)
    with TrialStore.open(path, genes) as store:
        store.append(trial(5))
        assert len(store) == 6


def test_optuna_reads_the_study_as_its_own(path, genes, trial):
    import optuna

    with TrialStore.open(path, genes) as store:
        store.append(trial(0, method="last"))
        store.append(trial(1, state="infeasible", accuracy=None))
        store.append(trial(2, state="failed", accuracy=None))
    study = optuna.load_study(study_name=STUDY, storage=f"sqlite:///{path}")
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert study.trials[0].values == [0.5, 40_000, 0.1]
    assert study.trials[0].user_attrs["method"] == "last"
    assert study.trials[0].duration.total_seconds() == pytest.approx(2.5)
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert study.metric_names == ["accuracy", "peak_bytes", "latency_s"]
    assert len(study.best_trials) == 1


def test_other_objectives(path, genes, trial):
    objectives = (Objective("loss"), Objective("energy_j"))
    with TrialStore.open(path, genes, objectives) as store:
        assert store.objectives == objectives
        store.append(trial(0))
        with pytest.raises(ValueError, match="lacks an objective"):
            store.append(trial(1, energy_j=None))


@pytest.mark.parametrize(
    "other",
    [{"block": 3, "ratio": 8}, {"ratio": 8, "block": 3, "mask": 2}, {"block": 4, "ratio": 8, "mask": 2}],
)
def test_a_store_of_another_space_is_refused(path, genes, other):
    TrialStore.open(path, genes).close()
    with pytest.raises(ConflictError, match="another space"):
        TrialStore.open(path, other)
    with pytest.raises(ConflictError):
        TrialStore.open(path, genes, [Objective("loss")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": (0, 0)}, "row"),
        ({"row": (0, 8, 0)}, "row"),
        ({"row": (-1, 0, 0)}, "row"),
        ({"accuracy": None}, "lacks"),
    ],
)
def test_wrong_trials_are_refused_and_leave_no_trace(path, genes, trial, changes, message):
    with TrialStore.open(path, genes) as store:
        with pytest.raises(ValueError, match=message):
            store.append(trial(0, **changes))
        store.append(trial(0))
        with pytest.raises(ValueError, match="is there already"):
            store.append(trial(0))
    with TrialStore.load(path) as store:
        assert store.all() == [trial(0)]


def test_trials_may_come_in_any_order_and_are_given_back_by_number(path, genes, trial):
    with TrialStore.open(path, genes) as store:
        for number in (2, 0, 1):
            store.append(trial(number))
        assert store.all() == [trial(0), trial(1), trial(2)]
    with TrialStore.load(path) as store:
        assert store.all() == [trial(0), trial(1), trial(2)]


def test_records_take_numpy_values_and_refuse_nonsense(trial):
    record = trial(np.int64(3), accuracy=np.float32(0.5), row=np.array([1, 2, 0]), peak_bytes=np.int64(7))
    assert record == trial(3, accuracy=0.5, row=(1, 2, 0), peak_bytes=7)
    assert type(record.peak_bytes) is int
    for changes in (
        {"accuracy": float("nan")},
        {"accuracy": 93.1},
        {"hash": "zz"},
        {"state": "running"},
        {"spam": 1},
    ):
        with pytest.raises(ValidationError):
            trial(0, **changes)


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\x00" + b"\x00" * 4000])
def test_files_that_are_no_store(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match="no readable study"):
        TrialStore.load(path)
    assert path.read_bytes() == content


def test_missing_store_is_not_created_by_reading(path):
    with pytest.raises(InputError, match="no such file"):
        TrialStore.load(path)
    assert not path.exists()


def edit(path, statement):
    import sqlite3

    with sqlite3.connect(path) as database:
        database.execute(statement)
    database.close()


def test_an_edited_trial_of_a_study_alone_is_refused(path, genes, trial):
    with TrialStore.open(path, genes) as store:
        store.append(trial(0))
    path.with_name("trials.jsonl").unlink()
    edit(path, "UPDATE trial_user_attributes SET value_json = '7.5' WHERE key = 'accuracy'")
    with pytest.raises(InputError, match="trial 0: accuracy"):
        TrialStore.load(path)


@pytest.mark.parametrize("name", ["a b", "50%", "what?#", "{x}", "naïve'"])
def test_odd_folder_names(tmp_path, genes, trial, name):
    folder = tmp_path / name
    folder.mkdir()
    with TrialStore.open(folder / "study.db", genes) as store:
        store.append(trial(0))
    assert sorted(entry.name for entry in folder.iterdir()) == ["study.db", "trials.jsonl"]
    with TrialStore.load(folder / "study.db") as store:
        assert len(store) == 1


def test_reading_while_another_process_writes(path, genes, trial):
    with TrialStore.open(path, genes) as writer:
        for number in range(3):
            writer.append(trial(number))
            with TrialStore.load(path) as reader:
                assert len(reader) == number + 1


WRITER = """
import sys
from tinysearch.results.records import TrialRecord
from tinysearch.results.trials import TrialStore

print("ready", flush=True)
with TrialStore.open(sys.argv[1], {"gene": 1000}) as store:
    while True:
        number = len(store)
        store.append(
            TrialRecord(
                number=number, hash=f"{number:016x}", policy="x" * 20000, row=(number % 1000,),
                state="complete", accuracy=0.5, peak_bytes=number, latency_s=0.1,
            )
        )
        print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.timed
def test_no_acknowledged_trial_is_lost_when_the_writer_is_killed(path):
    """The writer is killed after some trials, then at a random moment of the next one."""
    moment = random.Random(0)
    known = 0
    for wanted in (0, 0, 1, 2, 5, 3, 4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(1 + wanted)]
        assert told[0] == "ready\n"
        time.sleep(moment.uniform(0, 0.05) if wanted else moment.uniform(0, 1))
        os.kill(writer.pid, signal.SIGKILL)
        told += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        acknowledged = max(known, *(int(line) + 1 for line in told[1:])) if told[1:] else known
        if not path.exists():
            continue
        with TrialStore.load(path) as store:
            records = store.all()
        assert acknowledged <= len(records) <= acknowledged + 1
        assert [record.number for record in records] == list(range(len(records)))
        assert all(record.policy == "x" * 20000 for record in records)
        known = len(records)
    assert known >= 15


def test_records_are_plain_dataclasses(trial):
    record = trial(0)
    assert replace(record, method="full").method == "full"
    assert asdict(record)["row"] == (0, 0, 0)


def test_what_is_scored_again_comes_back_and_leaves_the_trials_as_they_were(path, genes, trial):
    again = [
        Rescore(trial=1, round=2, accuracy=0.5, accuracy_se=0.1, loss=1.5, answers="a0", images=(7, 2, 9), seconds=3.0),
        Rescore(trial=0, round=1, error="loss is NaN \N{SNOWMAN}"),
        Rescore(trial=1, round=1, accuracy=np.float64(0.25)),
    ]
    with TrialStore.open(path, genes) as store:
        assert store.rescores == []
        store.append(trial(0))
        store.append(trial(1, images=(3, 1)))
        for rescore in again:
            store.add_rescore(rescore)
        assert store.rescores == [again[1], again[2], again[0]]
    with TrialStore.open(path, genes) as store:
        assert store.rescores == [again[1], again[2], again[0]]
        assert store.all() == [trial(0), trial(1, images=(3, 1))]


def test_what_cannot_be_scored_again_is_refused(path, genes, trial):
    with TrialStore.open(path, genes) as store:
        store.append(trial(0))
        store.append(trial(1, state="failed", accuracy=None))
        store.add_rescore(Rescore(trial=0, round=1, accuracy=0.5))
        for number, round_ in ((0, 1), (1, 1), (2, 1)):
            with pytest.raises(ValueError, match=f"trial {number} is not to be scored again"):
                store.add_rescore(Rescore(trial=number, round=round_, accuracy=0.5))
        assert len(store.rescores) == 1
    for wrong in ({"round": 0}, {"accuracy": float("nan")}, {"accuracy": 1.5}, {"spam": 1}, {"answers": "a"}):
        with pytest.raises(ValidationError):
            Rescore(**{"trial": 0, "round": 1, **wrong})


def test_an_edited_rescore_of_a_study_alone_is_refused(path, genes, trial):
    with TrialStore.open(path, genes) as store:
        store.append(trial(0))
        store.add_rescore(Rescore(trial=0, round=1, accuracy=0.5))
    path.with_name("trials.jsonl").unlink()
    edit(path, "UPDATE study_user_attributes SET value_json = '[]' WHERE key LIKE 'rescore:%'")
    with pytest.raises(InputError, match="what was scored again"):
        TrialStore.load(path)


def test_a_failed_trial_may_be_tried_again_and_what_it_was_stays(path, genes, trial):
    failed = trial(1, state="failed", accuracy=None, error="it was busy")
    with TrialStore.open(path, genes) as store:
        for record in (trial(0), failed, trial(2)):
            store.append(record)
        assert store.failed == [failed]
        store.retry(replace(failed, error="it was busy, again"))
        store.retry(trial(1))
        for wrong in (trial(1), trial(0), trial(3)):
            with pytest.raises(ValueError, match="is none that failed"):
                store.retry(wrong)
        assert store.tried == 3
        assert store.failed == []
    for missing in ((), ("study.db",), ("trials.jsonl",)):
        for name in missing:
            path.with_name(name).unlink()
        with TrialStore.open(path, genes) as store:
            assert store.all() == [trial(0), trial(1), trial(2)]
            assert store.first() == [trial(0), failed, trial(2)]
            assert [record.number for record in store.leading] == [0, 1, 2]


def test_a_study_with_more_than_tables_is_refused(path, genes):
    TrialStore.open(path, genes).close()
    path.with_name("trials.jsonl").unlink()
    edit(path, "CREATE VIEW endless AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n")
    with pytest.raises(InputError, match="it has 'endless', which is no table"):
        TrialStore.load(path)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP TABLE trial_user_attributes; CREATE VIEW trial_user_attributes AS WITH RECURSIVE c(x) AS (SELECT 1 "
         "UNION ALL SELECT x + 1 FROM c) SELECT x AS trial_user_attribute_id, 1 AS trial_id, 'k' || x AS key, '1' AS "
         "value_json FROM c", "which is no table"),
        ("UPDATE study_user_attributes SET value_json = '3' WHERE key = 'genes'", "no readable study"),
        ("UPDATE study_user_attributes SET value_json = '" + "[" * 100_000 + "' WHERE key = 'genes'", "readable study"),
        ("DROP TABLE trial_values", "no readable study"),
    ],
    ids=["endless view", "genes", "nested", "no table"],
)  # fmt: skip
def test_what_a_store_cannot_hold_is_refused(path, genes, trial, statement, said):
    with TrialStore.open(path, genes) as store:
        store.append(trial(0))
    path.with_name("trials.jsonl").unlink()
    with closing(sqlite3.connect(path)) as database:
        database.executescript(statement)
    with pytest.raises(InputError, match=said) as caught:
        TrialStore.load(path)
    assert "\n" not in str(caught.value)


def test_a_store_is_a_regular_file(path):
    os.mkfifo(path)
    with pytest.raises(InputError, match="is a FIFO, a device or the like"):
        TrialStore.load(path)
