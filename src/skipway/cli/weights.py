"""Weights of other frameworks, in and out."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipway.cli.help import WEIGHTS
from skipway.cli.output import Json, print_result
from skipway.interchange.choices import SHORTCUT_PADS, STEM_POOLS

if TYPE_CHECKING:
    from skipway.interchange.options import ImportOptions
    from skipway.training.console import Console

commands = typer.Typer()

Model = Annotated[str, typer.Option(help="Network (`skipway models`); left out, names and shapes decide.")]
Labels = Annotated[Path | None, typer.Option(help="Text file with a label on each line, in order.")]
Preprocessing = Annotated[str, typer.Option(help="Convention for pictures; left out, the network's.")]
Average = Annotated[str, typer.Option(help="Which weights, where there are both: raw or ema.")]
AllowUnused = Annotated[list[str] | None, typer.Option(help='Shell pattern of arrays to leave out, such as "aux/*".')]
Norm = Annotated[
    str, typer.Option(help="Statistics that evaluation normalizes with: running, or batch where the file's code does.")
]
Statistics = Annotated[
    str, typer.Option(help="Data over whose training pictures the running statistics are recomputed.")
]
Prototxt = Annotated[
    Path | None, typer.Option(help="Network of a Caffe file; left out, the .prototxt beside it with its name.")
]
Mean = Annotated[Path | None, typer.Option(help="Mean image or pixel of a Caffe network: .binaryproto or .npy.")]
ShortcutPad = Annotated[
    str, typer.Option(help=f"Where zeros stand in shortcuts without weights: {', '.join(SHORTCUT_PADS)}.")
]
StemStride = Annotated[int, typer.Option(min=0, help="Stride of the first convolution, where names leave it open.")]
StemPool = Annotated[str, typer.Option(help=f"Max pool behind it, where names leave it open: {', '.join(STEM_POOLS)}.")]
Pictures = Annotated[
    Path | None,
    typer.Option(help="Photographs like those of the training, to hold the file's statistics against; else three."),
]
Fit = Annotated[
    bool, typer.Option("--fit", help="Compare every candidate by the file's own statistics, and print all.")
]
Form = Annotated[
    str,
    typer.Option(
        help="Whose names to write, where the ending does not tell, such as timm; skipway: a model file for others."
    ),
]
WithPreprocessing = Annotated[
    bool,
    typer.Option(
        "--with-preprocessing",
        help="For .onnx and .pt2: the graph takes RGB counts (N, C, H, W) of the network's size.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
WRITTEN = ".onnx, .pt2, .pth, .bin, .ckpt (a prefix), .h5, .caffemodel, .npy or .npz"


def _import_options(
    model: Model = "",
    labels: Labels = None,
    preprocessing: Preprocessing = "",
    average: Average = "raw",
    allow_unused: AllowUnused = None,
    norm: Norm = "",
    statistics: Statistics = "",
    prototxt: Prototxt = None,
    mean: Mean = None,
    shortcut_pad: ShortcutPad = "",
    stem_stride: StemStride = 0,
    stem_pool: StemPool = "",
    pictures: Pictures = None,
    fit: Fit = False,
    *,
    console: Console,
) -> ImportOptions:
    """What the user settles about an import, as the library takes it. `console` shows the progress of --statistics."""
    from skipway.interchange.options import ImportOptions
    from skipway.training.statistics import recomputing
    from skipway.weights.labels import read_labels

    recompute = None
    if statistics:
        recompute = recomputing(statistics, progress=console.counting, say=console.say)
    return ImportOptions(
        model=model,
        labels=read_labels(labels) if labels else (),
        preprocessing=preprocessing,
        average=average,  # type: ignore[arg-type]  # the import checks it
        allow_unused=tuple(allow_unused or ()),
        norm=norm,
        recompute=recompute,
        prototxt=prototxt,
        mean=mean,
        shortcut_pad=shortcut_pad,
        stem_stride=stem_stride,
        stem_pool=stem_pool,
        pictures=pictures,
        fit=fit,
    )


def _with_import_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `_import_options`, in the place of its argument `imports`.

    Typer reads a command's options from its signature. So that `import` and `convert` need not repeat them, the
    signature is put together here, and the command is called with what was typed for them as one mapping.
    """
    shared = inspect.signature(_import_options, eval_str=True, locals={"Console": Any, "ImportOptions": Any})
    names = [name for name in shared.parameters if name != "console"]
    own = inspect.signature(command, eval_str=True)
    parameters = []
    for parameter in own.parameters.values():
        if parameter.name == "imports":
            parameters += [shared.parameters[name] for name in names]
        else:
            parameters.append(parameter)

    @functools.wraps(command)
    def run(**values: Any) -> None:
        imports = {name: values.pop(name) for name in names}
        command(imports=imports, **values)

    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__signature__ = own.replace(parameters=keywords)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}
    return run


@commands.command(name="import", rich_help_panel=WEIGHTS)
@_with_import_options
def import_(
    file: Annotated[Path, typer.Argument(help="Weight file, checkpoint prefix or folder of another framework.")],
    to: Annotated[Path, typer.Option(help="Model file to write, .safetensors.")],
    imports: dict[str, Any],
    overwrite: Overwrite = False,
    json_: Json = False,
) -> None:
    """Make a model file of the weights of another framework."""
    from skipway.interchange.importing import import_weights
    from skipway.training.console import Console

    with Console() as console:
        options = _import_options(**imports, console=console)
        report = import_weights(file, to, options, overwrite=overwrite)
    print_result(report, as_json=json_)


@commands.command(rich_help_panel=WEIGHTS)
def export(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    to: Annotated[Path, typer.Option(help=f"File to write: {WRITTEN}.")],
    form: Form = "",
    with_preprocessing: WithPreprocessing = False,
    overwrite: Overwrite = False,
    json_: Json = False,
) -> None:
    """Write a model as a graph, or for another framework.

    Graphs are ONNX and torch.export programs; weights are written for PyTorch, TensorFlow, Keras, Caffe and NumPy.
    """
    from skipway.workflows import export_model

    report = export_model(model, to, form=form, with_preprocessing=with_preprocessing, overwrite=overwrite)
    print_result(report, as_json=json_)


@commands.command(rich_help_panel=WEIGHTS)
@_with_import_options
def convert(
    file: Annotated[Path, typer.Argument(help="Weight file, checkpoint prefix or folder, as `import` takes it.")],
    to: Annotated[Path, typer.Argument(help=f"File to write: {WRITTEN}.")],
    *,
    form: Form = "",
    with_preprocessing: WithPreprocessing = False,
    imports: dict[str, Any],
    overwrite: Overwrite = False,
    json_: Json = False,
) -> None:
    """Import a weight file and export it, in one step."""
    from skipway.training.console import Console
    from skipway.workflows import convert_model

    with Console() as console:
        options = _import_options(**imports, console=console)
        report = convert_model(file, to, options, form=form, with_preprocessing=with_preprocessing, overwrite=overwrite)
    print_result(report, as_json=json_)
