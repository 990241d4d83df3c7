"""Show and empty the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from skipway.cli.help import MACHINE
from skipway.cli.output import Json, print_result

commands = typer.Typer()


@commands.command(rich_help_panel=MACHINE)
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete what it holds; engines are built again.")] = False,
    json_: Json = False,
) -> None:
    """Show the engines that are kept on this machine, or delete them.

    It says where they are kept, for which networks, and how large they are.
    """
    from skipway.user_cache import inspect_cache

    contents = inspect_cache(clear=clear)
    print_result(contents, as_json=json_)
