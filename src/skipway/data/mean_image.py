"""The mean of all training pictures, pixel by pixel, which Caffe's networks subtract from every picture."""

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
    """A mean image. It is a value: it cannot be changed, and equals another of the same numbers."""

    def __init__(self, values: np.ndarray | Tensor) -> None:
        """A mean image with a copy of these numbers.

        Arguments:
            values: counts (C, H, W), in the network's order of channels.

        Raises SkipwayError for another shape, and for values that are not finite.
        """
        given = torch.as_tensor(values)
        shape = tuple(given.shape)
        if len(shape) != 3 or 0 in shape:
            raise SkipwayError(f"a mean image has the shape {shape}; give one of (C, H, W)")
        on_cpu = given.detach().cpu()
        self._values = on_cpu.to(torch.float32, copy=True).contiguous()
        is_finite = self._values.isfinite().all()
        if not is_finite:
            raise SkipwayError("a mean image has values that are not finite; compute it again")

    @property
    def values(self) -> Tensor:
        """The counts, float32 (C, H, W). They must not be changed."""
        return self._values

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        return tuple(self._values.shape)

    @property
    def channels(self) -> tuple[float, ...]:
        """The mean of each channel over all pixels."""
        means = self._values.double().mean((1, 2))
        return tuple(means.tolist())

    @cached_property
    def _digest(self) -> bytes:
        """SHA-256 of the numbers."""
        content = self._values.numpy().tobytes()
        return hashlib.sha256(content).digest()

    def __eq__(self, other: object) -> bool:
        """Whether `other` is a mean image of the same shape and numbers."""
        if not isinstance(other, MeanImage):
            return False
        return self.shape == other.shape and self._digest == other._digest

    def __hash__(self) -> int:
        """The same for equal mean images."""
        return hash((self.shape, self._digest))

    def __repr__(self) -> str:
        """The shape in words: the numbers are too many."""
        return f"MeanImage of {shape_text(self.shape)}"


def shape_text(shape: Sequence[int]) -> str:
    """The shape of a mean image in words."""
    if len(shape) != 3:
        return f"the shape {tuple(shape)}"
    channels, height, width = shape
    depth = counted(channels, "channel")
    return f"{depth} of {height} x {width}"
