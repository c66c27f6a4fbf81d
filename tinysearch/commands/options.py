"""Options that several verbs have."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ..core.listing import FORMS
from ..core.text import printable


class NamedOption(click.Option):
    """An option that takes one of several names, which its help tells.

    The names are looked up when the help is printed: those of a registry cost an import and a look at what is
    installed, which no other command must wait for.

    Args:
        names: Where the names lie, such as "search.samplers:SAMPLERS".
    """

    def __init__(self, *arguments: Any, names: str, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._names = names

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option and its help, with the names in place of "{names}"."""
        stated = self.help or ""
        module, _, attribute = self._names.partition(":")
        names: Iterable[str] = getattr(import_module(f"..{module}", __package__), attribute)
        self.help = stated.format(names=join_names(names))
        try:
            return super().get_help_record(ctx)
        finally:
            self.help = stated


def join_names(names: Iterable[str]) -> str:
    """Names for a help text.

    Example:
        >>> join_names(["nsga2", "tpe", "random"])
        'nsga2, tpe or random'
    """
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


#: What names a backbone, for help texts.
NAMES = "Pretrained network, timm:NAME, torchvision:NAME, or package.module:function of yours"
BACKBONE = click.option("--backbone", metavar="NAME", help=f"{NAMES}.")
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
    cls=NamedOption,
    names="devices.accountings:ACCOUNTINGS",
    help="Whose counting rules: {names}.",
)
CLASSES = click.option("--classes", type=int, default=10, help="Outputs of the head.")
BATCH = click.option("--batch", type=int, help="Samples of a training step.")
FORMAT = click.option("-f", "--format", "form", type=click.Choice(FORMS), default="table", help="How to print it.")
TRIAL_TIMEOUT = click.option(
    "--trial-timeout", metavar="TIME", help="A policy that takes longer to score has failed, such as 5min."
)
JOBS = click.option(
    "--jobs", metavar="N", help="Policies scored at once, or auto: one a processor, at most a round.  [default: auto]"
)
RUN = click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))


def width() -> int:
    """Columns of the terminal, or 120."""
    import shutil

    return shutil.get_terminal_size((120, 24)).columns


def say(text: object, *, end: str = "\n") -> None:
    """Print to standard output what may hold names that others have given."""
    click.echo(printable(str(text), lines=True) + end, nl=False)
