"""Pictures that int8 takes its ranges from: some of a data set, the same ones every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skipway.data.dataset import Source
from skipway.data.preprocessing import Preprocessing
from skipway.data.sources import open_source
from skipway.errors import DataError, PictureError

COUNT = 256
_BATCH = 16  # pictures


def calibration_pictures(data: str | Path, preprocessing: Preprocessing, count: int = COUNT) -> tuple[Tensor, ...]:
    """Up to `count` standardized pictures (N, C, S, S), 16 at a time, of the training part where there is one.

    Ranges must not be taken from the pictures that the model is judged on. Unreadable pictures are passed over. Raises
    DataError where there are none.
    """
    source = open_source(data)
    name = _calibration_part(source)
    pictures = source.split(name).pictures
    order = np.random.default_rng(0).permutation(len(pictures))
    prepared: list[Tensor] = []
    for index in order:
        try:
            picture = preprocessing.tensor(pictures[int(index)])
        except PictureError:
            continue
        prepared.append(picture)
        if len(prepared) == count:
            break
    if not prepared:
        raise DataError(f"{source.name}: no picture of {name} can be read; give other pictures to calibrate int8 with")
    batches = []
    for start in range(0, len(prepared), _BATCH):
        batch = torch.cat(prepared[start : start + _BATCH])
        batches.append(batch)
    return tuple(batches)


def _calibration_part(source: Source) -> str:
    """The part to take pictures from: that of the training first, that of the test last."""
    for name in ("train", "all", "val"):
        if name in source.splits:
            return name
    return "test"
