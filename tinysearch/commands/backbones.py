"""`tinysearch backbones`: the built-in networks."""

import click

from ..core.listing import Listing
from . import options


@click.command()
@options.FORMAT
def command(form: str) -> None:
    """List the built-in backbones."""
    from ..spaces.backbones import list_backbones

    rows = [(info.name, info.summary, info.input_size, ", ".join(info.weights)) for info in list_backbones()]
    notes = (
        "MobileNets come at any width: mobilenetv2-w0.5. Your own: package.module:function.",
        "Networks of timm and torchvision, where these are installed: timm:NAME, torchvision:NAME.",
    )
    listing = Listing("Backbones", ("backbone", "summary", "input_size", "weights"), rows, notes=notes)
    options.say(listing.render(form, options.width()), end="")
