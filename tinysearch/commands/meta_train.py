"""`tinysearch meta-train`: make a pretrained backbone's features suit tasks of few images."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core.text import printable
from . import options

if TYPE_CHECKING:
    from ..search.meta_training.course import Progress

BACKBONE = click.option(
    "--backbone",
    metavar="NAME",
    default="mobilenetv2-w0.35",
    show_default=True,
    help=f"{options.NAMES}.",
)


@click.command()
@BACKBONE
@options.WEIGHTS
@click.option("--source", required=True, metavar="NAME", help="Data set, or class folders, an archive or .npz of them.")
@options.DATA_DIR
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Weights to write: a .safetensors or .pth file."
)
@options.INPUT_SIZE
@click.option("--episodes", type=int, default=400, show_default=True, help="Tasks to learn from.")
@click.option("--way", type=int, default=10, show_default=True, help="Most classes of a task.")
@click.option("--shot", type=int, default=10, show_default=True, help="Most support images of a class.")
@click.option("--queries", type=int, default=10, show_default=True, help="Query images of a class.")
@click.option(
    "--optimizer",
    metavar="NAME",
    default="adam",
    cls=options.NamedOption,
    names="spaces.optimizers:OPTIMIZERS",
    help="{names}.  [default: adam]",
)
@click.option("--learning-rate", type=float, help="Highest rate.  [default: found by short trainings]")
@click.option(
    "--augmentation", default="shift", help="How images are varied: none, shift, shift+flip.  [default: shift]"
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of what is held out and of the tasks.")
def command(backbone: str, source: str, out: Path, **stated: Any) -> None:
    """Train a backbone on few-shot tasks of a source set before it goes to a device; what was stopped goes on."""
    from ..results.tables import percent
    from ..search.meta_training import meta_train

    done = meta_train(backbone, source, out, **stated, progress=_tell)
    before, kept = done.judgements[0], done.kept
    options.say(
        f"{done.held_out} held out: accuracy {percent(before.accuracy, before.accuracy_se)} before, "
        f"{percent(kept.accuracy, kept.accuracy_se)} after {kept.episode} episodes "
        f"(difference {percent(done.gain, done.gain_se)}); rate {done.learning_rate:g}, {done.seconds:.0f} s"
    )
    if kept.episode == 0:
        options.say("no episode made it better: the weights are as they were")
    options.say(f"{done.path}: use it: tinysearch run --backbone {backbone} --weights {done.path}")


def _tell(progress: "Progress") -> None:
    from ..results.tables import percent

    judged = progress.judgement
    accuracy = f"held-out accuracy {percent(judged.accuracy, judged.accuracy_se)}"
    if progress.trying:
        text = f"trying the rate {progress.learning_rate:g}: {accuracy} after {judged.episode} episodes"
    else:
        text = f"[{judged.episode}/{progress.episodes}] {accuracy}"
    if progress.best is judged and judged.episode:
        text += ", the best so far"
    if progress.seconds_left is not None:
        text += f"; {progress.seconds_left / 60:.1f} min left"
    click.echo(printable(text), err=True)
