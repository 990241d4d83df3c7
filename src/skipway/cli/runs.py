"""Train, judge and use networks."""

from __future__ import annotations

import io
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from skipway.cli.help import PICTURES
from skipway.cli.output import (
    Calibrate,
    Device,
    Engine,
    Json,
    Out,
    Precision,
    Printable,
    Workers,
    is_first_process,
    print_json,
    print_remark,
    print_result,
    print_text,
)
from skipway.errors import SkipwayError
from skipway.reporting import counted, table

DEMO_FOLDER = "runs/demo"

commands = typer.Typer()


@commands.command(rich_help_panel=PICTURES)
def demo(
    out: Out = DEMO_FOLDER,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run in that folder; an older demo always is.")
    ] = False,
) -> None:
    """Train, evaluate and use a network on bundled digits.

    The data are 5,000 digits of MNIST. It takes about two minutes, from start to finish.
    """
    from skipway.demo import run_demo
    from skipway.training.console import Console

    replace = overwrite or out == DEMO_FOLDER
    with Console() as console:
        text = run_demo(Path(out), console, overwrite=replace)
        print_text(text)


@commands.command(rich_help_panel=PICTURES)
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
    from skipway.training.request import Options
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
        result: Printable
        if find_learning_rate:
            result = find_rate(data, reporter=console, **options)
        else:
            result = run_training(data, overwrite=overwrite, reporter=console, **options)
    _print_once(result, as_json=json_)


@commands.command(rich_help_panel=PICTURES)
def resume(
    run: Annotated[str, typer.Argument(help="Run folder.")],
    data: Annotated[str, typer.Option(help="Where the pictures lie now, if they have moved.")] = "",
    workers: Annotated[int | None, typer.Option(help="Processes that decode pictures; left out, the run's.")] = None,
    json_: Json = False,
) -> None:
    """Continue an interrupted run, exactly."""
    from skipway.training.console import Console
    from skipway.training.run import resume as continue_training

    with Console() as console:
        result = continue_training(run, data=data, workers=workers, reporter=console)
    _print_once(result, as_json=json_)


def _print_once(result: Printable, *, as_json: bool) -> None:
    """Print the result of several processes, in the first of them alone."""
    if is_first_process():
        print_result(result, as_json=as_json)


@commands.command(rich_help_panel=PICTURES)
def evaluate(
    model: Annotated[str, typer.Argument(help="Model file.")],
    data: Annotated[str, typer.Argument(help="Data in any form that `train` takes.")],
    split: Annotated[str, typer.Option(help="train, val, test or all; else test, val, all, the first there is.")] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 64,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    calibrate: Calibrate = "",
    workers: Workers = -1,
    json_: Json = False,
) -> None:
    """Measure how good a model is, in all and for each class."""
    from skipway.evaluation.judge import evaluate as judge
    from skipway.training.console import Console

    with Console() as console:
        found = judge(
            model,
            data,
            split=split,
            batch_size=batch_size,
            device=device,
            engine=engine,
            precision=precision,  # type: ignore[arg-type]  # whatever was typed; the library says what there is
            calibrate=calibrate,
            workers=workers,
            progress=console.counting,
            say=console.say,
        )
    if is_first_process():
        for error in found.bad:
            print_remark(f"left out: {error}")
    _print_once(found, as_json=json_)


@commands.command(rich_help_panel=PICTURES)
def predict(
    model: Annotated[str, typer.Argument(help="Model file.")],
    pictures: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for stdin.")],
    top: Annotated[int, typer.Option(min=1, help="Answers a picture.")] = 5,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    calibrate: Calibrate = "",
    json_: Json = False,
) -> None:
    """Say what pictures show.

    `-` reads one picture, or a list of file names, from stdin.
    """
    from skipway.inference.classifier import CHUNK, load
    from skipway.inference.predict import describe_predictions, find_pictures, predict_files

    stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()
    files = find_pictures(pictures, stdin)
    classifier = load(model, device)
    classifier.use(
        engine,
        batch_size=min(CHUNK, len(files)),
        precision=precision,  # type: ignore[arg-type]  # whatever was typed; the library says what there is
        calibrate=calibrate,
        pictures=len(files),
        tell=print_remark,
    )
    rows = predict_files(classifier, files, top)
    if json_:
        print_json(rows)
    else:
        print_text(describe_predictions(rows))
    failed = [row for row in rows if "error" in row]
    if failed:
        first = failed[0]
        every = counted(len(rows), "picture")
        raise SkipwayError(f"{len(failed)} of {every} could not be read: {first['file']}: {first['error']}")


@commands.command(rich_help_panel=PICTURES)
def recipes(name: Annotated[str, typer.Argument(help="Recipe to print as TOML.")] = "", json_: Json = False) -> None:
    """List the recipes, or print one to start your own from.

    A recipe is printed as TOML, which `train --recipe FILE.toml` takes.
    """
    from skipway.training.recipe import recipe_to_toml
    from skipway.training.recipes import RECIPES, find_recipe

    if name:
        recipe = find_recipe(name)
        if json_:
            print_json(asdict(recipe))
        else:
            typer.echo(recipe_to_toml(recipe), nl=False)
        return
    if json_:
        print_json([{"name": recipe.name, "source": recipe.source} for recipe in RECIPES.values()])
        return
    rows = [(recipe.name, recipe.source) for recipe in RECIPES.values()]
    print_text(table((), rows))
