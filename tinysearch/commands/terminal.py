"""A run on the terminal: what is searched, the front so far, and the time left."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..core.units import format_bytes
from ..devices.latency.caveats import show_time
from ..results.records import TrialRecord
from ..results.rundir import RunDirectory
from ..results.tables import front_table, percent
from ..search.problem import Task, front_of


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

    def prepared(self, task: Task, run: RunDirectory, done: Sequence[TrialRecord]) -> None:
        """Say what is searched and where it is kept."""
        limits = f"peak memory at most {format_bytes(task.limits.peak_bytes or 0)}"
        size = task.trace.input_shape[1]
        self._say(
            f"{task.dataset.name} ({len(task.dataset.classes)} classes, {len(task.dataset.train)} training images) "
            f"on {task.device.name}, {task.trace.name} at {size} px, batch {task.batch}, {limits}"
        )
        self._say(f"{len(task.space)} genes; kept in {run.path}")
        self._task, self._trials = task, list(done)
        tried = sum(record.tried for record in done)
        if done:
            self._say(f"resuming after {len(done)} trials")
        self._bar = self._progress.add_task("searching", total=task.request.trials, completed=tried)
        self._progress.start()

    def trial(self, record: TrialRecord) -> None:
        """Show a finished trial and the front that it is part of."""
        self._trials.append(record)
        name = record.method or record.hash[:8]
        if record.state == "complete" and record.accuracy is not None:
            front = front_of(self._task, self._trials)
            text = f"{name}: {percent(record.accuracy, record.accuracy_se)}, {format_bytes(record.peak_bytes or 0)}, "
            text += f"{show_time(record.latency_s or 0, record.warnings)} a step"
            summary = f"front {len(front.members)}, hypervolume {front.hypervolume:.3f}"
            self._progress.update(self._bar, description=summary)
        else:
            text, summary = f"{name}: {record.state}: {record.error}", ""
        self._progress.update(self._bar, advance=int(record.tried))
        if self._console.is_terminal:
            self._progress.console.print(text, highlight=False, markup=False)
        else:
            tried = sum(trial.tried for trial in self._trials)
            self._say(f"[{tried}/{self._task.request.trials}] {text}" + (f" ({summary})" if summary else ""))

    def conclude(self, run: RunDirectory) -> None:
        """Print the front and where things lie."""
        Console().print(front_table(run.front))
        click.echo(f"{run.path}: front.json, policies/, pareto.png ({time.monotonic() - self._start:.0f} s)")

    def _say(self, text: str) -> None:
        # Paths and error messages may hold brackets, which are no markup here.
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
