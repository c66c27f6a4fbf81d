"""A run on the terminal: what is searched, the front so far, and the time left."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..core.text import printable
from ..core.units import format_bytes
from ..devices.latency.caveats import show_time
from ..results.front import Front
from ..results.networks import NETWORKS
from ..results.records import Rescore, TrialRecord
from ..results.rundir import RunDirectory
from ..results.tables import front_table, percent
from ..search.problem import Problem
from . import options


class Terminal:
    """Shows a run as it goes: a bar on a terminal, a line per trial elsewhere. Everything goes to standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._start = time.monotonic()
        self._names: dict[int, str] = {}  # of what is scored again, by number of the trial
        self._networks: list[str] = []
        self._tried = 0

    def prepared(self, problem: Problem, run: RunDirectory, done: Sequence[TrialRecord]) -> None:
        """Say what is searched and where it is kept."""
        limits = f"peak memory at most {format_bytes(problem.limits.peak_bytes or 0)}"
        size, dataset = problem.trace.input_shape[1], problem.dataset
        self._say(
            f"{dataset.name} ({len(dataset.classes)} classes, {len(dataset.train)} training images) "
            f"on {problem.device.name}, {problem.trace.name} at {size} px, batch {problem.batch}, {limits}"
        )
        self._say(f"{len(problem.space)} genes; kept in {run.path}")
        self._networks.append(f"{problem.trace.name} {size}")
        self._wanted = problem.request.trials
        self._tried += sum(record.tried for record in done)
        if done:
            self._say(f"resuming after {len(done)} trials")
        if len(self._networks) == 1:
            self._bar = self._progress.add_task("searching", total=self._wanted)
            self._progress.start()
        self._progress.update(self._bar, completed=self._tried)

    def trial(self, record: TrialRecord, front: Front | None) -> None:
        """Show a finished trial and the front as it stands."""
        self._tried += record.tried
        name = record.method or record.hash[:8]
        if len(self._networks) > 1:
            name = f"{self._networks[record.number % len(self._networks)]}, {name}"
        if front is not None and record.accuracy is not None:
            text = f"{name}: {percent(record.accuracy, record.accuracy_se)}, {format_bytes(record.peak_bytes or 0)}, "
            text += f"{show_time(record.latency_s or 0, record.warnings)} a step"
            summary = f"front {len(front.members)}, hypervolume {front.hypervolume:.3f}"
            self._progress.update(self._bar, description=summary)
        else:
            text, summary = f"{name}: {record.state}: {record.error}", ""
        self._progress.update(self._bar, advance=int(record.tried))
        if self._console.is_terminal:
            self._progress.console.print(printable(text), highlight=False, markup=False)
        else:
            self._say(f"[{self._tried}/{self._wanted}] {text}" + (f" ({summary})" if summary else ""))

    def rescoring(self, number: int, trials: Sequence[TrialRecord]) -> None:
        """Say how many finalists are scored again."""
        self._names = {record.number: record.method or record.hash[:8] for record in trials}
        self._progress.update(self._bar, visible=False)
        self._bar = self._progress.add_task(f"re-scoring, round {number}", total=len(trials))
        self._say(f"re-scoring {len(trials)} finalists on other images (round {number})")

    def rescored(self, rescore: Rescore, front: Front | None) -> None:
        """Show what a finalist was scored again as."""
        self._progress.update(self._bar, advance=1)
        said = rescore.error or percent(rescore.accuracy or 0.0, rescore.accuracy_se)
        self._say(f"{self._names[rescore.trial]} again: {said}")

    def ended(self, reason: str) -> None:
        """Say why the run is over, where it is not that all policies were tried that were asked for."""
        if self._tried < self._wanted or self._names:
            self._say(f"the search ends: {reason}")

    def conclude(self, run: RunDirectory) -> None:
        """Print the front and where things lie."""
        Console().print(front_table(run.front))
        networks = f"{NETWORKS}/, " if run.networks else ""
        options.say(f"{run.path}: front.json, policies/, {networks}pareto.png ({time.monotonic() - self._start:.0f} s)")

    def _say(self, text: str) -> None:
        # Paths and error messages may hold brackets, which are no markup here.
        self._console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
