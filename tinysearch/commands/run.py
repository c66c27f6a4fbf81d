"""`tinysearch run`: search policies for a device and a data set."""

from pathlib import Path
from typing import Any

import click

from ..core.errors import InputError
from . import early, options


def _read_config(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    """Take the options of a YAML file for defaults."""
    if value is None:
        return
    from ..core.files import read_text
    from ..core.yaml_text import parse_yaml

    content = parse_yaml(read_text(value), str(value)).values
    names = {p.name for p in context.command.params} - {parameter.name}
    if not isinstance(content, dict):
        raise InputError(f"{value}: options must be written as `name: value`, one a line")
    stated = {str(key).replace("-", "_"): entry for key, entry in content.items()}
    if unknown := sorted(set(stated) - names):
        raise InputError(f"{value}: no option named {unknown[0]}: there are {', '.join(sorted(n for n in names if n))}")
    if nested := [key for key, entry in stated.items() if isinstance(entry, dict | list)]:
        raise InputError(f"{value}: {nested[0]} must be a single value, not a {type(stated[nested[0]]).__name__}")
    context.default_map = {**(context.default_map or {}), **stated}


@click.command()
@options.DEVICE
@options.DATASET
@options.DATA_DIR
@click.option(
    "--backbone",
    metavar="NAME,...",
    help=f"{options.NAMES}; several, with commas, are one search.",
)
@click.option(
    "--weights",
    metavar="FILE",
    help="bundled, imagenet, none, or a .pth or .safetensors file; of several backbones: NAME=FILE,...",
)
@click.option("--input-size", metavar="PIXELS,...", help="Side of the images; several, with commas, are one search.")
@click.option("--trials", type=int, help="Policies to score.  [default: 30]")
@click.option("--round-size", type=int, help="Policies proposed together, and so scored at once at most.  [default: 4]")
@click.option(
    "--rescore", type=int, help="Rounds at most in which finalists are scored again on other images.  [default: 2]"
)
@click.option("--time-budget", metavar="TIME", help="Begin no round after this long, such as 10min.")
@options.TRIAL_TIMEOUT
@click.option("--seed", type=int, help="Seed of episodes and search.  [default: 0]")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run directory.  [default: a name from the request in runs/]"
)
@click.option(
    "--sampler",
    metavar="NAME",
    cls=options.NamedOption,
    names="search.samplers:SAMPLERS",
    help="{names}.  [default: auto]",
)
@click.option(
    "--screen",
    metavar="NAME",
    cls=options.NamedOption,
    names="search.screens:SCREENS",
    help="What auto ranks all policies by: {names}.  [default: tangent]",
)
@click.option("--compare", is_flag=True, default=None, help="Score all published methods too.")
@click.option(
    "--proxy",
    metavar="NAME",
    cls=options.NamedOption,
    names="search.proxies:PROXIES",
    help="How accuracy is judged: {names}.  [default: few-shot]",
)
@click.option("--shot", type=int, help="Support images a class of an episode.")
@click.option("--queries", type=int, help="Query images of an episode.")
@click.option("--episodes", type=int, help="Episodes that every policy is tried on.")
@click.option("--steps", type=int, help="Steps of one fine-tuning in an episode.")
@click.option("--max-memory", metavar="BYTES", help="Most peak training memory, such as 256KiB.")
@click.option("--max-latency", metavar="TIME", help="Longest training step, such as 800ms.")
@click.option("--max-energy", metavar="ENERGY", help="Most energy of a training step, such as 2J.")
@click.option("--batch", type=int, help="Samples of a training step on the device.")
@click.option("--retry-failed", is_flag=True, default=None, help="Try policies again that failed, before all else.")
@options.JOBS
@click.option(
    "--ray",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="local",
    help="Score by Ray Tune: on this machine, or on the cluster of an address such as auto.",
)
@click.option("--cpus-per-trial", type=float, help="Processors that Ray keeps free for each policy.  [default: 1]")
@click.option("--gpus-per-trial", type=float, help="Graphics processors likewise.  [default: 0]")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    callback=_read_config,
    is_eager=True,
    expose_value=False,
    help="YAML file of these options.",
)
def command(**stated: Any) -> None:
    """Search policies for a device and a data set; the same command resumes."""
    settings = {
        "name": stated.pop("proxy"),
        **{key: stated.pop(key) for key in ("shot", "queries", "episodes", "steps")},
    }
    proxy = {key: value for key, value in settings.items() if value is not None}
    early.request(stated | {"proxy": proxy or None})
    from ..search.run import run
    from .terminal import Terminal

    with Terminal() as terminal:
        finished = run(**stated, proxy=proxy or None, observer=terminal)
    terminal.conclude(finished)
