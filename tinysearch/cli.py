"""The command line: options in, one call of the library, text out."""

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from . import __version__
from .core.errors import InputError, TinySearchError

#: Exit code after Ctrl-C, as shells have it.
INTERRUPTED = 130

FORMATS = click.Choice(["table", "json", "yaml", "csv"])
BACKBONE = click.option("--backbone", metavar="NAME", help="Pretrained network, or package.module:function of yours.")
WEIGHTS = click.option("--weights", metavar="FILE", help="bundled, imagenet, none, or a .pth or .safetensors file.")
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
FORMAT = click.option("-f", "--format", "form", type=FORMATS, default="table", help="How to print it.")
RUN = click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))


def _read_config(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is None:
        return
    import yaml

    from .core.files import read_text

    try:
        content = yaml.safe_load(read_text(value))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(f"{value}: no YAML" + (f" at line {mark.line + 1}" if mark else "")) from error
    names = {p.name for p in context.command.params} - {parameter.name}
    if not isinstance(content, dict):
        raise InputError(f"{value}: options must be written as `name: value`, one a line")
    options = {str(key).replace("-", "_"): entry for key, entry in content.items()}
    if unknown := sorted(set(options) - names):
        raise InputError(f"{value}: no option named {unknown[0]}: there are {', '.join(sorted(n for n in names if n))}")
    if nested := [key for key, entry in options.items() if isinstance(entry, dict | list)]:
        raise InputError(f"{value}: {nested[0]} must be a single value, not a {type(options[nested[0]]).__name__}")
    context.default_map = {**(context.default_map or {}), **options}


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, invoke_without_command=True
)
@click.version_option(__version__, prog_name="tinysearch")
@click.pass_context
def cli(context: click.Context) -> None:
    """Search update policies for on-device transfer learning: what to train, and what it costs there."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@DEVICE
@DATASET
@DATA_DIR
@BACKBONE
@WEIGHTS
@INPUT_SIZE
@click.option("--trials", type=int, help="Policies to score.  [default: 30]")
@click.option("--time-budget", metavar="TIME", help="Begin no round of trials after this long, such as 10min.")
@click.option("--seed", type=int, help="Seed of episodes and search.  [default: 0]")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run directory.  [default: a name from the request in runs/]"
)
@click.option("--sampler", metavar="NAME", help="nsga2, tpe or random.  [default: nsga2]")
@click.option("--proxy", metavar="NAME", help="How accuracy is judged.  [default: few-shot]")
@click.option("--shot", type=int, help="Support images a class of an episode.")
@click.option("--queries", type=int, help="Query images of an episode.")
@click.option("--episodes", type=int, help="Episodes that every policy is tried on.")
@click.option("--steps", type=int, help="Steps of one fine-tuning in an episode.")
@click.option("--max-memory", metavar="BYTES", help="Most peak training memory, such as 256KiB.")
@click.option("--max-latency", metavar="TIME", help="Longest training step, such as 800ms.")
@click.option("--max-energy", metavar="ENERGY", help="Most energy of a training step, such as 2J.")
@click.option("--batch", type=int, help="Samples of a training step on the device.")
@click.option("--jobs", type=int, help="Policies scored at once.  [default: processors, at most 4]")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    callback=_read_config,
    is_eager=True,
    expose_value=False,
    help="YAML file of these options.",
)
def run(**options: Any) -> None:
    """Search policies for a device and a data set; the same command resumes."""
    from .commands.terminal import Terminal
    from .search.run import run as search

    proxy = {
        "name": options.pop("proxy"),
        **{key: options.pop(key) for key in ("shot", "queries", "episodes", "steps")},
    }
    stated = {key: value for key, value in proxy.items() if value is not None}
    with Terminal() as terminal:
        finished = search(**options, proxy=stated or None, observer=terminal)
    terminal.conclude(finished)


@cli.command()
@RUN
@ACCOUNTING
@DATA_DIR
@FORMAT
def show(run_dir: Path, accounting: str, data_dir: Path | None, form: Any) -> None:
    """Print the front of a run, by the run's own costs or by another accounting."""
    if accounting != "tinysearch":
        from .commands.accounts import of_run

        click.echo(of_run(run_dir, accounting, data_dir).render(form, _width()), nl=False)
        return
    from .results.rundir import RunDirectory
    from .results.tables import render

    click.echo(render(RunDirectory.load(run_dir).front, form, width=_width()), nl=False)


@cli.command()
@RUN
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File.  [default: pareto.png of the run]")
def plot(run_dir: Path, output: Path | None) -> None:
    """Draw the front of a run."""
    from .results.rundir import RunDirectory

    click.echo(RunDirectory.load(run_dir).plot_pareto(output))


@cli.group(invoke_without_command=True)
@FORMAT
@click.pass_context
def devices(context: click.Context, form: Any) -> None:
    """List the device profiles; `devices show ID` prints one with its sources."""
    if context.invoked_subcommand is None:
        from .commands.listings import devices as listing

        click.echo(listing().render(form, _width()), nl=False)


@devices.command("show")
@click.argument("device", metavar="ID")
def devices_show(device: str) -> None:
    """Print a profile: every number with its source, and what is assumed."""
    from .commands.device_text import device_text

    click.echo(device_text(device), nl=False)


@cli.command()
@FORMAT
def backbones(form: Any) -> None:
    """List the built-in backbones."""
    from .commands.listings import backbones as listing

    click.echo(listing().render(form, _width()), nl=False)


