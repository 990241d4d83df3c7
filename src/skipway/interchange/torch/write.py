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
    """Write arrays by name as a state dict, whole or not at all. `legacy` chooses the form before PyTorch 1.6.

    Raises ModelFileError for types that PyTorch does not have, StorageError where the disk does not take the file.
    """
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    for name, array in arrays.items():
        state[name] = _tensor(name, array)

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as opened:  # given a name, torch.save would store that of the temporary file
            torch.save(state, opened, _use_new_zipfile_serialization=not legacy)

    write_whole(path, fill)


def _tensor(name: str, array: np.ndarray) -> torch.Tensor:
    """An array as a tensor. Raises ModelFileError for a type that PyTorch does not have."""
    native = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    if not native.flags.writeable:
        # torch warns of an array that may not be written to, though nobody will.
        native = native.copy()
    try:
        return torch.from_numpy(native)
    except TypeError:
        raise ModelFileError(f"{name} is {array.dtype}, which PyTorch does not hold; convert it to float32") from None
