"""Pictures that int8 takes its ranges from: some of a data set, the same ones every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skipway.data.preprocessing import Preprocessing
from skipway.data.sources import open_source
from skipway.errors import DataError, PictureError

COUNT = 256


def calibration_pictures(data: str | Path, preprocessing: Preprocessing, count: int = COUNT) -> tuple[Tensor, ...]:
    """Up to `count` standardized pictures (N, C, S, S), 16 at a time, of the training part where there is one.

    Ranges must not be taken from the pictures that the model is judged on. Unreadable pictures are passed over. Raises
    DataError where there are none.
    """
    source = open_source(data)
    name = next((one for one in ("train", "all", "val") if one in source.splits), "test")
    pictures = source.split(name).pictures
    found: list[Tensor] = []
    for index in np.random.default_rng(0).permutation(len(pictures)):
        try:
            found.append(preprocessing.tensor(pictures[int(index)]))
        except PictureError:
            continue
        if len(found) == count:
            break
    if not found:
        raise DataError(f"{source.name}: no picture of {name} can be read; give other pictures to calibrate int8 with")
    return tuple(torch.cat(found[at : at + 16]) for at in range(0, len(found), 16))
