"""What becomes of searches that are killed, cut, copied, doubled, or find the disk full.

Run from the repository's root, as root for disks that are really full:

    python benchmarks/reliability.py [NAME ...] [--tries N]

Each case ends with the same command as before. Then the front, the trials and what was scored again must equal those of
a search that nobody disturbed, to the last digit (but for times), and no finished trial may have been scored twice.
Every search is a process of its own, forked from one that has imported everything, as a start of Python would take most
of the time.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.backends.backend_agg  # noqa: F401  # before forking
import optuna.storages  # noqa: F401
import torch

import tinysearch as ts
from tinysearch.core.errors import ConflictError, StorageError
from tinysearch.results.front import Front
from tinysearch.results.records import Rescore, TrialRecord
from tinysearch.search.problem import Problem
from tinysearch.search.request import Request
from tinysearch.search.run import run

#: A search of seconds that has it all: rounds, a front, and finalists that are scored again.
SEARCH: dict[str, Any] = {
    "dataset": "digits",
    "input_size": 32,
    "sampler": "nsga2",
    "seed": 5,
    "jobs": 1,
    "proxy": {"shot": 2, "queries": 40, "steps": 1},
}
FILES = ("study.db", "trials.jsonl")


class Teller:
    """An observer that notes in a file which trials were scored, as they are kept."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _note(self, what: str) -> None:
        os.write(self._file, f"{what}\n".encode())

    def prepared(self, problem: Problem, directory: ts.RunDirectory, done: Sequence[TrialRecord]) -> None:
        self._note("ready")

    def trial(self, record: TrialRecord, front: Front | None) -> None:
        self._note(f"trial {record.number}")

    def rescoring(self, number: int, trials: Sequence[TrialRecord]) -> None:
        pass

    def rescored(self, rescore: Rescore, front: Front | None) -> None:
        self._note(f"rescore {rescore.round} {rescore.trial}")

    def ended(self, reason: str) -> None:
        pass


@dataclass(frozen=True)
class Case:
    """One run directory, and what was noted of it.

    Attributes:
        out: The run directory.
        trials: Trials that are asked for.
        beside: Where notes are kept.
        most_bytes: Size that no file may pass, where there is no disk to fill.
    """

    out: Path
    trials: int
    beside: Path
    most_bytes: int | None = None

    @property
    def notes(self) -> Path:
        """What was scored, a line each."""
        return self.beside / "notes"

    @property
    def told(self) -> Path:
        """The error of the last session."""
        return self.beside / "told"

    def start(self) -> int:
        """Begin or resume the search in a process; gives its id."""
        if process := os.fork():
            return process
        code = 1
        try:
            warnings.simplefilter("ignore")
            if self.most_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.most_bytes, self.most_bytes))
            run(out=self.out, trials=self.trials, observer=Teller(self.notes), **SEARCH)
            code = 0
        except ts.TinySearchError as error:
            code = error.exit_code
            with suppress(OSError):
                self.told.write_text(str(error))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def finish(self) -> int:
        """Begin or resume the search and wait for its end; gives the exit code."""
        return wait(self.start())

    def scored(self) -> Counter[str]:
        """How many times each thing was scored and kept."""
        return Counter(self.notes.read_text().splitlines() if self.notes.exists() else ())

    def outcome(self) -> tuple[object, ...]:
        """What the search came to, but for times."""
        found = ts.load_run(self.out)
        trials = [replace(trial, seconds=0.0, started="") for trial in found.trials()]
        again = [replace(rescore, seconds=0.0) for rescore in found.rescores()]
        return (self.out / "front.json").read_bytes(), trials, again

    def complaint(self, reference: "Case") -> str:
        """What is wrong with a search that was brought to its end; empty where nothing is."""
        if self.outcome() != reference.outcome():
            return "the outcome is another one"
        with sqlite3.connect(self.out / "study.db") as database:
            states = dict(database.execute("SELECT state, count(*) FROM trials GROUP BY state").fetchall())
        database.close()
        if set(states) - {"COMPLETE", "PRUNED", "FAIL"} or sum(states.values()) != len(ts.load_run(self.out).trials()):
            return f"the study has trials of states {states}"
        if left := [file.name for file in self.out.rglob(".unfinished-*")]:
            return f"{left[0]} is left"
        return ""

    def twice(self) -> str:
        """What was scored twice; empty where nothing was."""
        again = [what for what, count in self.scored().items() if count > 1 and what != "ready"]
        return f"scored twice: {', '.join(again)}" if again else ""


