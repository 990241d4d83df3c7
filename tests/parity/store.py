"""Recorded arrays as files: all values in one row, and an index that says which are whose."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Enough values of each endpoint that a wrong pixel, channel or scale cannot hide; few enough to commit.
SAMPLES = 256
FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Stored:
    """Values of one array, evenly sampled, its shape, and the value that differences are relative to."""

    values: np.ndarray
    shape: tuple[int, ...]
    scale: float


def sampled(values: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` of the values, evenly spread, the first and the last among them."""
    flat = np.asarray(values).reshape(-1)
    if flat.size <= limit:
        return flat
    return flat[np.linspace(0, flat.size - 1, limit).round().astype(np.int64)]


def save(file: Path, arrays: dict[str, np.ndarray], *, limit: int) -> None:
    """Write endpoints (their own names), `grad:KEY` and `stat:KEY`, at most `limit` values of each, as float32."""
    index, values = [], []
    for name, array in arrays.items():
        array = np.asarray(array, dtype=np.float32)
        assert np.isfinite(array).all(), f"{file.name}: {name} is not finite"
        values.append(sampled(array, limit))
        index.append([name, values[-1].size, array.shape, float(np.abs(array).max())])
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, index=np.array(json.dumps(index)), values=np.concatenate(values))


def load(file: Path) -> dict[str, Stored]:
    """The arrays of a file. `scale` is the largest value; that of a gradient which is 0 but for rounding, because batch
    statistics cancel its bias, is the largest of all gradients."""
    with np.load(file) as stored:
        index, values = json.loads(str(stored["index"])), stored["values"]
    steepest = max((largest for name, _, _, largest in index if name.startswith("grad:")), default=0.0)
    arrays, start = {}, 0
    for name, count, shape, largest in index:
        cancelled = name.startswith("grad:") and largest < 1e-5 * steepest
        arrays[name] = Stored(values[start : start + count], tuple(shape), steepest if cancelled else largest)
        start += count
    return arrays
