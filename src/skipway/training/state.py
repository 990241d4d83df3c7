"""Checkpoints: all that a resume needs in one file, which a SHA-256 of everything before it closes."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skipway.errors import NoCheckpointError, RunError, SkipwayError
from skipway.files import write_whole
from skipway.training.progress import Progress

_FORMAT = 2
_UNSEALED = 1  # the format of checkpoints without a seal
_NAME = re.compile(r"step-(\d{8})\.pt")
_CHUNK_BYTES = 1 << 20
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


class DamagedError(SkipwayError):
    """A checkpoint that is not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read."""

    file: Path
    progress: Progress
    contents: dict[str, Any]  # all but the format and the progress
    sealed: bool  # the file had its SHA-256, and that was right


def save_checkpoint(folder: Path, progress: Progress, tensors: dict[str, Any], keep: int) -> Path:
    """Write `checkpoints/step-N.pt` and delete all but the `keep` newest. Raises StorageError."""
    file = folder / "checkpoints" / _checkpoint_name(progress.step)
    payload = {"format": _FORMAT, "progress": asdict(progress), **tensors}
    write_whole(file, lambda temporary: write_sealed(temporary, payload))
    older = checkpoints(folder)[:-keep]
    for old_file in older:
        old_file.unlink(missing_ok=True)
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
    found: list[Path] = []
    for file in (folder / "checkpoints").glob("step-*.pt"):
        if _NAME.fullmatch(file.name):
            found.append(file)
    return sorted(found, key=lambda file: file.name)


def passed_first_step(folder: Path) -> bool:
    """Whether a run has a checkpoint of trained weights. The weights of step 0 are those that it began with."""
    first_name = _checkpoint_name(0)
    return any(file.name != first_name for file in checkpoints(folder))


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
            checkpoint = read_checkpoint(file)
        except DamagedError as error:
            damaged.append(f"{file.name} {error}")
            continue
        for damage in damaged:
            say(f"{folder}: {damage}; continuing from {file.name}")
        return checkpoint
    fix = "restore one from a copy"
    model = folder / "model.safetensors"
    if model.is_file():
        fix += f", or go on from its best epoch with `skipway train DATA --from {model}`"
    damages = "; ".join(damaged)
    raise NoCheckpointError(f"{folder} cannot be resumed: none of its checkpoints is whole ({damages}); {fix}")


def read_checkpoint(file: Path) -> Checkpoint:
    """One checkpoint. Raises DamagedError where it is not what was written, RunError where it cannot be read."""
    too_large = f"{file} does not fit into the memory; free some, then resume again"
    try:
        sealed = _is_sealed(file)
        _refuse_packed(file)
        payload = torch.load(file, map_location="cpu", weights_only=True)
    except DamagedError:
        raise
    except OSError as error:
        cause = error.strerror or error
        raise RunError(f"{file} cannot be read ({cause}); mend that, then resume again") from None
    except MemoryError:
        raise RunError(too_large) from None
    except Exception as error:  # torch reports damage in many ways
        if "allocate memory" in str(error):
            raise RunError(too_large) from None
        raise DamagedError("is damaged (it is no checkpoint)") from None
    return _from_payload(file, payload, sealed=sealed)


def _from_payload(file: Path, payload: Any, *, sealed: bool) -> Checkpoint:
    """The checkpoint that a file holds. Raises DamagedError, and RunError for a format of a later version."""
    version = None
    if isinstance(payload, dict):
        version = payload.pop("format", None)
    if type(version) is not int or version < _UNSEALED:
        raise DamagedError("is damaged (it has no format)")
    if version > _FORMAT:
        raise RunError(f"{file} was written by a newer skipway; update this one to resume it")
    if version > _UNSEALED:
        if not sealed:
            raise DamagedError("is damaged (its checksum is gone)")
        if not isinstance(payload.get("request"), dict):
            raise DamagedError("is damaged (it does not say what was asked for)")
    wrong: list[str] = []
    for name, kind in _CONTENTS.items():
        if not isinstance(payload.get(name), kind):
            wrong.append(name)
    if wrong:
        raise DamagedError(f"is damaged (it has no proper {', '.join(wrong)})")
    plain_progress = payload.pop("progress", None)
    try:
        progress = Progress.from_plain(plain_progress)
    except RunError as error:
        raise DamagedError(f"is damaged ({error})") from None
    return Checkpoint(file, progress, payload, sealed)


def _is_sealed(file: Path) -> bool:
    """Whether the file ends with a seal. Raises DamagedError where the seal is another file's."""
    size = file.stat().st_size
    left = size - _SEAL_BYTES
    with file.open("rb") as opened:
        opened.seek(max(left, 0))
        mark = opened.read(len(_MARK))
        digest = opened.read()
        if mark != _MARK:
            return False
        opened.seek(0)
        found = hashlib.sha256()
        while left:
            chunk = opened.read(min(left, _CHUNK_BYTES))
            if not chunk:
                break
            found.update(chunk)
            left -= len(chunk)
    if found.digest() != digest:
        raise DamagedError("is damaged (its checksum is another)")
    return True


def _refuse_packed(file: Path) -> None:
    """Raises DamagedError for compressed parts. torch.save compresses nothing, but torch.load would unpack without end.

    Raises what zipfile raises for a file that is no zip archive.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    total_size = 0
    all_stored = True
    for member in members:
        total_size += member.file_size
        if member.compress_type != zipfile.ZIP_STORED:
            all_stored = False
    if not all_stored or total_size > file.stat().st_size:
        raise DamagedError("is damaged (its parts are packed)")


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether no value is infinite or NaN, with a single read from the device."""
    sums = [tensor.sum() for tensor in tensors if tensor.is_floating_point()]
    if not sums:
        return True
    return bool(torch.stack(sums).isfinite().all())
