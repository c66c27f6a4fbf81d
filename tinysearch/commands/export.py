"""`tinysearch export`: a policy as a program for a device."""

from pathlib import Path
from typing import Any

import click

from . import early, options


@click.command()
@click.argument("source", metavar="RUN|POLICY", type=click.Path(path_type=Path))
@click.option(
    "--to", required=True, metavar="FORMAT", cls=options.NamedOption, names="results.export:EXPORTERS", help="{names}."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to write, new or empty.")
@click.option("--policy", default="best", metavar="HASH|best", help="Of a run: a member, also by a method's name.")
@options.BACKBONE
@options.WEIGHTS
@click.option("--classes", type=int, help="Of a policy's file: outputs of the head.  [default: 10]")
@options.DATA_DIR
@click.option(
    "--device", metavar="ID", help="Device id, or your own profile's file.  [default: the run's, or as FORMAT]"
)
@options.BATCH
@click.option("--optimizer", metavar="NAME", help="Of the program.  [default: the policy's, or the device's]")
@click.option("--learning-rate", type=float, help="What the program begins with.  [default: the policy's]")
@click.option("--name", help="What the program's identifiers begin with.  [default: the backbone's name]")
def command(source: Path, to: str, **stated: Any) -> None:
    """Write the training step of a policy for another runtime: of a RUN's member, or of a POLICY's file."""
    early.exporter(to)
    if source.is_dir():
        early.member(source, stated["policy"])
    else:
        early.policy_file(source)
    early.device(stated["device"])
    early.weights(stated["weights"])
    from ..core.units import format_bytes
    from ..results.export import Manifest
    from ..search.exporting import export_from

    given = {name: value for name, value in stated.items() if value is not None}
    exported = export_from(source, to=to, **given)
    manifest = Manifest.load(exported.files[-1])
    folder = exported.files[-1].parent
    predicted = "".join(f", {name} {format_bytes(size)}" for name, size in manifest.predicted_bytes.items())
    policy = exported.policy
    options.say(f"{folder}: {policy.method or policy.hash[:8]} as {to}, {len(exported.files)} files{predicted}")
