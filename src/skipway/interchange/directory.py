"""Folders as Hugging Face's hub keeps the models of its ResNet and of timm.

A config.json stands beside the weights, which are in one file, or in several that an index lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skipway.errors import ModelFileError
from skipway.files import read_bounded
from skipway.interchange.containers.blobs import damaged
from skipway.interchange.foreign import checked_head
from skipway.interchange.source import Array, Notes, WeightFile
from skipway.interchange.torch import read as torch_file
from skipway.interchange.torch import safetensors as safetensors_file
from skipway.reporting import agreeing, counted

CONFIG = "config.json"
PREPROCESSOR_CONFIG = "preprocessor_config.json"
# In the order of preference.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_INDEX = ".index.json"
_MAX_JSON = 8 << 20


def looks_like(head: bytes, path: Path) -> bool:  # noqa: ARG001 (a folder has no first bytes)
    """Whether `path` is such a folder, or the index of weights in several files."""
    if not path.is_dir():
        return path.name.endswith(_INDEX)
    for name in WEIGHTS:
        file = path / name
        if file.exists():
            return True
    return False


def read(path: Path) -> WeightFile:
    """The arrays of a folder or of an index; the notes hold its config under `config` and `preprocessor_config`.

    Raises ModelFileError.
    """
    if not path.is_dir():
        return _read_index(path)
    chosen = _weights_in(path)
    if chosen is None:
        raise ModelFileError(f"{path} holds none of {', '.join(WEIGHTS)}; give the weight file itself")
    if chosen.name.endswith(_INDEX):
        source = _read_index(chosen)
    else:
        read_weights = _reader(chosen.name)
        source = read_weights(chosen)
    notes = source.notes.copy()
    config = path / CONFIG
    if config.exists():
        notes["config"] = _json(config)
    preprocessor_config = path / PREPROCESSOR_CONFIG
    if preprocessor_config.exists():
        notes["preprocessor_config"] = _json(preprocessor_config)
    notes["weights"] = chosen.name
    notes["weights_format"] = source.format
    return WeightFile("directory", path, source.arrays, source.layers, source.warnings, notes)


def _weights_in(folder: Path) -> Path | None:
    """The file or index that is preferred. A link whose target is gone counts: reading it says so."""
    for name in WEIGHTS:
        file = folder / name
        if file.exists() or file.is_symlink():
            return file
    return None


def _read_index(path: Path) -> WeightFile:
    """Weights in several files: `weight_map` says which array lies in which."""
    index = _json(path)
    file_of = _checked_places(path, index.get("weight_map"))
    sources: dict[str, WeightFile] = {}
    total = 0
    for file in sorted(set(file_of.values())):
        read_weights = _reader(file)
        source = read_weights(path.parent / file)
        sources[file] = source
        total += len(source.arrays)
    arrays: dict[str, Array] = {}
    for name, file in file_of.items():
        stored = sources[file].arrays
        if name not in stored:
            raise damaged(path, f"names {name[:100]!r}, which {file} does not hold", "get all of its files")
        array = stored[name]
        arrays[array.name] = array
    unlisted = total - len(file_of)
    warnings: tuple[str, ...] = ()
    if unlisted:
        are = agreeing(unlisted, "is", "are")
        they_are = agreeing(unlisted, "it is", "they are")
        warnings = (f"{counted(unlisted, 'array')} {are} in the files but not in the index; {they_are} left out",)
    notes: Notes = {"files": tuple(sources), "index_metadata": index.get("metadata", {})}
    return WeightFile("index", path, arrays, warnings=warnings, notes=notes)


def _checked_places(path: Path, places: object) -> dict[str, str]:
    """The index's map from arrays to files, all of which must lie beside it. Raises ModelFileError."""
    if not isinstance(places, dict) or not places:
        raise damaged(path, "is no index of weights (it lacks a weight_map)")
    for file in places.values():
        if not isinstance(file, str):
            raise damaged(path, "is no index of weights (it lacks a weight_map)")
        if not _is_plain_name(file):
            raise damaged(path, f"names a file outside its folder ({file[:100]!r})", "get it from its author")
    return places


def _is_plain_name(name: str) -> bool:
    """Whether it is the name of a file, without a folder on any system."""
    has_separator = "\\" in name or "\0" in name
    if has_separator or not name:
        return False
    return name == Path(name).name


def _reader(name: str) -> Callable[[Path], WeightFile]:
    """The function that reads a weight file of this name."""
    endings = (".safetensors", f".safetensors{_INDEX}")
    if name.endswith(endings):
        return safetensors_file.read
    return torch_file.read


def _json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises ModelFileError."""
    checked_head(path)
    try:
        text = read_bounded(path, _MAX_JSON).decode()
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:100]
        raise damaged(path, f"is no JSON ({reason})") from None
    if not isinstance(content, dict):
        raise damaged(path, "holds no JSON object")
    return content
