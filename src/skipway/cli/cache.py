"""Show and empty the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from skipway.cli.output import Json, answer, tell

commands = typer.Typer()


@commands.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete what it holds; engines are built again.")] = False,
    json_: Json = False,
) -> None:
    """Show where built engines are kept, which, and how large they are; or delete them."""
    from skipway.user_cache import inspect_cache

    found = inspect_cache(clear=clear)
    answer(found.to_dict()) if json_ else tell(found.describe())
