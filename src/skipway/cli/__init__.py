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
from skipway.cli.help import GroupedCommands
from skipway.errors import SkipwayError, is_out_of_memory, memory_message
from skipway.reporting import escaped, escaped_lines
from skipway.version import __version__

BAD_INPUT, DEFECT, INTERRUPTED = 2, 1, 130  # exit codes

app = typer.Typer(
    name="skipway",
    cls=GroupedCommands,
    help="The classic deep image networks: train them on your pictures, judge them, use them.\n\n"
    "--debug, with any command, shows the traceback behind an error.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0, 2 for bad input, 1 for a defect of skipway, 130 after Ctrl-C.

    `arguments` are those behind the program's name; None takes them from the command line.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    debug = "--debug" in arguments
    others = [argument for argument in arguments if argument != "--debug"]
    if not others:
        others = ["--help"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label may have characters that the terminal lacks
    status = _run(others, debug=debug)
    sys.exit(status)


def _run(arguments: list[str], *, debug: bool) -> int:
    """Run a command. Returns the exit code, and prints the error where there is one."""
    try:
        if not {"--help", "-h", "--version"} & set(arguments):
            from skipway.user_cache import prepare_font_folder

            prepare_font_folder()
        # Not `app(arguments)`: that would swallow Ctrl-C's message and the end of a pipe.
        command = typer.main.get_command(app)
        with command.make_context("skipway", arguments) as context:
            command.invoke(context)
    except typer.Exit as end:  # --help, --version
        return end.exit_code
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped", INTERRUPTED, debug=debug)
    except BrokenPipeError:  # the reader of the pipe has closed it; what stdout still holds is dropped
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        return 0
    except Exception as error:
        message, status = _describe_error(error)
        return _fail(message, status, debug=debug)
    return 0


def _describe_error(error: Exception) -> tuple[str, int]:
    """The message for an error, and the exit code: 2 for what the user or the machine can mend."""
    if isinstance(error, SkipwayError):
        return str(error), BAD_INPUT
    # Usage errors carry their own text; which package they come from depends on typer's version.
    usage = getattr(error, "format_message", None)
    if usage is not None:
        message = usage().rstrip(".")
        return f"{message}; see `skipway --help`", BAD_INPUT
    if is_out_of_memory(error):
        return memory_message(error), BAD_INPUT
    first_line = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, OSError):
        reason = error.strerror or first_line
        if error.filename is not None:
            reason = f"{os.fsdecode(error.filename)}: {reason}"
        return f"{reason}; check the path, its permissions and the free space", BAD_INPUT
    return f"a defect of skipway ({first_line}); --debug shows where", DEFECT


def _fail(message: str, status: int, *, debug: bool) -> int:
    """Print an error on stderr, with --debug the traceback before it. Returns the exit code."""
    if debug:
        typer.echo(escaped_lines(traceback.format_exc()), err=True)
    typer.echo(f"error: {escaped(message)}", err=True)
    return status


def _print_version(wanted: bool) -> None:
    """Print the version and end, where --version was given."""
    if wanted:
        typer.echo(f"skipway {__version__}")
        raise typer.Exit


# The commands that several processes run together. Others would do the same work once in each process.
_SHARED = ("train", "resume", "evaluate")


def _refuse_several_processes(command: str | None) -> None:
    """Raises SkipwayError where torchrun started several processes for a command that runs in one."""
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes == "1" or command is None:
        return
    # Before torch is imported: when a rank is lost, its C++ part would print its stack beside our one line.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if command not in _SHARED:
        raise SkipwayError(
            f"`skipway {command}` runs in one process, and WORLD_SIZE is {processes}; leave torchrun out, or unset it"
        )


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,  # noqa: ARG001
) -> None:
    """Options that stand before the command."""
    _refuse_several_processes(context.invoked_subcommand)


for group in (runs, data, weights, networks, speed, claims, cache):
    app.add_typer(group.commands)
