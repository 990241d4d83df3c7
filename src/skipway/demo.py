"""`skipway demo`: the main job on bundled real digits, start to finish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from skipway.data.arrays import read_digits
from skipway.files import write_whole
from skipway.inference.classifier import load
from skipway.inference.predict import describe_predictions, predict_files
from skipway.reporting import counted
from skipway.training.console import Reporter
from skipway.training.finish import RunResult
from skipway.training.run import train

# One of each of six digits, the first held out; which ones they are says nothing about how well they go.
_SHOWN = (0, 2, 3, 5, 7, 9)


def run_demo(folder: Path, reporter: Reporter, *, overwrite: bool = True) -> str:
    """Train `alexnet.mnist` on 4,000 digits, judge it on the other 1,000, classify six of those; tell where all is.

    The held-out digits are watched each epoch but choose nothing: the last epoch's weights are kept.
    """
    result = train(
        "digits", model="alexnet.mnist", recipe="quick", val="test", out=folder, overwrite=overwrite, reporter=reporter
    )
    files = _write_pictures(folder / "pictures")
    rows = predict_files(load(result.model), [(str(file), file) for file in files], top=5)
    return f"{describe_predictions(rows)}\n\n{_closing(result, files[0])}"


def _write_pictures(folder: Path) -> list[Path]:
    held = read_digits().split("test")
    files = []
    for digit in _SHOWN:
        index = held.targets.tolist().index(digit)
        file = folder / f"digit-{digit}.png"
        _write_png(file, np.asarray(held.pictures[index]))
        files.append(file)
    return files


def _write_png(file: Path, array: np.ndarray) -> None:
    write_whole(file, lambda temporary: Image.fromarray(array).save(temporary, "PNG"))


def _closing(result: RunResult, picture: Path) -> str:
    found = result.evaluation
    return "\n".join(
        (
            f"held out: top-1 {found.top1:.2%} of {counted(found.count, 'digit')}, top-5 {found.top5:.2%}, "
            f"loss {found.loss:.4f}",
            f"model     {result.model}",
            f"report    {result.report}  (open it in a browser)",
            f"pictures  {picture.parent}",
            "",
            "next:",
            f"  skipway predict {result.model} {picture}",
            f"  skipway evaluate {result.model} digits",
            "  skipway train YOUR_FOLDER        (one folder of pictures for each class)",
        )
    )
