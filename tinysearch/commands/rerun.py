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
@options.TRIAL_TIMEOUT
@options.JOBS
def command(run_dir: Path, out: Path | None, **stated: str | Path | None) -> None:
    """Do a run again from its own request, and say what differs: exit code 0 if nothing does, else 10."""
    from ..search.rerun import rerun
    from .terminal import Terminal

    with Terminal() as terminal:
        again = rerun(run_dir, out, observer=terminal, **stated)  # type: ignore[arg-type]
    for line in again.comparison.lines():
        options.say(line)
    if not again.comparison.equal:
        raise DifferenceError(f"{again.run.path} is not equal to {run_dir}: what differs is told above")
