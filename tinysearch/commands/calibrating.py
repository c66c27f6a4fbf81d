"""What `tinysearch calibrate` does and prints."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..core.errors import InputError
from ..core.files import write_atomically
from ..core.units import format_bytes, parse_seconds
from ..devices.calibrate import standalone
from ..devices.calibrate.assemble import Calibration
from ..devices.calibrate.jobs import Plan, make_jobs
from ..devices.calibrate.machine import calibrate, check_writable, from_results

#: Where the profile is written unless the user says otherwise.
OUT = Path("my-device.yaml")
#: Time that a board measures for unless the user says otherwise.
BOARD_SECONDS = 600.0


def calibrate_device(
    *,
    out: Path | None,
    jobs: Path | None,
    results: Path | None,
    keep: Path | None,
    force: bool,
    board: str | None,
    time_budget: str | None,
    **wanted: Any,
) -> str:
    """Measure, or write the jobs of a board, or read its results; the text to print.

    Raises:
        InputError: Options contradict each other, or one is wrong.
        BusyError: The machine is busy and `force` is not given.
    """
    measuring = {"--keep": keep, "--force": force or None}
    asking = {"--board": board, "--time-budget": time_budget} | {
        f"--{n.replace('_', '-')}": v for n, v in wanted.items()
    }
    if jobs is not None:
        _refuse("--jobs only writes what a board is to measure", {"--from": results, "--out": out, **measuring})
    if results is not None:
        _refuse("--from reads what has been measured", measuring | asking)
        return _summary(from_results(results, out or OUT), out or OUT)
    if jobs is None:
        _refuse("the board computes where --jobs says", {"--board": board})
    usual = Plan().seconds if jobs is None else BOARD_SECONDS
    plan = Plan(seconds=usual if time_budget is None else parse_seconds(time_budget))
    make = partial(make_jobs, **wanted, plan=plan, plain=jobs is not None, device=board or "cpu")
    if jobs is not None:
        return _write_jobs(jobs, make())
    console = Console(stderr=True)
    columns = (BarColumn(bar_width=30), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("measuring"), *columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0)
        done = calibrate(
            make, out or OUT, force=force, keep=keep, progress=lambda share: bar.update(task, completed=share)
        )
    return _summary(done, out or OUT)


def _refuse(why: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{why}: leave out {name}")


def _write_jobs(path: Path, jobs: dict[str, Any]) -> str:
    check_writable(path)
    write_atomically(path, json.dumps(jobs))
    script = Path(standalone.__file__)
    return (
        f"{path}: copy it and {script} to the board, run there\n"
        f"    python3 {script.name} {path.name} > results.json\n"
        "and make the profile here by\n"
        "    tinysearch calibrate --from results.json --out my-board.yaml"
    )


def _summary(calibration: Calibration, out: Path) -> str:
    for warning in calibration.warnings:
        click.echo(f"tinysearch: warning: {warning}", err=True)
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
