"""Keras 3 `.keras` files without Keras: a zip of config.json, metadata.json and model.weights.h5.

The inner HDF5 file is read in place where it is stored as it is, as Keras does, else from a temporary file.
"""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from skipway.errors import ModelFileError
from skipway.interchange.containers.hdf5 import opened_tree
from skipway.interchange.containers.hdf5_data import Region
from skipway.interchange.containers.hdf5_texts import TEXT_LIMIT
from skipway.interchange.containers.zips import SIGNATURE, ZipMember, members
from skipway.interchange.foreign import checked_head, describe_foreign
from skipway.interchange.keras.read_h5 import PREPROCESSING, config_of, layers_with_arrays
from skipway.interchange.keras.variables import read_numbered
from skipway.interchange.source import Notes, WeightFile

FORMAT = "keras_zip"
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


def looks_like(head: bytes, path: Path) -> bool:
    """Whether a file is a zip that holds a Keras model. `head` is its first bytes."""
    if not head.startswith(SIGNATURE):
        return False
    try:
        names = set(members(path))
    except ModelFileError:
        return False
    return {CONFIG, METADATA} <= names


def read(path: Path) -> WeightFile:
    """Read the structure of a `.keras` file. Raises ModelFileError where it is damaged or another file."""
    head = checked_head(path)
    if not head.startswith(SIGNATURE):
        other = describe_foreign(head)
        raise ModelFileError(f"{path} is no .keras file but {other}")
    found = members(path)
    missing = {CONFIG, WEIGHTS} - set(found)
    if missing:
        names = " and ".join(sorted(missing))
        raise ModelFileError(f"{path} is a zip without {names}, hence no .keras file; check its ending")
    config = _text(path, found[CONFIG])
    notes: dict[str, Any] = _metadata(path, found)
    region = _region(path, found[WEIGHTS])
    with opened_tree(region, path) as tree:
        model = config_of(tree, config)
        assert model is not None  # there is a text
        arrays, owners, stored, warnings = read_numbered(tree, tree.root, model)
    notes = {**notes, **model.notes, **stored, "model": model.name}
    layers = layers_with_arrays(model, owners)
    warnings = [*model.warnings, *warnings]
    return WeightFile(FORMAT, path, MappingProxyType(arrays), layers, tuple(warnings), cast(Notes, notes))


def _text(path: Path, member: ZipMember) -> str:
    """A member as text. Raises ModelFileError where it is too large, or no UTF-8 text."""
    if member.size > TEXT_LIMIT:
        raise ModelFileError(
            f"{path}: {member.name} declares {member.size} bytes, beyond any network; get another copy"
        )
    try:
        return member.content().decode()
    except UnicodeDecodeError:
        raise ModelFileError(f"{path}: {member.name} is no text; copy it again") from None


def _metadata(path: Path, found: dict[str, ZipMember]) -> dict[str, Any]:
    """The entries of metadata.json that are kept as notes."""
    if METADATA not in found:
        return {}
    try:
        stated = json.loads(_text(path, found[METADATA]))
    except (ValueError, RecursionError):
        raise ModelFileError(f"{path}: {METADATA} is no JSON; copy it again") from None
    if not isinstance(stated, dict):
        return {}
    kept = {"keras_version", "date_saved", PREPROCESSING}
    return {key: value for key, value in stated.items() if key in kept}


def _region(path: Path, member: ZipMember) -> Region:
    """The inner HDF5 file. A compressed one is unpacked into a temporary file. Raises ModelFileError."""
    if member.start is not None:
        member.load(0, 0)  # compares the checksum
        return Region(path, member.start, member.size)
    try:
        unpacked = _Unpacked(member)
    except OSError as error:
        raise ModelFileError(f"{path}: no room to unpack {member.name} ({error}); free some in TMPDIR") from None
    return Region(unpacked.path, 0, member.size, unpacked)


class _Unpacked:
    """A compressed member as a temporary file, which is deleted with the last array that reads from it."""

    def __init__(self, member: ZipMember) -> None:
        handle, name = tempfile.mkstemp(prefix="skipway-", suffix=".h5")
        self.path = Path(name)
        weakref.finalize(self, self.path.unlink, missing_ok=True)
        with os.fdopen(handle, "wb") as opened:
            unpacked = member.load(0, member.size)
            opened.write(unpacked.data)
