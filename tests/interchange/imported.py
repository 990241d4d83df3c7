"""How far an imported model is from what its framework answered, and files of frameworks with something changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.contracts.tiny import relative
from tests.interchange.fixtures.importing.common import pixels

from skipway.weights.bundle import load_bundle

SAME = 1e-5


def apart(case: Path, model: Path, average: str = "raw") -> float:
    """How far the imported model's logits are from the framework's, relative to the largest."""
    recorded = np.load(case / "logits.npz")
    bundle = load_bundle(model)
    counts = torch.from_numpy(pixels(int(recorded["side"]))).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = bundle.network()(bundle.preprocessing.standardized(counts))
    return relative(logits, torch.from_numpy(recorded[average]))


def shuffled(file: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    """A torch file with a state dict that `change` changed, or replaced by what it returns."""
    state = torch.load(file, weights_only=True)
    torch.save(change(state) or state, file)
    return file


def without(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key != name}


def copied(written: Path, case: str, tmp_path: Path, file: str = "model.pth") -> Path:
    return Path(shutil.copy(written / case / file, tmp_path / file))
