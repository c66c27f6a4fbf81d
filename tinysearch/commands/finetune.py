"""`tinysearch finetune`: train a policy of a run in full."""

from pathlib import Path
from typing import Any

import click

from . import options


@click.command()
@options.RUN
@click.option("--policy", default="best", metavar="HASH|best", help="Member of the front.")
@click.option("--max-memory", metavar="BYTES", help="With best: most peak training memory.")
@options.DATA_DIR
@options.MOVED_WEIGHTS
@click.option("--steps", type=int, default=200, help="Optimizer steps.")
@click.option("--test-images", type=int, help="Measure on so many test images only.")
@click.option("--delta", type=click.Path(path_type=Path), help="Keep what training changed in this .safetensors file.")
def command(run_dir: Path, **stated: Any) -> None:
    """Train a policy of a run on the whole training split and measure it on the test split."""
    from .finetuning import finetune_member

    click.echo(finetune_member(run_dir, **stated))
