"""`tinysearch methods`: the published methods and what they cost."""

import click

from . import early, options


@click.command()
@options.BACKBONE
@options.WEIGHTS
@options.INPUT_SIZE
@options.DEVICE
@options.CLASSES
@options.BATCH
@options.ACCOUNTING
@options.FORMAT
def command(
    backbone: str | None,
    weights: str | None,
    input_size: int | None,
    device: str | None,
    classes: int,
    batch: int | None,
    accounting: str,
    form: str,
) -> None:
    """List the published methods as policies of a backbone, with their costs on a device."""
    early.device(device)
    early.accounting(accounting)
    early.weights(weights)
    from dataclasses import replace

    from ..devices.accountings import ACCOUNTINGS
    from ..devices.inspection import compare
    from ..devices.profile import load_device
    from ..search.network import load_network
    from ..search.request import Request
    from ..spaces.methods import METHODS, named

    request = Request.make(device=device, backbone=backbone, weights=weights, input_size=input_size)
    profile = load_device(request.device)
    _, trace = load_network(
        request.backbone, classes=classes, weights=request.weights, input_size=input_size, for_costs=True
    )
    # Papers compare with baselines that no search begins with.
    policies = named(trace, seeds=ACCOUNTINGS.load(accounting).count is None)
    listing = compare(
        trace, list(policies.values()), {"method": list(policies)}, profile, batch=batch, accounting=accounting
    )
    waiting = ", ".join(name for name, method in METHODS.loaded().items() if method.needs_data)
    listing = replace(listing, notes=(*listing.notes, f"Of these, made of a task's images in every run: {waiting}."))
    options.say(listing.render(form, options.width()), end="")
