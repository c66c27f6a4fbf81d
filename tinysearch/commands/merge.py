"""`tinysearch merge`: a delta put back into its backbone."""

from pathlib import Path
from typing import Any

import click

from . import options


@click.command()
@click.argument("delta", metavar="DELTA", type=click.Path(path_type=Path))
@options.BACKBONE
@options.WEIGHTS
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .safetensors file to write.")
def command(delta: Path, **stated: Any) -> None:
    """Write the weights of the plain network that a delta gives with its backbone."""
    from .finetuning import merge_delta

    click.echo(merge_delta(delta, **stated))
