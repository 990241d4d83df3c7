"""Weights of other frameworks, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skipway.cli.output import Json, answer, tell

commands = typer.Typer()


@commands.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="Weight file, checkpoint prefix or folder of another framework.")],
    to: Annotated[Path, typer.Option(help="Model file to write, .safetensors.")],
    model: Annotated[str, typer.Option(help="Network (`skipway models`); left out, names and shapes decide.")] = "",
    labels: Annotated[Path | None, typer.Option(help="Text file with a label on each line, in order.")] = None,
    preprocessing: Annotated[str, typer.Option(help="Convention for pictures; left out, the network's.")] = "",
    average: Annotated[str, typer.Option(help="Which weights, where there are both: raw or ema.")] = "raw",
    allow_unused: Annotated[
        list[str] | None, typer.Option(help='Shell pattern of arrays to leave out, such as "aux/*".')
    ] = None,
    json_: Json = False,
) -> None:
    """Make a model file of weights from Caffe, TensorFlow, Keras or PyTorch."""
    from skipway.weights.importing import import_weights, read_labels

    found = import_weights(
        file,
        to,
        model=model,
        labels=read_labels(labels) if labels else (),
        preprocessing=preprocessing,
        average=average,
        allow_unused=allow_unused or (),
    )
    answer(found.to_dict()) if json_ else tell(found.told())


@commands.command()
def export(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    to: Annotated[Path, typer.Option(help="File to write: .pth, .bin, .ckpt (a prefix), .h5, .caffemodel or .npy.")],
    form: Annotated[str, typer.Option(help="Whose names, where the ending does not tell, such as timm.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    json_: Json = False,
) -> None:
    """Write a model's weights for PyTorch, TensorFlow, Keras or Caffe."""
    from skipway.weights.exporting import export_weights

    done = export_weights(model, to, form=form, overwrite=overwrite)
    answer(done.to_dict()) if json_ else tell(done.told())


@commands.command()
def convert(
    file: Annotated[Path, typer.Argument(help="Weight file, checkpoint prefix or folder, as `import` takes it.")],
    to: Annotated[Path, typer.Argument(help="File to write, as `export` writes it.")],
    form: Annotated[str, typer.Option(help="Whose names to write, where the ending does not tell.")] = "",
    model: Annotated[str, typer.Option(help="Network (`skipway models`); left out, names and shapes decide.")] = "",
    preprocessing: Annotated[str, typer.Option(help="Convention for pictures; left out, the network's.")] = "",
    average: Annotated[str, typer.Option(help="Which weights, where there are both: raw or ema.")] = "raw",
    allow_unused: Annotated[
        list[str] | None, typer.Option(help='Shell pattern of arrays to leave out, such as "aux/*".')
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    json_: Json = False,
) -> None:
    """Make one framework's weight file of another's: `import` and `export` in one step."""
    from skipway.weights.exporting import convert_weights

    done = convert_weights(
        file,
        to,
        form=form,
        model=model,
        preprocessing=preprocessing,
        average=average,
        allow_unused=allow_unused or (),
        overwrite=overwrite,
    )
    answer(done.to_dict()) if json_ else tell(done.told())
