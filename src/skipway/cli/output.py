"""What every command shares: its options, and how it prints."""

from __future__ import annotations

import json
import math
import os
from typing import Annotated, Any

import typer

from skipway.reporting import escaped, escaped_lines

Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON value on stdout.")]
Device = Annotated[str, typer.Option(help="auto (the GPU if there is one), cpu or cuda.")]
Engine = Annotated[str, typer.Option(help="auto (the fastest, by measurement), eager, compile, onnxruntime, openvino.")]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or int8.")]
Calibrate = Annotated[
    str, typer.Option(help="Data whose training pictures int8 takes its ranges from, the first time.")
]
Workers = Annotated[int, typer.Option(help="Processes that decode pictures; -1 chooses.")]
Out = Annotated[str, typer.Option(help="Run folder; the default is runs/<data>-<model>.")]


def speaks() -> bool:
    """Whether this process prints the answer: under torchrun one does for all."""
    return os.environ.get("RANK", "0") == "0"


def tell(text: str) -> None:
    """Print lines for a person."""
    typer.echo(escaped_lines(text))


def remark(text: str) -> None:
    """Print one line on stderr, so that stdout is free for answers."""
    typer.echo(escaped(text), err=True)


def answer(value: Any) -> None:
    """Print one JSON value."""
    typer.echo(json.dumps(_finite(value)))  # ASCII: JSON whatever the terminal's encoding


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: null instead."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
