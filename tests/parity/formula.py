"""Weights and pictures by formula: the same numbers in every environment, without a random generator. NumPy only."""

from __future__ import annotations

import math
import zlib

import numpy as np

NORMS = ("norm", "preact", "postnorm")


def uniform(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 in [0, 1): a SplitMix64 hash of the key and each element's place."""
    with np.errstate(over="ignore"):
        place = np.arange(math.prod(shape), dtype=np.uint64) + (np.uint64(zlib.crc32(key.encode())) << np.uint64(31))
        z = place * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) / 2.0**53).reshape(shape)


def parameter(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of one of our state-dict keys in our layout (convolutions OIHW, linear layers OI), float32.

    Convolutions and linear layers keep the variance (2 / fan_in). Norms shrink it a little, so that a residual network
    of a thousand layers stays finite, and have statistics far from 0 and 1, so that none can be left out unnoticed.
    """
    module, kind = key.split(".")[-2:] if "." in key else ("", key)
    u = uniform(key, shape)
    if kind == "running_var":
        value = 0.5 + u
    elif kind == "weight" and module.startswith(NORMS):
        value = 0.4 + 0.6 * u
    elif kind == "weight":
        value = (u - 0.5) * math.sqrt(12 * 2 / math.prod(shape[1:]))
    else:
        value = (u - 0.5) * 0.4
    if module == "logits":
        value *= 0.03  # a softmax of large logits magnifies their rounding
    return value.astype(np.float32)


def pictures(batch: int, channels: int, side: int, scale: float = 1.0) -> np.ndarray:
    """(N, C, H, W) float32 from -scale to scale: noise, so that a shift by one pixel shows everywhere."""
    return ((2 * uniform("pictures", (batch, channels, side, side)) - 1) * scale).astype(np.float32)


def loss_weights(shape: tuple[int, ...]) -> np.ndarray:
    """Factors c of the loss sum(c * logits) whose gradients are compared, float32."""
    return (2 * uniform("loss", shape) - 1).astype(np.float32)
