"""`skipway demo`: training, evaluation and prediction on the digits that come with skipway."""

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

# The first held-out picture of each of these six digits is shown. The choice does not depend on how well they do.
_SHOWN = (0, 2, 3, 5, 7, 9)


def run_demo(folder: Path, reporter: Reporter, *, overwrite: bool = True) -> str:
    """Train `alexnet.mnist` on 4,000 digits, evaluate it on the other 1,000, and classify six of those.

    The held-out digits are evaluated after each epoch, but choose nothing: the weights of the last epoch are kept.

    Arguments:
        folder: the folder of the run, to which the six pictures are written, too.
        reporter: shows the progress.
        overwrite: whether an earlier run in the folder is replaced.

    Returns the text to print. Raises SkipwayError as `train` does.
    """
    result = train(
        "digits", model="alexnet.mnist", recipe="quick", val="test", out=folder, overwrite=overwrite, reporter=reporter
    )
    files = _write_pictures(folder / "pictures")
    named_files = [(str(file), file) for file in files]
    classifier = load(result.model)
    rows = predict_files(classifier, named_files, top=5)
    return f"{describe_predictions(rows)}\n\n{_summary(result, files[0])}"


def _write_pictures(folder: Path) -> list[Path]:
    """Write the pictures of `_SHOWN` as PNG files, and return their paths."""
    held_out = read_digits().split("test")
    targets = held_out.targets.tolist()
    files = []
    for digit in _SHOWN:
        index = targets.index(digit)
        file = folder / f"digit-{digit}.png"
        picture = np.asarray(held_out.pictures[index])
        _write_png(file, picture)
        files.append(file)
    return files


def _write_png(file: Path, array: np.ndarray) -> None:
    """Write a grey picture, uint8 (H, W), whole or not at all."""
    image = Image.fromarray(array)
    write_whole(file, lambda temporary: image.save(temporary, "PNG"))


def _summary(result: RunResult, picture: Path) -> str:
    """The result, the files of the run, and commands to continue with."""
    found = result.evaluation
    digits = counted(found.count, "digit")
    lines = (
        f"held out: top-1 {found.top1:.2%} of {digits}, top-5 {found.top5:.2%}, loss {found.loss:.4f}",
        f"model     {result.model}",
        f"report    {result.report}  (open it in a browser)",
        f"pictures  {picture.parent}",
        "",
        "next:",
        f"  skipway predict {result.model} {picture}",
        f"  skipway evaluate {result.model} digits",
        "  skipway train YOUR_FOLDER        (one folder of pictures for each class)",
    )
    return "\n".join(lines)
