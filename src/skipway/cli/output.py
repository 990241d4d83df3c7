"""What every command shares: its options, and how it prints."""

from __future__ import annotations

import json
import math
import os
from typing import Annotated, Any, Protocol

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


class Printable(Protocol):
    """What a function of the library returns to a command."""

    def to_dict(self) -> Any:
        """Plain values for JSON."""

    def describe(self) -> str:
        """The same as text for a person."""


def print_result(result: Printable, *, as_json: bool) -> None:
    """Print a result on stdout: as one JSON value, or as text."""
    if as_json:
        print_json(result.to_dict())
    else:
        print_text(result.describe())


def print_json(value: Any) -> None:
    """Print one JSON value on stdout. It is ASCII, so that the terminal's encoding does not matter."""
    finite = _without_infinities(value)
    typer.echo(json.dumps(finite))


def print_text(text: str) -> None:
    """Print lines for a person on stdout."""
    typer.echo(escaped_lines(text))


def print_remark(text: str) -> None:
    """Print one line on stderr, so that stdout holds the result and nothing else."""
    typer.echo(escaped(text), err=True)


def is_first_process() -> bool:
    """Whether this process prints the result. Under torchrun, the process of rank 0 does it for all."""
    return os.environ.get("RANK", "0") == "0"


def _without_infinities(value: Any) -> Any:
    """The value with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
