"""Random numbers as a pure function of (seed, epoch, sample): no generator has a state that a resume could lose.

Each number is a hash of its coordinates (the finalizer of SplitMix64, Steele, Lea, Flood 2014, applied once for each
coordinate), so the draw of one picture depends neither on the other pictures of its batch nor on the worker.
"""

from __future__ import annotations

import numpy as np
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = z + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed


def hashed(seed: int, epoch: int, samples: np.ndarray, stream: int, count: int) -> np.ndarray:
    """64 random bits for each sample and draw: uint64 (len(samples), count). `stream` keeps uses apart."""
    key = np.zeros(1, np.uint64)
    for coordinate in (seed, stream, epoch):
        key = _mix(key ^ np.uint64(coordinate & 0xFFFFFFFFFFFFFFFF))
    rows = _mix(key ^ np.asarray(samples).astype(np.uint64))
    return _mix(rows[:, None] ^ np.arange(1, count + 1, dtype=np.uint64)[None, :])


def uniform(seed: int, epoch: int, samples: np.ndarray, stream: int, count: int) -> np.ndarray:
    """Numbers in [0, 1): float64 (len(samples), count)."""
    return (hashed(seed, epoch, samples, stream, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """Order in which an epoch visits its samples: int64 (length,)."""
    return np.random.default_rng([seed, epoch]).permutation(length)


def seed_torch(seed: int, step: int, rank: int = 0) -> None:
    """Reset torch's global generators for one step: dropout then depends on (seed, step, rank) alone."""
    torch.manual_seed(int(hashed(seed, step, np.array([rank]), 97, 1)[0, 0] >> np.uint64(1)))