@cli.command()
@FORMAT
def datasets(form: Any) -> None:
    """List the data sets that are known by name."""
    from .commands.listings import datasets as listing

    click.echo(listing().render(form, _width()), nl=False)


@cli.command()
@BACKBONE
@WEIGHTS
@INPUT_SIZE
@DEVICE
@CLASSES
@click.option("--batch", type=int, help="Samples of a training step.")
@ACCOUNTING
@FORMAT
def methods(form: Any, **options: Any) -> None:
    """List the published methods as policies of a backbone, with their costs on a device."""
    from .commands.listings import methods as listing

    click.echo(listing(**options).render(form, _width()), nl=False)


@cli.command()
@BACKBONE
@WEIGHTS
@INPUT_SIZE
@DEVICE
@click.option("--policy", metavar="FILE|METHOD", default="full", help="A policy file, or a method's name.")
@CLASSES
@click.option("--batch", type=int, help="Samples of a training step.")
@click.option("--plan", metavar="FILE", help="Write the memory plan: a .png picture, or .json with every offset.")
@ACCOUNTING
@FORMAT
def inspect(form: Any, **options: Any) -> None:
    """Show layer by layer what a policy trains, computes and keeps, and where the peak is."""
    from .commands.listings import layers as listing

    click.echo(listing(**options).render(form, _width()), nl=False)


@cli.command()
@RUN
@click.option("--policy", default="best", metavar="HASH|best", help="Member of the front.")
@click.option("--max-memory", metavar="BYTES", help="With best: most peak training memory.")
@DATA_DIR
@click.option("--weights", metavar="FILE", help="As in the run, if it was a file that has moved.")
@click.option("--steps", type=int, default=200, help="Optimizer steps.")
@click.option("--test-images", type=int, help="Measure on so many test images only.")
@click.option("--delta", type=click.Path(path_type=Path), help="Keep what training changed in this .safetensors file.")
def finetune(run_dir: Path, **options: Any) -> None:
    """Train a policy of a run on the whole training split and measure it on the test split."""
    from .commands.finetuning import finetune_member

    click.echo(finetune_member(run_dir, **options))


@cli.command()
@click.argument("delta", metavar="DELTA", type=click.Path(path_type=Path))
@BACKBONE
@WEIGHTS
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The .safetensors file to write.")
def merge(delta: Path, **options: Any) -> None:
    """Write the weights of the plain network that a delta gives with its backbone."""
    from .commands.finetuning import merge_delta

    click.echo(merge_delta(delta, **options))


@cli.command()
@RUN
@click.option("--policy", default="all", metavar="HASH|best|all", help="Members of the front.  [default: all]")
@click.option("--batch", type=int, help="Samples of a training step.  [default: the run's]")
@click.option("--tensors", is_flag=True, help="List what one policy keeps, tensor by tensor.")
@DATA_DIR
@click.option("--weights", metavar="FILE", help="As in the run, if it was a file that has moved.")
@FORMAT
def verify(run_dir: Path, form: Any, **options: Any) -> None:
    """Measure what policies of a run really keep for the backward pass, beside what was predicted."""
    from .commands.verifying import verify as measured

    listing, wrong = measured(run_dir, **options)
    click.echo(listing.render(form, _width()), nl=False)
    if wrong:
        raise TinySearchError(f"{len(wrong)} policies keep other bytes here than predicted: {', '.join(wrong)}")


@cli.command()
@BACKBONE
@INPUT_SIZE
@click.option("--out", type=click.Path(path_type=Path), help="Profile to write.  [default: my-device.yaml]")
@click.option("--batch", type=int, help="Samples of a training step.  [default: 8]")
@click.option("--optimizer", metavar="NAME", help="adam, sgd or sgd-momentum.  [default: adam]")
@click.option("--threads", type=int, help="Threads of PyTorch.  [default: one a physical core]")
@click.option(
    "--time-budget", metavar="TIME", help="Begin no step after this long, such as 5min.  [default: 135s; a board 10min]"
)
@click.option("--force", is_flag=True, help="Measure on a busy machine too.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the raw measurements in this JSON file.")
@click.option(
    "--jobs", type=click.Path(path_type=Path), help="Measure nothing: write what a board is to measure to this file."
)
@click.option("--board", type=click.Choice(["cpu", "cuda"]), help="With --jobs: where the board computes.")
@click.option("--from", "results", type=click.Path(path_type=Path), help="Make the profile of what a board measured.")
def calibrate(**options: Any) -> None:
    """Measure this machine, or read what a board measured, and write its device profile."""
    from .commands.calibrating import calibrate_device

    click.echo(calibrate_device(**options))


def _width() -> int:
    import shutil

    return shutil.get_terminal_size((120, 24)).columns


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and an exit code of its own."""
    # A backbone of the user's own, package.module:function, lies where the command is called.
    sys.path.append("")
    warnings.showwarning = lambda message, *_, **__: click.echo(f"tinysearch: warning: {message}", err=True)
    warnings.simplefilter("once", UserWarning)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended politely: as after Ctrl-C
    try:
        cli.main(standalone_mode=False)
    except TinySearchError as error:
        click.echo(f"tinysearch: error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"tinysearch: error: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader, such as `head`, has enough; Python must not meet the closed pipe again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        click.echo(f"tinysearch: error: {error.filename or 'file'}: {error.strerror or error}", err=True)
        sys.exit(InputError.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("tinysearch: stopped; finished trials are kept, and the same command goes on", err=True)
        sys.exit(INTERRUPTED)
