"""`tinysearch finetune`: train a policy of a run in full."""

from pathlib import Path
from typing import Any

import click

from . import early, options


@click.command()
@options.RUN
@click.option(
    "--policy", default="best", metavar="HASH|best|recommended", help="Member of the front, also by a method's name."
)
@click.option("--max-memory", metavar="BYTES", help="With best: most peak training memory.")
@options.DATA_DIR
@options.MOVED_WEIGHTS
@click.option("--steps", type=int, help="Optimizer steps.  [default: the policy's, or 200]")
@click.option("--learning-rate", type=float, help="Highest rate.  [default: found by short trainings]")
@click.option("--augmentation", default="none", help="How images are varied: none, shift, shift+flip.  [default: none]")
@click.option("--test-images", type=int, help="Measure on so many test images only.")
@click.option("--delta", type=click.Path(path_type=Path), help="Keep what training changed in this .safetensors file.")
def command(run_dir: Path, policy: str, delta: Path | None, **stated: Any) -> None:
    """Train a policy of a run on the whole training split and measure it on the test split."""
    early.member(run_dir, policy)
    early.output(delta)
    early.weights(stated["weights"])
    from ..core.units import format_bytes
    from ..results.tables import percent
    from ..search.finetune import finetune

    result = finetune(run_dir, policy, delta=delta, **stated)
    member = result.member
    assert member is not None
    options.say(
        f"{member.method or member.hash[:8]}: test accuracy {percent(result.accuracy, result.accuracy_se)} after "
        f"{result.steps} steps, {result.seconds:.0f} s; the proxy said {percent(member.accuracy, member.accuracy_se)}"
    )
    if delta is not None:
        sizes = f"{format_bytes(delta.stat().st_size)} (the network: {format_bytes(result.network_bytes)})"
        options.say(f"{delta}: what training changed, {sizes}")
