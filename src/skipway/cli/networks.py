"""Show networks."""

from __future__ import annotations

from typing import Annotated

import typer

from skipway.cli.output import Json, answer, tell

commands = typer.Typer()


@commands.command()
def models(
    pattern: Annotated[str, typer.Argument(help='Shell pattern, such as "resnet_v1_*".')] = "*", json_: Json = False
) -> None:
    """List the networks: size, operations, source, and what weights are public."""
    from skipway.drawing.table import model_rows, models_table

    rows = model_rows(pattern)
    answer(rows) if json_ else tell(models_table(rows))


@commands.command()
def summary(
    name: Annotated[str, typer.Argument(help="Network.")],
    num_classes: Annotated[int | None, typer.Option(min=0, max=10**9, help="Instead of the source's.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=10**9, help="Pictures at once, for the memory.")] = 1,
    image_size: Annotated[
        int | None, typer.Option(min=1, max=2**14, help="Picture side in pixels, instead of the source's.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show a network's units: shapes, parameters, operations, receptive fields; and the memory of training it."""
    from skipway.drawing.summary import summarize

    found = summarize(name, num_classes=num_classes, batch_size=batch_size, image_size=image_size)
    answer(found.to_dict()) if json_ else tell(found.describe())


@commands.command()
def draw(
    name: Annotated[str, typer.Argument(help="Network.")],
    to: Annotated[str, typer.Option(help="Picture to write: FILE.svg, FILE.png or FILE.pdf.")],
    num_classes: Annotated[int | None, typer.Option(min=0, max=10**9, help="Instead of the source's.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    json_: Json = False,
) -> None:
    """Draw a network: its stages, shapes and shortcuts, and the inside of its units."""
    from skipway.drawing.picture import draw as draw_network

    picture = draw_network(name, to, num_classes=num_classes, overwrite=overwrite)
    answer(picture.to_dict()) if json_ else tell(picture.describe())
