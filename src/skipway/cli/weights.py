"""Weights of other frameworks, in and out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipway.cli.output import Json, answer, tell
from skipway.weights.choices import SHORTCUT_PADS, STEM_POOLS

if TYPE_CHECKING:
    from skipway.interchange.importing import ImportOptions
    from skipway.training.console import Console
    from skipway.weights.bundle import Bundle

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


@commands.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="Weight file, checkpoint prefix or folder of another framework.")],
    to: Annotated[Path, typer.Option(help="Model file to write, .safetensors.")],
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
    overwrite: Overwrite = False,
    json_: Json = False,
) -> None:
    """Make a model file of weights from Caffe, TensorFlow, Keras or PyTorch."""
    from skipway.interchange.importing import import_weights
    from skipway.training.console import Console

    with Console() as console:
        options: ImportOptions = {
            "model": model,
            "labels": _labels(labels),
            "preprocessing": preprocessing,
            "average": average,
            "allow_unused": allow_unused or (),
            "norm": norm,
            "recompute": _recomputing(console, statistics),
            "prototxt": prototxt,
            "mean": mean,
            "shortcut_pad": shortcut_pad,
            "stem_stride": stem_stride,
            "stem_pool": stem_pool,
            "pictures": pictures,
            "fit": fit,
        }
        found = import_weights(file, to, overwrite=overwrite, **options)
    answer(found.to_dict()) if json_ else tell(found.describe())


@commands.command()
def export(
    model: Annotated[Path, typer.Argument(help="Model file.")],
    to: Annotated[Path, typer.Option(help=f"File to write: {WRITTEN}.")],
    form: Form = "",
    with_preprocessing: WithPreprocessing = False,
    overwrite: Overwrite = False,
    json_: Json = False,
) -> None:
    """Write a model as a graph, or its weights for PyTorch, TensorFlow, Keras or Caffe."""
    from skipway.workflows import export_model

    done = export_model(model, to, form=form, with_preprocessing=with_preprocessing, overwrite=overwrite)
    answer(done.to_dict()) if json_ else tell(done.describe())


@commands.command()
def convert(
    file: Annotated[Path, typer.Argument(help="Weight file, checkpoint prefix or folder, as `import` takes it.")],
    to: Annotated[Path, typer.Argument(help=f"File to write: {WRITTEN}.")],
    form: Form = "",
    with_preprocessing: WithPreprocessing = False,
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
    overwrite: Overwrite = False,
    json_: Json = False,
) -> None:
    """Make one framework's file of another's: `import` and `export` in one step."""
    from skipway.training.console import Console
    from skipway.workflows import convert_model

    with Console() as console:
        options: ImportOptions = {
            "model": model,
            "labels": _labels(labels),
            "preprocessing": preprocessing,
            "average": average,
            "allow_unused": allow_unused or (),
            "norm": norm,
            "recompute": _recomputing(console, statistics),
            "prototxt": prototxt,
            "mean": mean,
            "shortcut_pad": shortcut_pad,
            "stem_stride": stem_stride,
            "stem_pool": stem_pool,
            "pictures": pictures,
            "fit": fit,
        }
        done = convert_model(file, to, form=form, with_preprocessing=with_preprocessing, overwrite=overwrite, **options)
    answer(done.to_dict()) if json_ else tell(done.describe())


def _labels(file: Path | None) -> tuple[str, ...]:
    from skipway.weights.labels import read_labels

    return read_labels(file) if file else ()


def _recomputing(console: Console, statistics: str) -> Callable[[Bundle], Bundle] | None:
    from skipway.training.statistics import recomputing

    return recomputing(statistics, progress=console.counting, say=console.say) if statistics else None
