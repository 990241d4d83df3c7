"""Write state dicts as torch.save does: the zip that every version since 1.6 reads, or the form before it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from skipway.errors import ModelFileError
from skipway.files import write_whole


def write(path: Path, arrays: Mapping[str, np.ndarray], *, legacy: bool = False) -> None:
    """Write arrays by name as a state dict, whole or not at all. Raises ModelFileError for types that torch lacks,
    StorageError."""
    state = OrderedDict((name, _tensor(name, array)) for name, array in arrays.items())
    write_whole(path, lambda temporary: _save(temporary, state, legacy=legacy))


def _save(file: Path, state: Mapping[str, torch.Tensor], *, legacy: bool) -> None:
    with file.open("wb") as opened:  # given a name, torch.save would store that of the temporary file
        torch.save(state, opened, _use_new_zipfile_serialization=not legacy)


def _tensor(name: str, array: np.ndarray) -> torch.Tensor:
    native = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    try:
        # torch warns of an array that may not be written to, though nobody will.
        return torch.from_numpy(native if native.flags.writeable else native.copy())
    except TypeError:
        raise ModelFileError(f"{name} is {array.dtype}, which PyTorch does not hold; convert it to float32") from None
