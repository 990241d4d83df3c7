"""Measure speed."""

from __future__ import annotations

from typing import Annotated

import typer

from skipway.cli.help import MACHINE
from skipway.cli.output import Device, Json, print_result
from skipway.errors import SkipwayError

commands = typer.Typer()


@commands.command(rich_help_panel=MACHINE)
def benchmark(
    model: Annotated[str, typer.Argument(help="Network (`skipway models`) or model file.", metavar="NAME|MODEL")],
    batch_size: Annotated[int, typer.Option(help="Pictures at once.")] = 32,
    steps: Annotated[int, typer.Option(help="Batches that count.")] = 100,
    warmup: Annotated[int, typer.Option(help="Batches before them that do not.")] = 10,
    mode: Annotated[str, typer.Option(help="forward or train.")] = "forward",
    engine: Annotated[
        str, typer.Option(help="auto (the fastest), eager, compile, onnxruntime, openvino; or several: eager,compile.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or int8; or several: fp32,bf16.")] = "fp32",
    sweep: Annotated[str, typer.Option(help="Several batch sizes instead of one: 1,8,32.")] = "",
    image_size: Annotated[int, typer.Option(help="Picture side in pixels; 0 is the network's own.")] = 0,
    recipe: Annotated[str, typer.Option(help="With --mode train: the recipe of the step, or a .toml file.")] = "quick",
    seed: Annotated[int, typer.Option(help="Of random weights and pictures.")] = 0,
    device: Device = "auto",
    profile: Annotated[str, typer.Option(help="Folder for a trace; also prints what costs most.")] = "",
    json_: Json = False,
) -> None:
    """Measure how fast a network runs or trains on this machine.

    Beside its figures stands the peak of the machine, measured in the same run.
    """
    from skipway.benchmark.run import BenchmarkSettings
    from skipway.benchmark.run import benchmark as measure
    from skipway.training.console import Console

    batch_sizes: tuple[int, ...] = (batch_size,)
    if sweep:
        batch_sizes = _batch_sizes(sweep)
    settings = BenchmarkSettings(
        model=model,
        batch_sizes=batch_sizes,
        engines=_names(engine),
        precisions=_names(precision),
        mode=mode,
        steps=steps,
        warmup=warmup,
        image_size=image_size,
        device=device,
        recipe=recipe,
        seed=seed,
        profile=profile,
    )
    with Console() as console:
        report = measure(settings, reporter=console)
    print_result(report, as_json=json_)
    if report.stopped:
        raise KeyboardInterrupt("stopped; the figures are those of the batches until then")


def _names(text: str) -> tuple[str, ...]:
    """The names of a list such as `eager,compile`, each once."""
    names = [name.strip() for name in text.split(",")]
    return tuple(dict.fromkeys(names))


def _batch_sizes(text: str) -> tuple[int, ...]:
    """The numbers of a list such as `1,8,32`, each once. Raises SkipwayError where it is no such list."""
    try:
        sizes = [int(number) for number in text.split(",")]
    except ValueError:
        raise SkipwayError(
            f"--sweep {text} is no list of batch sizes; give numbers with commas, such as 1,8,32"
        ) from None
    return tuple(dict.fromkeys(sizes))
