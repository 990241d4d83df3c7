"""Prepare data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skipway.cli.help import PICTURES
from skipway.cli.output import Json, print_result

commands = typer.Typer()


@commands.command(rich_help_panel=PICTURES)
def pack(
    data: Annotated[str, typer.Argument(help="Any data that `train` takes.")],
    to: Annotated[Path, typer.Argument(help="Folder to write; it must not exist.", metavar="DIR")],
    short_side: Annotated[
        int, typer.Option(help="Pixels that larger pictures are scaled to; 0 keeps every file as it is.")
    ] = 256,
    quality: Annotated[int, typer.Option(help="Of the JPEGs that scaled pictures become, 1 to 100.")] = 95,
    shard_size: Annotated[int, typer.Option(help="Megabytes that a shard may have.")] = 256,
    json_: Json = False,
) -> None:
    """Pack pictures into shards, which all commands take as data.

    Shards are tar files, as WebDataset reads them.
    """
    from skipway.data.packing import Packing
    from skipway.data.packing import pack as write_shards
    from skipway.data.sources import open_source
    from skipway.errors import DataError
    from skipway.machine import usable_cores
    from skipway.training.console import Console

    packing = Packing(short_side=short_side, quality=quality, shard_size=shard_size * 10**6)
    source = open_source(data)
    folder = Path(data)
    if folder.is_dir() and to.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{to} would lie among the pictures of {data}; name a folder elsewhere")
    with Console() as console:
        if source.remark:
            console.say(source.remark)
        packed = write_shards(source, to, packing, threads=usable_cores(), progress=console.counting)
    print_result(packed, as_json=json_)
