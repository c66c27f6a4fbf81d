"""`tinysearch inspect`: one policy layer by layer."""

from typing import Any

import click

from . import options


@click.command()
@options.BACKBONE
@options.WEIGHTS
@options.INPUT_SIZE
@options.DEVICE
@click.option("--policy", metavar="FILE|METHOD", default="full", help="A policy file, or a method's name.")
@options.CLASSES
@options.BATCH
@click.option("--plan", metavar="FILE", help="Write the memory plan: a .png picture, or .json with every offset.")
@options.ACCOUNTING
@options.FORMAT
def command(form: str, **stated: Any) -> None:
    """Show layer by layer what a policy trains, computes and keeps, and where the peak is."""
    from .listings import layers

    click.echo(layers(**stated).render(form, options.width()), nl=False)
