"""What an import may be told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

from skipway.weights.bundle import Bundle


class ImportOptions(TypedDict, total=False):
    """What a user may settle, where the file leaves it open.

    The network is found from names and shapes; `model` names the row instead. `labels` are the classes' names,
    `preprocessing` a convention for pictures. Arrays that match a shell pattern of `allow_unused` may stay unused;
    `average="ema"` takes averaged weights in place of the last ones, `raw`. `norm` says whose statistics evaluation
    normalizes with: `running`, or `batch` where the file's code does; left out, the running ones, and a warning where
    that code does not. `recompute` gives the model its running statistics afresh (`training.statistics.recomputing`).
    `prototxt` describes the network of a Caffe file; the one beside a caffemodel with its name counts by itself. `mean`
    is a file with the mean image or pixel that Caffe subtracts.

    What is still open, the file's own statistics are asked (`choosing`): `shortcut_pad` (after, both, before),
    `stem_stride` and `stem_pool` (none, or a padding) settle it instead, `pictures` is a folder of photographs to ask
    with, and `fit` compares every candidate.
    """

    model: str
    labels: Sequence[str]
    preprocessing: str
    average: str
    allow_unused: Sequence[str]
    norm: str
    recompute: Callable[[Bundle], Bundle] | None
    prototxt: Path | None
    mean: Path | None
    shortcut_pad: str
    stem_stride: int
    stem_pool: str
    pictures: Path | None
    fit: bool
