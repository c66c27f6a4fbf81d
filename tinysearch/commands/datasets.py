"""`tinysearch datasets`: the data sets that are known by name."""

import click

from ..core.listing import Listing
from . import options


@click.command()
@options.FORMAT
def command(form: str) -> None:
    """List the data sets that are known by name."""
    from ..search.data import list_datasets

    rows = [(info.name, info.summary, info.origin) for info in list_datasets()]
    notes = ("Any folder or archive of class folders, and any .npz, is a data set too: --dataset PATH.",)
    listing = Listing("Data sets", ("dataset", "summary", "origin"), rows, notes=notes)
    options.say(listing.render(form, options.width()), end="")
