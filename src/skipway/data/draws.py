"""Random numbers as a pure function of (seed, epoch, sample): there is no state that a resumed run could lose.

Each number is a hash of its coordinates: the finalizer of SplitMix64 (Steele, Lea, Flood 2014), applied once for each
coordinate. The numbers of a picture therefore depend neither on the other pictures of its batch nor on the worker.
"""

from __future__ import annotations

import numpy as np
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_TORCH_STREAM = 97  # the stream of `seed_torch`


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's next number for each state, uint64 of any shape."""
    with np.errstate(over="ignore"):
        z = z + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed


def hashed(seed: int, epoch: int, samples: np.ndarray, stream: int, count: int) -> np.ndarray:
    """64 random bits for each draw of each sample.

    Arguments:
        seed, epoch: whole numbers.
        samples: the positions of the samples in their split, integers (N,).
        stream: a number for each use, so that different uses draw different numbers.
        count: draws of each sample.

    Returns uint64 (N, count).
    """
    key = np.zeros(1, np.uint64)
    for coordinate in (seed, stream, epoch):
        key = _mix(key ^ np.uint64(coordinate & 0xFFFFFFFFFFFFFFFF))
    rows = _mix(key ^ np.asarray(samples).astype(np.uint64))
    draws = np.arange(1, count + 1, dtype=np.uint64)
    return _mix(rows[:, None] ^ draws[None, :])


def uniform(seed: int, epoch: int, samples: np.ndarray, stream: int, count: int) -> np.ndarray:
    """Random numbers in [0, 1), float64 (N, count), with the arguments of `hashed`."""
    bits = hashed(seed, epoch, samples, stream, count)
    highest = bits >> np.uint64(11)  # the 53 bits that a float64 can hold
    return highest.astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """The order in which an epoch visits its samples, int64 (length,)."""
    generator = np.random.default_rng([seed, epoch])
    return generator.permutation(length)


def seed_torch(seed: int, step: int, rank: int = 0) -> None:
    """Reset torch's global generators for one step, so that dropout depends on (seed, step, rank) alone."""
    bits = hashed(seed, step, np.array([rank]), _TORCH_STREAM, 1)[0, 0]
    torch.manual_seed(int(bits >> np.uint64(1)))  # torch takes 63 bits
