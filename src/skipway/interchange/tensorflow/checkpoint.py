"""TensorFlow's checkpoints, of version 1 and 2, read and written without TensorFlow.

The arrays come under the names that they were saved by, with all that training added to them: slots of optimizers,
moving averages, counters. The module `names` tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast

import numpy as np

from skipway.errors import ModelFileError
from skipway.interchange.source import Notes, WeightFile
from skipway.interchange.tensorflow.bundle import read_bundle
from skipway.interchange.tensorflow.paths import find
from skipway.interchange.tensorflow.sstable import is_table
from skipway.interchange.tensorflow.v1 import read_v1, write_v1
from skipway.interchange.tensorflow.write_bundle import write_bundle


def looks_like(head: bytes, path: Path) -> bool:
    """Whether a path means a checkpoint. `head` are the first bytes of the file, empty where there is no file.

    The first bytes identify a state file only; a table is known by its last bytes. A prefix, a folder and a shard of
    values have no such bytes: the index beside them, or in the folder, decides.
    """
    is_state_file = head.lstrip().startswith(b"model_checkpoint_path:")
    if is_state_file:
        return True
    try:
        if path.is_file() and is_table(path):
            return True
        is_shard = ".data-" in path.name
        if head and not path.is_dir() and not is_shard:
            return False
        find(path)
    except (OSError, ValueError, ModelFileError):
        return False
    return True


def read(path: Path) -> WeightFile:
    """Read a checkpoint by its prefix, any of its files, its folder or the folder's file `checkpoint`.

    `notes` say what was found (`found`, `version`, `shards`), which entries hold no numbers (`others`, with their
    type) and which arrays are given as float32 instead of their own type (`widened`). Raises ModelFileError.
    """
    found = find(path)
    if found.version == "V2":
        index = found.tables[0]
        contents = read_bundle(found.prefix, index)
    else:
        contents = read_v1(found.tables)
    notes = {
        "found": found.description,
        "version": found.version,
        "others": contents.others,
        "widened": contents.widened,
        **contents.notes,
    }
    return WeightFile(
        format=f"TensorFlow checkpoint {found.version}",
        path=found.prefix,
        arrays=MappingProxyType(contents.arrays),
        notes=cast(Notes, notes),
    )


def write(path: Path, arrays: Mapping[str, np.ndarray], version: Literal["V1", "V2"] = "V2") -> None:
    """Write a checkpoint that TensorFlow restores: V2 as PREFIX.index and one shard beside it, V1 as one file.

    `path` is the prefix. Raises StorageError, and ModelFileError for arrays of a type that TensorFlow does not have.
    """
    if version == "V1":
        write_v1(path, arrays)
    else:
        write_bundle(path, arrays)
