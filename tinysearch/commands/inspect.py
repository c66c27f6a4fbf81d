"""`tinysearch inspect`: one policy layer by layer."""

from pathlib import Path

import click

from . import early, options


@click.command()
@options.BACKBONE
@options.WEIGHTS
@options.INPUT_SIZE
@options.DEVICE
@click.option("--policy", metavar="FILE|METHOD", default="full", help="A policy file, or a method's name.")
@options.CLASSES
@options.BATCH
@click.option("--plan", metavar="FILE", help="Write the memory plan: a .png picture, or .json with every offset.")
@options.ACCOUNTING
@options.FORMAT
def command(
    backbone: str | None,
    weights: str | None,
    input_size: int | None,
    device: str | None,
    policy: str,
    classes: int,
    batch: int | None,
    plan: str | None,
    accounting: str,
    form: str,
) -> None:
    """Show layer by layer what a policy trains, computes and keeps, and where the peak is."""
    early.device(device)
    early.accounting(accounting)
    early.weights(weights)
    if Path(policy).suffix == ".json":
        early.policy_file(policy)
    from ..devices.breakdown import estimate
    from ..devices.inspection import list_layers
    from ..devices.profile import load_device
    from ..results.plots.plan import save_plan
    from ..search.network import load_network
    from ..search.request import Request
    from ..spaces.backbones.choice import named_backbone
    from ..spaces.methods import find
    from ..spaces.policy import UpdatePolicy

    stored = UpdatePolicy.load(policy) if Path(policy).suffix == ".json" else None
    if stored is not None:
        backbone = named_backbone(backbone, stored.backbone, policy)
        input_size = input_size or stored.side
    request = Request.make(device=device, backbone=backbone, weights=weights, input_size=input_size)
    profile = load_device(request.device)
    _, trace = load_network(
        request.backbone, classes=classes, weights=request.weights, input_size=input_size, for_costs=True
    )
    chosen = stored or find(trace, policy)
    cost = estimate(trace, chosen, profile, batch=batch, accounting=accounting)
    listing = list_layers(trace, chosen, cost)
    if plan is not None:
        save_plan(cost.plan, plan, f"{chosen.method or chosen.hash}: {listing.title}")
    options.say(listing.render(form, options.width()), end="")
