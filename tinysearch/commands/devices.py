"""`tinysearch devices`: the device profiles, or one of them with its sources."""

import warnings

import click

from ..core.errors import InputError
from ..core.listing import Listing
from . import options


@click.group(invoke_without_command=True)
@options.FORMAT
@click.pass_context
def command(context: click.Context, form: str) -> None:
    """List the device profiles; `devices show ID` prints one with its sources."""
    if context.invoked_subcommand is None:
        options.say(_listing().render(form, options.width()), end="")


@command.command()
@click.argument("device", metavar="ID")
def show(device: str) -> None:
    """Print a profile: every number with its source, and what is assumed."""
    from ..devices.profile import load_device
    from ..devices.profile.description import describe

    options.say(describe(load_device(device)), end="")


def _listing() -> Listing:
    from ..core.metrics import BYTES
    from ..core.registry import BUILT_IN
    from ..devices.profile import ALIASES, DEVICES, load_device

    rows = []
    for entry in DEVICES.entries():
        try:
            profile = load_device(entry.name)
        except InputError as wrong:
            if entry.origin == BUILT_IN:
                raise
            warnings.warn(f"{wrong}: it is left out", stacklevel=2)
            continue
        error = profile.latency.error
        rows.append(
            (
                profile.name,
                profile.description,
                profile.runtime,
                profile.memory.capacity.value,
                profile.memory.budget.value,
                profile.latency.confidence,
                None if error is None else error.mape,
            )
        )
    columns = ("device", "description", "runtime", "memory", "budget", "confidence", "error_percent")
    show = {"memory": BYTES.show, "budget": BYTES.show, "error_percent": lambda value: f"{value:.1f} %"}
    others = ", ".join(f"{alias} ({name})" for alias, name in ALIASES.items())
    notes = (
        "Budget: what a training step may use. Error: of latency, on what `devices show ID` tells; none: untested.",
        f"Other names: {others}.",
    )
    return Listing("Devices", columns, rows, show, notes)
