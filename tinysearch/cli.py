"""The command line: verbs, each in a file of `commands`, and how their errors are told."""

import os
import signal
import sys
import warnings
from importlib import import_module

import click

from . import __version__
from .core.errors import InputError, TinySearchError
from .core.text import printable

#: Characters of an error or warning that are shown.
MAX_LINE = 2000
#: Exit code after Ctrl-C, as shells have it.
INTERRUPTED = 130

#: The verbs, in the order of a project's life; each is the `command` of the module of its name (with `_` for `-`).
VERBS = (
    "run",
    "rerun",
    "show",
    "plot",
    "finetune",
    "merge",
    "export",
    "verify",
    "meta-train",
    "inspect",
    "methods",
    "backbones",
    "datasets",
    "devices",
    "calibrate",
)


class Verbs(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in their order."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a verb."""
        if cmd_name not in VERBS:
            return None
        command = import_module(f".commands.{cmd_name.replace('-', '_')}", __package__).command
        assert isinstance(command, click.Command)
        command.name = cmd_name
        return command


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="tinysearch")
@click.pass_context
def cli(context: click.Context) -> None:
    """Search update policies for on-device transfer learning: what to train, and what it costs there."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and an exit code of its own."""
    # A backbone of the user's own, package.module:function, lies where the command is called.
    sys.path.append("")
    warnings.showwarning = lambda message, *_, **__: _tell(f"warning: {message}")
    warnings.simplefilter("once", UserWarning)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended politely: as after Ctrl-C
    try:
        cli.main(standalone_mode=False)
    except TinySearchError as error:
        _tell(f"error: {error.told(_flag)}")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _tell(f"error: {' '.join(error.format_message().split())}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader, such as `head`, has enough; Python must not meet the closed pipe again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _tell(f"error: {error.filename or 'file'}: {error.strerror or error}")
        sys.exit(InputError.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _tell("stopped; what was finished is kept, and the same command goes on")
        sys.exit(INTERRUPTED)


def _flag(option: str) -> str:
    """How the command line writes an option of the library's functions, as `max_memory` or `weights=FILE`."""
    name, _, value = option.partition("=")
    return f"--{name.replace('_', '-')} {value}".rstrip()


def _tell(text: str) -> None:
    """One line on standard error, whatever names are in it, and however long they are."""
    text = printable(text)
    click.echo(f"tinysearch: {text if len(text) <= MAX_LINE else text[:MAX_LINE] + '...'}", err=True)
