"""The same random pictures in every contestant's environment: NumPy's generator gives each the same stream."""

from __future__ import annotations

from typing import Any

import numpy as np

ANSWERED = 2  # pictures whose logits are compared


def pictures(settings: dict[str, Any], *, channels_last: bool = False) -> np.ndarray:
    """float32 (N, 3, S, S), or (N, S, S, 3), uniform from 0 to 1, where N is `batch_size` and S is `side`."""
    side = settings["side"]
    drawn = np.random.default_rng(0).random((settings["batch_size"], 3, side, side), dtype=np.float32)
    return np.ascontiguousarray(drawn.transpose(0, 2, 3, 1)) if channels_last else drawn


def counts(settings: dict[str, Any], *, channels_last: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """uint8 pictures as above, and int64 targets (N,) below `classes`."""
    drawn = (256 * pictures(settings, channels_last=channels_last)).astype(np.uint8)
    return drawn, np.random.default_rng(1).integers(0, settings["classes"], len(drawn))


def answers(logits: Any) -> list[list[float]]:
    """The first pictures' logits, for the comparison."""
    return np.asarray(logits, np.float64).reshape(len(logits), -1)[:ANSWERED].tolist()
