"""`tinysearch verify`: what policies of a run really keep, beside what was predicted."""

from pathlib import Path
from typing import Any

import click

from ..core.errors import TinySearchError
from . import early, options


@click.command()
@options.RUN
@click.option("--policy", default="all", metavar="HASH|best|all", help="Members of the front.  [default: all]")
@click.option("--batch", type=int, help="Samples of a training step.  [default: the run's]")
@click.option("--tensors", is_flag=True, help="List what one policy keeps, tensor by tensor.")
@options.DATA_DIR
@options.MOVED_WEIGHTS
@options.FORMAT
def command(run_dir: Path, form: str, tensors: bool, policy: str, **stated: Any) -> None:
    """Measure what policies of a run really keep for the backward pass, beside what was predicted."""
    early.member(run_dir, policy)
    early.weights(stated["weights"])
    from ..results.rundir import RunDirectory
    from ..search.verify import chosen_members, require_one, verify

    run = RunDirectory.load(run_dir)
    if tensors:
        require_one(chosen_members(run, policy))  # before minutes of measuring
    result = verify(run, policy, **stated)
    listing = result.tensors() if tensors else result.listing()
    options.say(listing.render(form, options.width()), end="")
    if wrong := [each.name for each in result.wrong]:
        raise TinySearchError(f"{len(wrong)} policies keep other bytes here than predicted: {', '.join(wrong)}")