def wait(process: int) -> int:
    """The exit code of a process that has ended; negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


class Bench:
    """A folder with an undisturbed search, and how long that took.

    Args:
        folder: Where all is done.
        trials: Trials of a search.
    """

    def __init__(self, folder: Path, trials: int) -> None:
        self.folder, self.trials = folder, trials
        self.reference = self.case("reference")
        start = time.perf_counter()
        process = self.reference.start()
        while "ready" not in self.reference.scored():
            time.sleep(0.01)
        self.load_s = time.perf_counter() - start
        assert wait(process) == 0, self.reference.told.read_text()
        self.work_s = time.perf_counter() - start - self.load_s
        found = ts.load_run(self.reference.out)
        print(
            f"undisturbed: {len(found.trials())} trials, {len(found.rescores())} scored again, "
            f"{len(found.front.members)} members, {self.load_s:.1f} s to load and {self.work_s:.1f} s of work"
        )

    def case(self, name: str, **more: Any) -> Case:
        """A new case."""
        beside = self.folder / name
        beside.mkdir()
        return Case(**{"out": beside / "run", "trials": self.trials, "beside": beside} | more)

    def copied(self, name: str) -> Case:
        """A case that begins with a copy of the undisturbed run."""
        case = self.case(name)
        shutil.copytree(self.reference.out, case.out)
        return case


def kills(bench: Bench, tries: int, chance: random.Random) -> str:
    """SIGKILL at random moments, from the start of the process on, until the search is through; then another search."""
    done = searches = 0
    kept: list[int] = []
    while done < tries:
        case = bench.case(f"kills-{searches}")
        # Between kills, so much work on average that the search takes as many as were asked for.
        mean = bench.work_s / tries
        longest = bench.load_s + mean + (mean**2 + 2 * mean * bench.load_s) ** 0.5
        while done < tries:
            process = case.start()
            time.sleep(chance.uniform(0, longest))
            over, status = os.waitpid(process, os.WNOHANG)
            if over:
                assert status == 0, case.told.read_text()
                break
            os.kill(process, signal.SIGKILL)
            wait(process)
            done += 1
            with suppress(ts.TinySearchError):
                kept.append(len(ts.load_run(case.out).trials()))
        assert case.finish() == 0
        if complaint := case.complaint(bench.reference) or case.twice():
            raise AssertionError(complaint)
        searches += 1
    moments = len(set(kept))
    return f"{done} kills over {searches} search(es), with {moments} different numbers of finished trials on disk"


def tails(bench: Bench, tries: int, chance: random.Random) -> str:
    """Either file, or both, of a finished run cut at a random place, or overwritten from there on."""
    what: Counter[str] = Counter()
    again = 0
    for attempt in range(tries):
        case = bench.copied(f"tails-{attempt}")
        victims = chance.choice([FILES[:1], FILES[1:], FILES])
        for name in victims:
            file = case.out / name
            size, place = file.stat().st_size, chance.randrange(file.stat().st_size)
            os.truncate(file, place)
            if chance.random() < 0.4:
                with file.open("ab") as stream:
                    stream.write(chance.randbytes(size - place))
        if "study.db" in victims and chance.random() < 0.5:
            (case.out / "study.db-journal").write_bytes(chance.randbytes(chance.randrange(5000)))
        what[" and ".join(victims)] += 1
        code = case.finish()
        if code != 0:
            # Of neither file so much as its beginning is left: told, and all is to be done again.
            message = case.told.read_text()
            assert victims == FILES, message
            assert "delete them to begin again" in message, message
            what["neither readable"] += 1
            for name in FILES:
                (case.out / name).unlink()
            assert case.finish() == 0
        if complaint := case.complaint(bench.reference) or case.twice():
            raise AssertionError(f"{victims}: {complaint}")
        scored = sum(count for told, count in case.scored().items() if told != "ready")
        if victims != FILES and scored:
            raise AssertionError(f"{victims}: {scored} scored again, though one file was whole")
        again += scored
    counts = ", ".join(f"{name}: {count}" for name, count in what.items())
    return (
        f"{tries} damaged runs ({counts}); nothing scored again where one was whole, {again} things where both were cut"
    )


def disks(bench: Bench, tries: int, chance: random.Random) -> str:
    """A disk that is full at some moment; then there is room again."""
    whole = sum(file.stat().st_size for file in bench.reference.out.rglob("*") if file.is_file())
    largest = max(file.stat().st_size for file in bench.reference.out.rglob("*"))
    root = os.geteuid() == 0
    codes: Counter[int] = Counter()
    kept = 0
    for attempt in range(tries):
        case = bench.case(f"disks-{attempt}")
        disk = case.beside / "disk"
        disk.mkdir()
        most = chance.randrange(4096, whole if root else largest)
        full = replace(case, out=disk / "run", most_bytes=None if root else most)
        if root:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={most}", "tmpfs", disk], check=True)
        try:
            code = full.finish()
            codes[code] += 1
            told = full.told.read_text() if code else "finished trials are kept"
            assert code in (0, StorageError.exit_code), (code, told)
            assert "finished trials are kept" in told or "cannot keep a run there" in told, told
            assert "\n" not in told
            if root:
                subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            finished: set[str] = set()
            with suppress(ts.TinySearchError):
                finished = {f"trial {trial.number}" for trial in ts.load_run(full.out).trials()}
            assert {told for told in full.scored() if told.startswith("trial")} <= finished
            kept += len(finished)
            again = replace(full, most_bytes=None)
            assert again.finish() == 0, again.told.read_text()
            complaint = again.complaint(bench.reference) or again.twice()
        finally:
            if root:
                subprocess.run(["umount", disk], check=True)
        if complaint:
            raise AssertionError(f"{most} bytes: {complaint}")
    way = "a tmpfs of random size" if root else "files limited in size"
    return f"{tries} full disks ({way}): exit codes {dict(codes)}, {kept} finished trials were there when room was made"


def doubles(bench: Bench, tries: int, chance: random.Random) -> str:
    """Two processes started on one folder at nearly the same time."""
    codes: Counter[tuple[int, ...]] = Counter()
    for attempt in range(tries):
        case = bench.case(f"doubles-{attempt}")
        one = case.start()
        time.sleep(chance.choice([0.0, chance.uniform(0, bench.load_s + bench.work_s / 2)]))
        other = case.start()
        ended = tuple(sorted(wait(process) for process in (one, other)))
        codes[ended] += 1
        if ended != (0, ConflictError.exit_code):
            raise AssertionError(f"exit codes {ended}")
        assert "another process is writing this run" in case.told.read_text()
        if complaint := case.complaint(bench.reference) or case.twice():
            raise AssertionError(complaint)
    return f"{tries} doubled processes: exit codes {dict(codes)}"


def copies(bench: Bench, tries: int, chance: random.Random) -> str:
    """A run copied with `cp -r` while it is written; the copy is read, and then gone on with."""
    kept: Counter[int] = Counter()
    for attempt in range(tries):
        case, copy = bench.case(f"copies-{attempt}"), bench.case(f"copies-{attempt}-copy")
        process = case.start()
        while "ready" not in case.scored():
            time.sleep(0.01)
        time.sleep(chance.uniform(0, bench.work_s))
        subprocess.run(["cp", "-r", case.out, copy.out], check=True, stderr=subprocess.DEVNULL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            finished = len(ts.load_run(copy.out).trials())
        kept[finished] += 1
        os.kill(process, signal.SIGKILL)
        wait(process)
        assert copy.finish() == 0, copy.told.read_text()
        if complaint := copy.complaint(bench.reference) or copy.twice():
            raise AssertionError(complaint)
        scored = sum(told.startswith("trial") for told in copy.scored())
        assert scored + finished == len(ts.load_run(copy.out).trials()), (scored, finished)
    return f"{tries} copies of a run that was written, with {min(kept)} to {max(kept)} finished trials"


#: The cases, and how often each is tried.
CASES: dict[str, tuple[Callable[[Bench, int, random.Random], str], int]] = {
    "kills": (kills, 50),
    "tails": (tails, 20),
    "disks": (disks, 20),
    "doubles": (doubles, 20),
    "copies": (copies, 10),
}


def main() -> None:
    """Try what is asked for, or all; ends with the first thing that is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all")
    parser.add_argument("--tries", type=int, help="how often each is tried")
    parser.add_argument("--trials", type=int, default=12, help="trials of a search")
    parser.add_argument("--seed", type=int, default=0, help="of what is left to chance")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    # For what it imports.
    Problem.of(Request.make(**{name: value for name, value in SEARCH.items() if name != "jobs"}))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), asked.trials)
        for name in asked.names or CASES:
            case, tries = CASES[name]
            start = time.perf_counter()
            said = case(bench, asked.tries or tries, random.Random(asked.seed))
            print(f"{name}: {said} ({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
