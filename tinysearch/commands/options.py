"""Options that several verbs have."""

from pathlib import Path

import click

from ..core.listing import FORMS

BACKBONE = click.option("--backbone", metavar="NAME", help="Pretrained network, or package.module:function of yours.")
WEIGHTS = click.option("--weights", metavar="FILE", help="bundled, imagenet, none, or a .pth or .safetensors file.")
MOVED_WEIGHTS = click.option("--weights", metavar="FILE", help="As in the run, if it was a file that has moved.")
INPUT_SIZE = click.option("--input-size", type=int, metavar="PIXELS", help="Side of the images.")
DEVICE = click.option("--device", metavar="ID", help="Device id, or your own profile's file.  [default: rpi4]")
DATASET = click.option("--dataset", metavar="NAME", help="Data set, or class folders.  [default: digits]")
DATA_DIR = click.option("--data-dir", type=click.Path(path_type=Path), help="Where data sets lie.")
ACCOUNTING = click.option(
    "--accounting",
    metavar="NAME",
    default="tinysearch",
    show_default=True,
    help="Whose counting rules: tinysearch, eager, tinytl, mobiletl, tinytrain or sparse-update.",
)
CLASSES = click.option("--classes", type=int, default=10, help="Outputs of the head.")
BATCH = click.option("--batch", type=int, help="Samples of a training step.")
FORMAT = click.option("-f", "--format", "form", type=click.Choice(FORMS), default="table", help="How to print it.")
RUN = click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))


def width() -> int:
    """Columns of the terminal, or 120."""
    import shutil

    return shutil.get_terminal_size((120, 24)).columns
