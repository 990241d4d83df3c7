"""The mean of all training pictures, pixel by pixel, which Caffe's networks are given their pictures without."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from skipway.errors import SkipwayError
from skipway.reporting import counted


class MeanImage:
    """Counts as float32 (C, H, W), in the network's order of channels: a value, equal to another of the same numbers.

    Raises SkipwayError for other shapes and for values that are not finite.
    """

    def __init__(self, values: np.ndarray | Tensor) -> None:
        given = torch.as_tensor(values)
        if given.ndim != 3 or 0 in given.shape:
            raise SkipwayError(f"a mean image has the shape {tuple(given.shape)}; give one of (C, H, W)")
        self._values = given.detach().cpu().to(torch.float32, copy=True).contiguous()
        if not self._values.isfinite().all():
            raise SkipwayError("a mean image has values that are not finite; compute it again")

    @property
    def values(self) -> Tensor:
        """The numbers themselves, not to be changed."""
        return self._values

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._values.shape)

    @property
    def channels(self) -> tuple[float, ...]:
        """The mean of each channel over all pixels."""
        return tuple(self._values.double().mean((1, 2)).tolist())

    @cached_property
    def _digest(self) -> bytes:
        return hashlib.sha256(self._values.numpy().tobytes()).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MeanImage) and self.shape == other.shape and self._digest == other._digest

    def __hash__(self) -> int:
        return hash((self.shape, self._digest))

    def __repr__(self) -> str:
        return f"MeanImage of {shape_text(self.shape)}"


def shape_text(shape: Sequence[int]) -> str:
    """The shape of a mean image in words."""
    if len(shape) != 3:
        return f"the shape {tuple(shape)}"
    return f"{counted(shape[0], 'channel')} of {shape[1]} x {shape[2]}"
