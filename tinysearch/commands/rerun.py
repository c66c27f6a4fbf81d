"""`tinysearch rerun`: do a run again, and say what differs."""

from pathlib import Path

import click

from ..core.errors import DifferenceError
from . import options


@click.command()
@options.RUN
@click.option(
    "--out", type=click.Path(path_type=Path), help="New run directory.  [default: the run's name with -rerun]"
)
@options.DATA_DIR
@options.MOVED_WEIGHTS
@options.JOBS
def command(run_dir: Path, out: Path | None, data_dir: Path | None, weights: str | None, jobs: str | None) -> None:
    """Do a run again from its own request, and say what differs: exit code 0 if nothing does, else 10."""
    from ..search.rerun import rerun
    from .terminal import Terminal

    with Terminal() as terminal:
        again = rerun(run_dir, out, data_dir=data_dir, weights=weights, jobs=jobs, observer=terminal)
    for line in again.comparison.lines():
        click.echo(line)
    if not again.comparison.equal:
        raise DifferenceError(f"{again.run.path} is not equal to {run_dir}: what differs is told above")
