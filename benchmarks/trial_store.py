"""What it costs to keep a trial: the row as one attribute, as TinySearch does, against a parameter per gene.

Run from the repository's root: python benchmarks/trial_store.py
"""

import statistics
import tempfile
import time
from pathlib import Path

import optuna

from tinysearch.results.records import TrialRecord
from tinysearch.results.trials import TrialStore

GENES = {f"features.{number}.conv.0.weight": 8 for number in range(150)}
TRIALS = 50


def trial(number: int) -> TrialRecord:
    """A trial of the usual size: 150 genes, 8 kB of policy."""
    return TrialRecord(
        number=number,
        hash=f"{number:016x}",
        policy="x" * 8000,
        row=tuple((number + gene) % 8 for gene in range(len(GENES))),
        state="complete",
        accuracy=0.5,
        accuracy_se=0.01,
        loss=1.0,
        learning_rate=1e-3,
        peak_bytes=300_000 + number,
        saved_bytes=100_000,
        flash_bytes=800_000,
        latency_s=0.1,
        energy_j=0.3,
        macs=10**8,
        seconds=3.0,
    )


def as_attribute(path: Path) -> list[float]:
    """Seconds of each append to our store; checks that all is read back."""
    seconds = []
    with TrialStore.open(path, GENES) as store:
        for number in range(TRIALS):
            start = time.perf_counter()
            store.append(trial(number))
            seconds.append(time.perf_counter() - start)
    with TrialStore.load(path) as store:
        assert store.all() == [trial(number) for number in range(TRIALS)]
    return seconds


def as_parameters(path: Path) -> list[float]:
    """Seconds of each append to a study with a parameter per gene; checks that all is read back."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=f"sqlite:///{path}", directions=["maximize", "minimize", "minimize"])
    space = {name: optuna.distributions.IntDistribution(0, count - 1) for name, count in GENES.items()}
    seconds = []
    for number in range(TRIALS):
        record = trial(number)
        assert record.row is not None
        entry = optuna.trial.create_trial(
            values=[record.accuracy, record.peak_bytes, record.latency_s],
            params=dict(zip(GENES, record.row, strict=True)),
            distributions=space,
            user_attrs={"policy": record.policy},
        )
        start = time.perf_counter()
        study.add_trial(entry)
        seconds.append(time.perf_counter() - start)
    read = optuna.load_study(study_name=study.study_name, storage=f"sqlite:///{path}").trials
    assert [tuple(t.params[name] for name in GENES) for t in read] == [trial(n).row for n in range(TRIALS)]
    return seconds


def main() -> None:
    """Print the median append of both and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        ours = 1e3 * statistics.median(as_attribute(Path(folder, "ours.db")))
        peer = 1e3 * statistics.median(as_parameters(Path(folder, "peer.db")))
    print(f"{len(GENES)} genes, median of {TRIALS} appends")
    print(f"one attribute      {ours:7.1f} ms")
    print(f"a parameter a gene {peer:7.1f} ms   {peer / ours:.1f} x")


if __name__ == "__main__":
    main()
