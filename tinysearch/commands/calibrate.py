"""`tinysearch calibrate`: measure this machine, or a board, and write its profile."""

from pathlib import Path
from typing import Any

import click

from . import options


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
def command(**stated: Any) -> None:
    """Measure this machine, or read what a board measured, and write its device profile."""
    from .calibrating import calibrate_device

    click.echo(calibrate_device(**stated))
