"""Show networks."""

from __future__ import annotations

from typing import Annotated

import typer

from skipway.cli.help import NETWORKS
from skipway.cli.output import Json, print_json, print_result, print_text

commands = typer.Typer()


@commands.command(rich_help_panel=NETWORKS)
def models(
    pattern: Annotated[str, typer.Argument(help='Shell pattern, such as "resnet_v1_*".')] = "*", json_: Json = False
) -> None:
    """List the networks: size, operations, source, public weights."""
    from skipway.drawing.table import model_rows, models_table

    rows = model_rows(pattern)
    if json_:
        print_json(rows)
    else:
        print_text(models_table(rows))


@commands.command(rich_help_panel=NETWORKS)
def summary(
    name: Annotated[str, typer.Argument(help="Network.")],
    num_classes: Annotated[int | None, typer.Option(min=0, max=10**9, help="Instead of the source's.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=10**9, help="Pictures at once, for the memory.")] = 1,
    image_size: Annotated[
        int | None, typer.Option(min=1, max=2**14, help="Picture side in pixels, instead of the source's.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show a network unit by unit: shapes, parameters, operations.

    With receptive fields, and the memory that training takes.
    """
    from skipway.drawing.summary import summarize

    found = summarize(name, num_classes=num_classes, batch_size=batch_size, image_size=image_size)
    print_result(found, as_json=json_)


@commands.command(rich_help_panel=NETWORKS)
def draw(
    name: Annotated[str, typer.Argument(help="Network.")],
    to: Annotated[str, typer.Option(help="Picture to write: FILE.svg, FILE.png or FILE.pdf.")],
    num_classes: Annotated[int | None, typer.Option(min=0, max=10**9, help="Instead of the source's.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    json_: Json = False,
) -> None:
    """Draw a network: its stages, shapes, shortcuts and units."""
    from skipway.drawing.picture import draw as draw_network

    picture = draw_network(name, to, num_classes=num_classes, overwrite=overwrite)
    print_result(picture, as_json=json_)
