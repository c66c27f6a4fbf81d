"""`tinysearch plot`: the front of a run as a picture."""

from pathlib import Path

import click

from . import options


@click.command()
@options.RUN
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File.  [default: pareto.png of the run]")
def command(run_dir: Path, output: Path | None) -> None:
    """Draw the front of a run."""
    from ..results.rundir import RunDirectory

    options.say(RunDirectory.load(run_dir).plot_pareto(output))
