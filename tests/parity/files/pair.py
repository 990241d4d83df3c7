"""A network whose files are compared, as plain values, and its weights by chance. NumPy only."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Pair:
    """One network of a framework, and the files that it writes of the same weights.

    `script` is the module of this folder that writes it, `environment` the one that the module needs. `fields` change
    the spec that import finds, where the reference computes something else than what the file was published for.
    """

    script: str
    name: str
    theirs: str
    environment: str
    files: tuple[str, ...]
    fields: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-5


_SCALES = ("gamma", "scale")
_VARIANCES = ("moving_variance", "running_var")


def values(name: str, shape: tuple[int, ...], kind: str, *, fan_in: int = 0, gain: float = 1.0) -> np.ndarray:
    """float32 for a variable of any framework, in its own layout, drawn by its name.

    `kind` is `weight` (variance 2 / `fan_in` times the square of `gain`), a norm's `gamma` or `scale`, a variance, or
    anything else, numbers around 0. Statistics are far from 0 and 1, and scales shrink what they get a little, so that
    deep networks stay finite.
    """
    u = np.random.default_rng(zlib.crc32(name.encode())).random(shape, dtype=np.float32)
    if kind in _VARIANCES:
        return np.float32(0.5) + u
    if kind in _SCALES:
        return np.float32(0.4) + np.float32(0.6) * u
    spread = gain * math.sqrt(24 / fan_in) if kind == "weight" else 0.4
    return (u - np.float32(0.5)) * np.float32(spread)
