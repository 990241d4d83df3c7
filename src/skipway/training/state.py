"""All that a resume needs, in one file a checkpoint, sealed by a SHA-256 of everything before it."""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skipway.errors import NoCheckpointError, RunError, SkipwayError
from skipway.files import write_whole
from skipway.training.history import checked_row

_FORMAT = 2
_UNSEALED = 1  # the format of checkpoints without a seal
_NAME = re.compile(r"step-(\d{8})\.pt")
_MARK = b"skipway sha-256\n"
_SEAL_BYTES = len(_MARK) + hashlib.sha256().digest_size
_CONTENTS: dict[str, type] = {
    "network": dict,
    "optimizer": dict,
    "scaler": dict,
    "spec": dict,
    "preprocessing": dict,
    "fingerprint": str,
    "recipe": str,
}
_MOST_SECONDS = 1e10  # 300 years
_MOST_STEPS = 10**8 - 1  # what the name of a checkpoint has digits for


class DamagedError(SkipwayError):
    """A checkpoint that is not what was written."""


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
    best_epoch: int = 0  # 0: none yet
    best_top1: float = -1.0
    best_loss: float = float("inf")
    stopped_early: bool = False

    @classmethod
    def from_plain(cls, plain: Any) -> Progress:
        """Progress as a checkpoint holds it. Raises RunError for a field that is missing, unknown or impossible."""
        names = {one.name for one in fields(cls)}
        if not isinstance(plain, Mapping) or set(plain) != names:
            raise RunError(f"its progress must have the fields {', '.join(sorted(names))}")
        rows = plain["history"]
        if not isinstance(rows, list):
            raise RunError("its history is no list")
        progress = cls(**{**plain, "history": [checked_row(row) for row in rows]})
        progress.check()
        return progress

    def check(self) -> None:
        """Raises RunError for a field of another type, or with a value that no run reaches."""
        for name in ("step", "right", "seen", "best_epoch"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 2**63:
                raise RunError(f"its {name} is {str(value)[:40]}; it must be a whole number from 0 up")
        for name in ("train_seconds", "total_seconds"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value <= _MOST_SECONDS:  # nor NaN
                raise RunError(f"its {name} is {str(value)[:40]}; it must be a number of seconds")
        for name in ("loss_sum", "best_top1", "best_loss"):
            value = getattr(self, name)
            if type(value) not in (int, float) or math.isnan(value) or (name == "loss_sum" and math.isinf(value)):
                raise RunError(f"its {name} is {str(value)[:40]}; it must be a number")
        if type(self.stopped_early) is not bool:
            raise RunError("its stopped_early must be true or false")
        if self.step > _MOST_STEPS or not self.best_epoch <= len(self.history) <= self.step:
            raise RunError("its steps, epochs and best epoch contradict each other")
        if self.best_epoch and not 0 <= self.best_top1 <= 1:
            raise RunError(f"its best_top1 is {self.best_top1}; it must be a fraction")
        if self.right > self.seen:
            raise RunError(f"it has {self.right} right answers to {self.seen} pictures")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read. `sealed` says that its SHA-256 was there, and right."""

    file: Path
    progress: Progress
    contents: dict[str, Any]
    sealed: bool


def save_checkpoint(folder: Path, progress: Progress, tensors: dict[str, Any], keep: int) -> Path:
    """Write `checkpoints/step-N.pt` and delete all but the `keep` newest. Raises StorageError."""
    file = folder / "checkpoints" / _checkpoint_name(progress.step)
    payload = {"format": _FORMAT, "progress": asdict(progress), **tensors}
    write_whole(file, lambda temporary: write_sealed(temporary, payload))
    for old in checkpoints(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return file


def _checkpoint_name(step: int) -> str:
    return f"step-{step:08d}.pt"


def write_sealed(file: Path, payload: dict[str, Any]) -> None:
    """Write a payload by torch.save, and behind it the SHA-256 of all these bytes."""
    torch.save(payload, file)
    with file.open("r+b") as opened:
        digest = hashlib.file_digest(opened, "sha256").digest()
        opened.seek(0, 2)
        opened.write(_MARK + digest)


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint files of a run, oldest first."""
    found = [one for one in (folder / "checkpoints").glob("step-*.pt") if _NAME.fullmatch(one.name)]
    return sorted(found, key=lambda one: one.name)


def passed_first_step(folder: Path) -> bool:
    """Whether a run has a checkpoint of trained weights: the one of step 0 has those that it was given."""
    return any(file.name != _checkpoint_name(0) for file in checkpoints(folder))


def newest_checkpoint(folder: Path, say: Callable[[str], None]) -> Checkpoint:
    """The newest checkpoint that is whole. `say` gets a line about each newer one that is not.

    Raises NoCheckpointError where there is none, and RunError where one cannot be read for another reason than damage.
    """
    files = checkpoints(folder)
    if not files:
        raise NoCheckpointError(
            f"{folder} cannot be resumed: it holds no checkpoint; restore its checkpoints, or give another --out"
        )
    damaged: list[str] = []
    for file in reversed(files):
        try:
            found = read_checkpoint(file)
        except DamagedError as error:
            damaged.append(f"{file.name} {error}")
            continue
        for line in damaged:
            say(f"{folder}: {line}; continuing from {file.name}")
        return found
    model = folder / "model.safetensors"
    way_on = f", or go on from its best epoch with `skipway train DATA --from {model}`" if model.is_file() else ""
    raise NoCheckpointError(
        f"{folder} cannot be resumed: none of its checkpoints is whole ({'; '.join(damaged)}); restore one from a "
        f"copy{way_on}"
    )


def read_checkpoint(file: Path) -> Checkpoint:
    """One checkpoint. Raises DamagedError where it is not what was written, RunError where it cannot be read."""
    try:
        sealed = _is_sealed(file)
        _refuse_packed(file)
        payload = torch.load(file, map_location="cpu", weights_only=True)
    except DamagedError:
        raise
    except OSError as error:
        raise RunError(f"{file} cannot be read ({error.strerror or error}); mend that, then resume again") from None
    except MemoryError:
        raise RunError(f"{file} does not fit into the memory; free some, then resume again") from None
    except Exception as error:  # torch reports damage in many ways
        if "allocate memory" in str(error):
            raise RunError(f"{file} does not fit into the memory; free some, then resume again") from None
        raise DamagedError("is damaged (it is no checkpoint)") from None
    return _from_payload(file, payload, sealed=sealed)


def _from_payload(file: Path, payload: Any, *, sealed: bool) -> Checkpoint:
    version = payload.pop("format", None) if isinstance(payload, dict) else None
    if type(version) is not int or version < _UNSEALED:
        raise DamagedError("is damaged (it has no format)")
    if version > _FORMAT:
        raise RunError(f"{file} was written by a newer skipway; update this one to resume it")
    if version > _UNSEALED and not sealed:
        raise DamagedError("is damaged (its checksum is gone)")
    if version > _UNSEALED and not isinstance(payload.get("request"), dict):
        raise DamagedError("is damaged (it does not say what was asked for)")
    wrong = [name for name, kind in _CONTENTS.items() if not isinstance(payload.get(name), kind)]
    if wrong:
        raise DamagedError(f"is damaged (it has no proper {', '.join(wrong)})")
    try:
        progress = Progress.from_plain(payload.pop("progress", None))
    except RunError as error:
        raise DamagedError(f"is damaged ({error})") from None
    return Checkpoint(file, progress, payload, sealed)


def _is_sealed(file: Path) -> bool:
    """Whether the file ends with a seal. Raises DamagedError where the seal is another file's."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(max(size - _SEAL_BYTES, 0))
        mark, digest = opened.read(len(_MARK)), opened.read()
        if mark != _MARK:
            return False
        opened.seek(0)
        found, left = hashlib.sha256(), size - _SEAL_BYTES
        while left and (part := opened.read(min(left, 1 << 20))):
            found.update(part)
            left -= len(part)
    if found.digest() != digest:
        raise DamagedError("is damaged (its checksum is another)")
    return True


def _refuse_packed(file: Path) -> None:
    """torch.save packs nothing, but torch.load would unpack without end. Raises DamagedError."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    stored = all(one.compress_type == zipfile.ZIP_STORED for one in members)
    if not stored or sum(one.file_size for one in members) > file.stat().st_size:
        raise DamagedError("is damaged (its parts are packed)")


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether no value is infinite or NaN; one read from the device."""
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    return bool(torch.stack([tensor.sum() for tensor in floating]).isfinite().all()) if floating else True
