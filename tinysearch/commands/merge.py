"""`tinysearch merge`: a delta put back into its backbone."""

from pathlib import Path
from typing import Any

import click

from . import early, options


@click.command()
@click.argument("delta", metavar="DELTA", type=click.Path(path_type=Path))
@options.BACKBONE
@options.WEIGHTS
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .safetensors file to write.")
def command(delta: Path, **stated: Any) -> None:
    """Write the weights of the plain network that a delta gives with its backbone."""
    early.delta(delta)
    early.output(stated["out"])
    early.weights(stated["weights"])
    from ..core.units import format_bytes
    from ..spaces.delta.weights import merge_file

    merged = merge_file(delta, **stated)
    size = format_bytes(merged.path.stat().st_size)
    if merged.plain:
        use = "--weights takes it"
    else:
        lites = len(merged.policy.lite_residuals)
        use = f"with {lites} lite residual modules, which --weights does not take: load it by ts.merge"
    options.say(f"{merged.path}: {merged.policy.backbone}, {merged.classes} classes, {size}; {use}")
