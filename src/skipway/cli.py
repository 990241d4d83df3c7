"""The command line: parse, call one library function, print. Heavy imports wait inside the commands."""

from __future__ import annotations

import io
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from skipway.errors import SkipwayError
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

DEMO_FOLDER = "runs/demo"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON value on stdout.")]
Device = Annotated[str, typer.Option(help="auto (the GPU if there is one), cpu or cuda.")]
Workers = Annotated[int, typer.Option(help="Processes that decode pictures; -1 chooses.")]
Out = Annotated[str, typer.Option(help="Run folder; the default is runs/<data>-<model>.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0, 2 for bad input, 1 for a defect of skipway, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [one for one in given if one != "--debug"] or ["--help"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # labels need not fit the terminal's encoding
    try:
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
    told = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, MemoryError) or "allocate memory" in told or "out of memory" in told:
        return f"the memory is too small ({told}); give a smaller --batch-size or --image-size", 2
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{where}{error.strerror or told}; check the path, its permissions and the free space", 2
    return f"a defect of skipway ({told}); --debug shows where", 1


def _fail(message: str, status: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    typer.echo(f"error: {_harmless(' '.join(message.split()))}", err=True)
    return status


def _tell(text: str) -> None:
    typer.echo(_harmless(text))


def _answer(value: Any) -> None:
    typer.echo(json.dumps(_finite(value)))  # ASCII: JSON whatever the terminal's encoding


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: null instead."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _harmless(text: str) -> str:
    """File names and labels of strangers without what would steer the terminal."""
    return _CONTROL.sub(lambda found: ascii(found.group())[1:-1], text)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"skipway {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Options that stand before the command."""


@app.command()
def demo(
    out: Out = DEMO_FOLDER,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in that folder; an older demo always is.")
    ] = False,
) -> None:
    """Train, judge and use a network on 5,000 bundled real digits, start to finish (about two minutes)."""
    from skipway.demo import run_demo
    from skipway.training.console import Console

    with Console() as console:
        _tell(run_demo(Path(out), console, overwrite=overwrite or out == DEMO_FOLDER))


@app.command()
def train(
    data: Annotated[str, typer.Argument(help="Folder of class folders, digits, mnist:DIR, cifar10:DIR, x.npz, x.h5.")],
    model: Annotated[str, typer.Option(help="Network (`skipway models`); left out, the pictures decide.")] = "",
    from_: Annotated[str, typer.Option("--from", help="Model file to start from.")] = "",
    recipe: Annotated[str, typer.Option(help="Recipe by name, or a .toml file.")] = "quick",
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the recipe's.")] = None,
    image_size: Annotated[int, typer.Option(help="Picture side in pixels; 0 is the network's own.")] = 0,
    val: Annotated[
        str, typer.Option(help="Share held out (0: none), or a folder; else the data's val part, or 10 %.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Same seed, same weights.")] = 0,
    device: Device = "auto",
    workers: Workers = -1,
    out: Out = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in that folder.")] = False,
    find_learning_rate: Annotated[
        bool, typer.Option("--find-learning-rate", help="Try rising rates, draw the loss, train nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Train a network on your pictures."""
    from skipway.training.console import Console
    from skipway.training.finder import find_rate
    from skipway.training.job import Options
    from skipway.training.run import train as run_training

    options: Options = {
        "model": model,
        "source_model": from_,
        "recipe": recipe,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "image_size": image_size,
        "val": val,
        "seed": seed,
        "device": device,
        "workers": workers,
        "out": out,
    }
    with Console() as console:
        if find_learning_rate:
            result: Any = find_rate(data, reporter=console, **options)
        else:
            result = run_training(data, overwrite=overwrite, reporter=console, **options)
    _told_run(result, json_)


@app.command()
def resume(run: Annotated[str, typer.Argument(help="Run folder.")], json_: Json = False) -> None:
    """Continue an interrupted run, exactly."""
    from skipway.training.console import Console
    from skipway.training.run import resume as continue_training

    with Console() as console:
        result = continue_training(run, reporter=console)
    _told_run(result, json_)


def _told_run(result: Any, as_json: bool) -> None:
    if os.environ.get("RANK", "0") != "0":  # under torchrun one process speaks for all
        return
    _answer(result.to_dict()) if as_json else _tell(result.told())


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model file.")],
    data: Annotated[str, typer.Argument(help="Data in any form that `train` takes.")],
    split: Annotated[str, typer.Option(help="train, val, test or all; else test, val, all, the first there is.")] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 64,
    device: Device = "auto",
    workers: Workers = -1,
    json_: Json = False,
) -> None:
    """Tell how good a model is: top-1, top-5, loss, calibration, each class."""
    from skipway.evaluation.judge import evaluate as judge
    from skipway.training.console import Console

    with Console() as console:
        found = judge(
            model,
            data,
            split=split,
            batch_size=batch_size,
            device=device,
            workers=workers,
            progress=console.counting,
        )
    for error in found.bad:
        typer.echo(_harmless(f"left out: {error}"), err=True)
    _answer(found.to_dict()) if json_ else _tell(found.told())


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Model file.")],
    pictures: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for stdin.")],
    top: Annotated[int, typer.Option(min=1, help="Answers a picture.")] = 5,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Say what pictures show. `-` reads one picture, or a list of file names, from stdin."""
    from skipway.inference.classifier import load
    from skipway.inference.predict import find_pictures, predict_files, told

    files = find_pictures(pictures, sys.stdin.buffer if sys.stdin else io.BytesIO())
    rows = predict_files(load(model, device), files, top)
    _answer(rows) if json_ else _tell(told(rows))
    failed = [row for row in rows if "error" in row]
    if failed:
        raise SkipwayError(f"{len(failed)} of {len(rows)} pictures could not be read: {failed[0]['file']}: "
                           f"{failed[0]['error']}")  # fmt: skip


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(help='Shell pattern, such as "resnet_v1_*".')] = "*", json_: Json = False
) -> None:
    """List the networks: size, operations, source, and what weights are public."""
    from skipway.drawing.table import model_rows, models_table

    rows = model_rows(pattern)
    _answer(rows) if json_ else _tell(models_table(rows))


@app.command()
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
    _answer(found.to_dict()) if json_ else _tell(found.told())


@app.command()
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
    _answer(picture.to_dict()) if json_ else _tell(picture.told())


@app.command()
def recipes(name: Annotated[str, typer.Argument(help="Recipe to print as TOML.")] = "", json_: Json = False) -> None:
    """List the recipes, or print one as TOML to start your own from."""
    from skipway.training.recipe import find_recipe, recipe_to_toml
    from skipway.training.recipes import RECIPES

    if name:
        recipe = find_recipe(name)
        _answer(asdict(recipe)) if json_ else typer.echo(recipe_to_toml(recipe), nl=False)
    elif json_:
        _answer([{"name": one.name, "source": one.source} for one in RECIPES.values()])
    else:
        typer.echo("\n".join(f"{one.name:16} {one.source}" for one in RECIPES.values()))
