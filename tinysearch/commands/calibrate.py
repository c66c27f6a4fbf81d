"""`tinysearch calibrate`: measure this machine, or a board, and write its profile."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.errors import InputError
from ..core.files import write_atomically
from ..core.units import format_bytes, parse_seconds
from . import early, options

if TYPE_CHECKING:
    from ..devices.calibrate.assemble import Calibration

#: Where the profile is written unless the user says otherwise.
OUT = Path("my-device.yaml")
#: Time that a board measures for unless the user says otherwise.
BOARD_SECONDS = 600.0


@click.command()
@options.BACKBONE
@options.INPUT_SIZE
@click.option("--out", type=click.Path(path_type=Path), help="Profile to write.  [default: my-device.yaml]")
@click.option("--batch", type=int, help="Samples of a training step.  [default: 8]")
@click.option(
    "--optimizer",
    metavar="NAME",
    cls=options.NamedOption,
    names="devices.calibrate.standalone:OPTIMIZERS",
    help="{names}.  [default: adam]",
)
@click.option("--threads", type=int, help="Threads of PyTorch.  [default: one a physical core]")
@click.option(
    "--time-budget", metavar="TIME", help="Begin no step after this long, such as 5min.  [default: 135s; a board 10min]"
)
@click.option("--force", is_flag=True, help="Measure on a busy machine too.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the raw measurements in this JSON file.")
@click.option(
    "--jobs", type=click.Path(path_type=Path), help="Measure nothing: write what a board is to measure to this file."
)
@click.option("--board", type=click.Choice(["cpu", "cuda"]), help="With --jobs: where the board computes.")
@click.option("--from", "results", type=click.Path(path_type=Path), help="Make the profile of what a board measured.")
def command(
    *,
    out: Path | None,
    jobs: Path | None,
    results: Path | None,
    keep: Path | None,
    force: bool,
    board: str | None,
    time_budget: str | None,
    **wanted: Any,
) -> None:
    """Measure this machine, or read what a board measured, and write its device profile."""
    measuring, asking = {"keep": keep, "force": force or None}, {"board": board, "time_budget": time_budget, **wanted}
    _refuse_contradictions(jobs, results, out, measuring, asking)
    early.json_file(results)
    from ..devices.calibrate.jobs import Effort, make_jobs
    from ..devices.calibrate.machine import calibrate, from_results

    target = out or OUT
    if results is not None:
        options.say(_summary(from_results(results, target), target))
        return
    usual = Effort().seconds if jobs is None else BOARD_SECONDS
    effort = Effort(seconds=usual if time_budget is None else parse_seconds(time_budget))
    make = partial(make_jobs, **wanted, effort=effort, plain=jobs is not None, device=board or "cpu")
    if jobs is not None:
        options.say(_write_jobs(jobs, make()))
        return
    with _bar() as tell:
        done = calibrate(make, target, force=force, keep=keep, progress=tell)
    options.say(_summary(done, target))


def _refuse_contradictions(
    jobs: Path | None, results: Path | None, out: Path | None, measuring: dict[str, Any], asking: dict[str, Any]
) -> None:
    """Refuse options that have no say in what others ask for.

    Args:
        jobs: As on the command line; so are `results` and `out`.
        results: What a board measured.
        out: The profile to write.
        measuring: Options of measuring here.
        asking: Options that say what to measure.

    Raises:
        InputError: There are such.
    """
    if jobs is not None:
        _refuse("--jobs only writes what a board is to measure", {"from": results, "out": out, **measuring})
    if results is not None:
        _refuse("--from reads what has been measured", measuring | asking)
    if jobs is None:
        _refuse("the board computes where --jobs says", {"board": asking["board"]})


def _refuse(why: str, stated: dict[str, Any]) -> None:
    for name, value in stated.items():
        if value is not None:
            raise InputError(f"{why}: leave out --{name.replace('_', '-')}")


@contextmanager
def _bar() -> Iterator[Callable[[float], None]]:
    """A bar on a terminal; gives what it is told by, a share from 0 to 1."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (BarColumn(bar_width=30), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("measuring"), *columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _write_jobs(path: Path, jobs: dict[str, Any]) -> str:
    from ..devices.calibrate import standalone
    from ..devices.calibrate.machine import check_writable

    check_writable(path)
    write_atomically(path, json.dumps(jobs))
    script = Path(standalone.__file__)
    return (
        f"{path}: copy it and {script} to the board, run there\n"
        f"    python3 {script.name} {path.name} > results.json\n"
        "and make the profile here by\n"
        "    tinysearch calibrate --from results.json --out my-board.yaml"
    )


def _summary(calibration: "Calibration", out: Path) -> str:
    for warning in calibration.warnings:
        warnings.warn(str(warning), stacklevel=2)
    memory, error = calibration.profile.memory, calibration.profile.latency.error
    lines = [f"{out}: {calibration.profile.description}", calibration.profile.runtime]
    if error is not None:
        lines.append(
            f"{error.points} training steps of networks left out of the fit: {error.mape:.1f} % mean error, "
            f"{error.within_10:.0f} % within 10 %, {error.within_20:.0f} % within 20 %"
            + (f", tau {error.tau:.2f}" if error.tau is not None else "")
        )
        if error.repeatability is not None:
            lines.append(f"the same step measured again differs by {error.repeatability:.1f} %")
    if memory.working_set is not None:
        lines.append(
            f"memory of the process: {format_bytes(memory.baseline.value)}, and what it grows by in training with "
            f"{calibration.memory_error:.0f} % mean error"
        )
    lines.append(f"use it: tinysearch run --device {out}")
    return "\n".join(lines)
