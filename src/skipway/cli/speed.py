"""Measure speed."""

from __future__ import annotations

from typing import Annotated

import typer

from skipway.cli.output import Device, Json, answer, tell
from skipway.errors import SkipwayError

commands = typer.Typer()


@commands.command()
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
    """Measure how fast a network runs or trains here, beside the peak of this machine."""
    from skipway.benchmark.run import Settings
    from skipway.benchmark.run import benchmark as measure
    from skipway.training.console import Console

    settings = Settings(
        model=model,
        batch_sizes=_batch_sizes(sweep) if sweep else (batch_size,),
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
    answer(report.to_dict()) if json_ else tell(report.describe())
    if report.stopped:
        raise KeyboardInterrupt("stopped; the figures are those of the batches until then")


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.strip() for one in text.split(",")))


def _batch_sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(one) for one in text.split(",")))
    except ValueError:
        raise SkipwayError(
            f"--sweep {text} is no list of batch sizes; give numbers with commas, such as 1,8,32"
        ) from None
