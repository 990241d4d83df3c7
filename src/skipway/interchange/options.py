"""What a user may decide about an import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from skipway.interchange.torch.state import Average
from skipway.weights.bundle import Bundle


@dataclass(frozen=True)
class ImportOptions:
    """Decisions about what a weight file leaves open. The defaults leave all of them to the file.

    Attributes:
        model: Row of the catalog; "" finds the network from names and shapes.
        labels: Names of the classes, in order.
        preprocessing: Convention by which pictures are prepared; "" takes what the file or its names say.
        average: `ema` takes averaged weights in place of the last ones, `raw`.
        allow_unused: Shell patterns of arrays that may stay unused.
        norm: Whose statistics evaluation normalizes with: `running`, or `batch` where the file's code does. With "" the
            running ones are taken, with a warning where that code does not use them.
        recompute: Gives the model its running statistics afresh (`training.statistics.recomputing`).
        prototxt: Describes the network of a Caffe file. The one beside a caffemodel with its name is taken by itself.
        mean: File with the mean image or the mean pixel that Caffe subtracts.
        shortcut_pad: Where zeros stand in a shortcut without weights: `after`, `both` or `before`.
        stem_stride: Stride of the first convolution; 0 leaves it to the file's statistics.
        stem_pool: `none`, or the padding of the max pool behind the first convolution.
        pictures: Folder of photographs to compare the file's statistics with; None takes those of the package.
        fit: Compare every candidate by the file's statistics.
    """

    model: str = ""
    labels: tuple[str, ...] = ()
    preprocessing: str = ""
    average: Average = "raw"
    allow_unused: tuple[str, ...] = ()
    norm: str = ""
    recompute: Callable[[Bundle], Bundle] | None = None
    prototxt: Path | None = None
    mean: Path | None = None
    shortcut_pad: str = ""
    stem_stride: int = 0
    stem_pool: str = ""
    pictures: Path | None = None
    fit: bool = False


ALL_OPEN = ImportOptions()
