"""All that a resume needs, in one file a checkpoint."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skipway.errors import RunError
from skipway.files import write_whole

_FORMAT = 1
_NAME = re.compile(r"step-(\d{8})\.pt")


@dataclass
class Progress:
    """Where a run stands. `step` updates are done; the sums cover the epoch under way.

    No random state is among these: every draw is a function of (seed, epoch, sample) or (seed, step).
    """

    step: int = 0
    loss_sum: float = 0.0
    right: int = 0
    seen: int = 0
    train_seconds: float = 0.0
    total_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_top1: float = -1.0
    best_loss: float = float("inf")
    stopped_early: bool = False


def save_checkpoint(folder: Path, progress: Progress, tensors: dict[str, Any], keep: int) -> Path:
    """Write `checkpoints/step-N.pt` and delete all but the `keep` newest. Raises StorageError."""
    file = folder / "checkpoints" / f"step-{progress.step:08d}.pt"
    payload = {"format": _FORMAT, "progress": asdict(progress), **tensors}
    write_whole(file, lambda temporary: torch.save(payload, temporary))
    for old in checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return file


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint files of a run, oldest first."""
    found = [one for one in (folder / "checkpoints").glob("step-*.pt") if _NAME.fullmatch(one.name)]
    return sorted(found, key=lambda one: one.name)


def load_checkpoint(folder: Path) -> tuple[Progress, dict[str, Any]]:
    """The newest checkpoint that reads. Raises RunError when there is none."""
    files, newer = checkpoints(folder), False
    for file in reversed(files):
        try:
            payload = torch.load(file, map_location="cpu", weights_only=True)
            newer = payload.pop("format") > _FORMAT
            if newer:
                break
            progress = Progress(**payload.pop("progress"))
            for key in ("network", "optimizer", "fingerprint", "recipe", "spec", "preprocessing"):
                payload[key]
        except Exception:  # torch reports damage in many ways; an older checkpoint may still be whole
            continue
        return progress, payload
    if newer:
        raise RunError(f"{folder} was written by a newer skipway; update this one to resume it")
    reason = "none of its checkpoints can be read" if files else "it holds no checkpoint"
    raise RunError(f"{folder} cannot be resumed: {reason}; start it again with --overwrite")


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether no value is infinite or NaN; one read from the device."""
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    return bool(torch.stack([tensor.sum() for tensor in floating]).isfinite().all()) if floating else True
