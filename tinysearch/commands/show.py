"""`tinysearch show`: the front of a run as text."""

from pathlib import Path

import click

from . import early, options


@click.command()
@options.RUN
@options.ACCOUNTING
@options.DATA_DIR
@options.FORMAT
def command(run_dir: Path, accounting: str, data_dir: Path | None, form: str) -> None:
    """Print the front of a run, by the run's own costs or by another accounting."""
    if accounting != "tinysearch":
        early.accounting(accounting)
        early.member(run_dir, "all")
        from ..search.accounts import count_front

        options.say(count_front(run_dir, accounting, data_dir).render(form, options.width()), end="")
        return
    from ..results.rundir import RunDirectory
    from ..results.tables import render

    options.say(render(RunDirectory.load(run_dir).front, form, width=options.width()), end="")
