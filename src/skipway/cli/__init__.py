"""The command line: parse, call one library function, print. Heavy imports wait inside the commands."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from skipway.cli import cache, claims, data, networks, runs, speed, weights
from skipway.errors import SkipwayError, is_out_of_memory, memory_message
from skipway.reporting import escaped, escaped_lines
from skipway.version import __version__

app = typer.Typer(
    name="skipway",
    help="The classic deep image networks: train them on your pictures, judge them, use them.\n\n"
    "--debug, with any command, shows the traceback behind an error.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0, 2 for bad input, 1 for a defect of skipway, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [one for one in given if one != "--debug"] or ["--help"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # labels need not fit the terminal's encoding
    try:
        if not {"--help", "-h", "--version"} & set(given):
            from skipway.user_cache import prepare_font_folder

            prepare_font_folder()
        # Not `app(given)`: that would swallow Ctrl-C's message and the end of a pipe.
        with typer.main.get_command(app).make_context("skipway", given) as context:
            context.command.invoke(context)
        status = 0
    except typer.Exit as end:  # --help, --version
        status = end.exit_code
    except KeyboardInterrupt as stop:
        status = _fail(str(stop) or "stopped", 130, debug=debug)
    except BrokenPipeError:  # the reader of a pipe had enough; what stdout still holds goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:
        status = _fail(*_judged(error), debug=debug)
    sys.exit(status)


def _judged(error: Exception) -> tuple[str, int]:
    """What to say about an error, and the exit code: 2 for what the user or the machine can mend."""
    if isinstance(error, SkipwayError):
        return str(error), 2
    # Usage errors carry their own text; which package they come from depends on typer's version.
    usage = getattr(error, "format_message", None)
    if usage is not None:
        return f"{usage().rstrip('.')}; see `skipway --help`", 2
    if is_out_of_memory(error):
        return memory_message(error), 2
    told = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{where}{error.strerror or told}; check the path, its permissions and the free space", 2
    return f"a defect of skipway ({told}); --debug shows where", 1


def _fail(message: str, status: int, *, debug: bool) -> int:
    if debug:
        typer.echo(escaped_lines(traceback.format_exc()), err=True)
    typer.echo(f"error: {escaped(message)}", err=True)
    return status


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"skipway {__version__}")
        raise typer.Exit


# What several processes do together; anything else they would only do several times.
_SHARED = ("train", "resume", "evaluate")


def _refuse_several(command: str | None) -> None:
    several = os.environ.get("WORLD_SIZE", "1")
    if several == "1" or command is None:
        return
    # Before torch is imported: when a rank is lost, its C++ part would print its stack beside our one line.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if command not in _SHARED:
        raise SkipwayError(
            f"`skipway {command}` runs in one process, and WORLD_SIZE is {several}; leave torchrun out, or unset it"
        )


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,  # noqa: ARG001
) -> None:
    """Options that stand before the command."""
    _refuse_several(context.invoked_subcommand)


for group in (runs, data, weights, networks, speed, claims, cache):
    app.add_typer(group.commands)
