"""`tinysearch methods`: the published methods and what they cost."""

from typing import Any

import click

from . import options


@click.command()
@options.BACKBONE
@options.WEIGHTS
@options.INPUT_SIZE
@options.DEVICE
@options.CLASSES
@options.BATCH
@options.ACCOUNTING
@options.FORMAT
def command(form: str, **stated: Any) -> None:
    """List the published methods as policies of a backbone, with their costs on a device."""
    from .listings import methods

    click.echo(methods(**stated).render(form, options.width()), nl=False)
