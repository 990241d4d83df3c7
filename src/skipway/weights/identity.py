"""The pictures that a network was trained on, as tensors beside its weights in the model file."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skipway.data.identity import SEEN_BYTES, Identity, Seen
from skipway.data.thumbnails import SIDE
from skipway.errors import ModelFileError
from skipway.reporting import counted

PREFIX = "identity."
_COMPLETE = "complete"
_WIDTHS = {"digests": SEEN_BYTES, "thumbnails": SIDE * SIDE}  # bytes of a picture


def identity_tensors(identity: Identity) -> dict[str, Tensor]:
    """An identity as uint8 tensors, whose names begin with `PREFIX`."""
    complete = int(identity.complete)
    tensors = {PREFIX + _COMPLETE: torch.tensor([complete], dtype=torch.uint8)}
    groups = {"trained": identity.trained, "held_out": identity.held_out}
    for group, seen in groups.items():
        for name in _WIDTHS:
            values = np.array(getattr(seen, name))
            tensors[f"{PREFIX}{group}.{name}"] = torch.from_numpy(values)
    return tensors


def identity_of(tensors: dict[str, Tensor]) -> Identity | None:
    """The identity among a model file's tensors; None where it has none. Raises ModelFileError for a damaged one."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(PREFIX):
            found[name.removeprefix(PREFIX)] = tensor
    if not found:
        return None
    complete = found.pop(_COMPLETE, None)
    message = "its list of training pictures does not say whether it is complete"
    if complete is None:
        raise ModelFileError(message)
    if complete.shape != (1,) or complete.dtype != torch.uint8:
        raise ModelFileError(message)
    widths: dict[str, int] = {}
    for group in ("trained", "held_out"):
        for name, width in _WIDTHS.items():
            widths[f"{group}.{name}"] = width
    if set(found) != set(widths):
        raise ModelFileError(f"its list of training pictures has other parts than {', '.join(sorted(widths))}")
    for name, tensor in found.items():
        width = widths[name]
        has_rows = tensor.shape[1:] == (width,)  # two dimensions, the second of this size
        if tensor.dtype != torch.uint8 or not has_rows:
            raise ModelFileError(f"{PREFIX}{name} must be bytes in rows of {width}")
    return Identity(_seen(found, "trained"), _seen(found, "held_out"), bool(complete.item()))


def _seen(found: dict[str, Tensor], group: str) -> Seen:
    """The pictures of a group. Raises ModelFileError where some have a thumbnail and others not."""
    digests = found[f"{group}.digests"].numpy()
    thumbnails = found[f"{group}.thumbnails"].numpy()
    if len(thumbnails) not in {0, len(digests)}:
        raise ModelFileError(
            f"{PREFIX}{group} has {counted(len(digests), 'digest')} and {counted(len(thumbnails), 'thumbnail')}"
        )
    return Seen(digests, thumbnails)
