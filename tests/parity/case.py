"""One comparison, as plain values that an environment without torch can read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

# Enough values of each endpoint that a wrong pixel, channel or scale cannot hide; few enough to commit.
SAMPLES = 256
FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Case:
    """A row of the catalog at one picture size.

    `fields` change the row's spec, as plain values (`Spec.to_dict`). `training`: normalize with batch statistics, and
    compare the updated running ones. `gradient`: compare the gradient of sum(c * logits) by every parameter. `full`:
    the network at its full depth, which only `make parity` runs. Pictures reach from -scale to scale.
    """

    name: str
    row: str
    side: int
    fields: dict[str, Any] = field(default_factory=dict)
    batch: int = 2
    training: bool = False
    gradient: bool = False
    full: bool = False
    scale: float = 1.0
    tolerance: float = 1e-5


def plain_blocks(unit: str, *stages: tuple[tuple[int, int, int], ...]) -> list[dict[str, Any]]:
    """`Spec.to_dict`'s form of blocks called stage1, stage2... with these rows."""
    return [
        {"name": f"stage{number}", "unit": unit, "rows": [list(row) for row in rows]}
        for number, rows in enumerate(stages, 1)
    ]


def sampled(values: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` of the values, evenly spread, the first and the last among them."""
    flat = np.asarray(values).reshape(-1)
    if flat.size <= limit:
        return flat
    return flat[np.linspace(0, flat.size - 1, limit).round().astype(np.int64)]


def save(file: Path, arrays: dict[str, np.ndarray], *, limit: int) -> None:
    """Write endpoints (their own names), `grad:KEY` and `stat:KEY` with shape and largest value."""
    stored: dict[str, np.ndarray] = {}
    for name, values in arrays.items():
        values = np.asarray(values, dtype=np.float32)
        assert np.isfinite(values).all(), f"{file.name}: {name} is not finite"
        stored[name] = sampled(values, limit)
        stored[f"{name}|shape"] = np.array(values.shape, dtype=np.int64)
        stored[f"{name}|max"] = np.array(np.abs(values).max())
    file.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if limit <= SAMPLES else np.savez)(file, **stored)
