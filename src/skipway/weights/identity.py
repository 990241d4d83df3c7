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
_WIDTHS = {"digests": SEEN_BYTES, "thumbnails": SIDE * SIDE}


def identity_tensors(identity: Identity) -> dict[str, Tensor]:
    """An identity as uint8 tensors, whose names begin with `PREFIX`."""
    groups = {"trained": identity.trained, "held_out": identity.held_out}
    complete = torch.tensor([int(identity.complete)], dtype=torch.uint8)
    return {f"{PREFIX}{_COMPLETE}": complete} | {
        f"{PREFIX}{group}.{name}": torch.from_numpy(np.array(getattr(seen, name)))
        for group, seen in groups.items()
        for name in _WIDTHS
    }


def identity_of(tensors: dict[str, Tensor]) -> Identity | None:
    """The identity among a model file's tensors; None where it has none. Raises ModelFileError for a damaged one."""
    found = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    if not found:
        return None
    wanted = {f"{group}.{name}": width for group in ("trained", "held_out") for name, width in _WIDTHS.items()}
    complete = found.pop(_COMPLETE, None)
    if complete is None or complete.shape != (1,) or complete.dtype != torch.uint8:
        raise ModelFileError("its list of training pictures does not say whether it is complete")
    if set(found) != set(wanted):
        raise ModelFileError(f"its list of training pictures has other parts than {', '.join(sorted(wanted))}")
    for name, tensor in found.items():
        if tensor.dtype != torch.uint8 or tensor.ndim != 2 or tensor.shape[1] != wanted[name]:
            raise ModelFileError(f"{PREFIX}{name} must be bytes in rows of {wanted[name]}")
    return Identity(_seen(found, "trained"), _seen(found, "held_out"), bool(complete.item()))


def _seen(found: dict[str, Tensor], group: str) -> Seen:
    digests, thumbnails = (found[f"{group}.{name}"].numpy() for name in _WIDTHS)
    if len(thumbnails) not in {0, len(digests)}:
        raise ModelFileError(
            f"{PREFIX}{group} has {counted(len(digests), 'digest')} and {counted(len(thumbnails), 'thumbnail')}"
        )
    return Seen(digests, thumbnails)
