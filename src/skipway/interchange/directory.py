"""Folders as Hugging Face's hub keeps models, those of its ResNet and of timm: a config.json beside the weights,
in one file or in several that an index lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skipway.errors import ModelFileError
from skipway.files import read_bounded
from skipway.interchange.containers.blobs import damaged
from skipway.interchange.foreign import checked_head
from skipway.interchange.source import Array, Source
from skipway.interchange.torch import read as torch_file
from skipway.interchange.torch import safetensors as safetensors_file
from skipway.reporting import agreeing, counted

CONFIGS = ("config.json", "preprocessor_config.json")
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
    if path.is_dir():
        return any((path / name).exists() for name in WEIGHTS)
    return path.name.endswith(_INDEX)


def read(path: Path) -> Source:
    """The arrays of a folder or of an index; the notes hold its config under `config` and `preprocessor_config`.

    Raises ModelFileError.
    """
    if not path.is_dir():
        return _read_index(path)
    chosen = next((path / name for name in WEIGHTS if (path / name).exists() or (path / name).is_symlink()), None)
    if chosen is None:
        raise ModelFileError(f"{path} holds none of {', '.join(WEIGHTS)}; give the weight file itself")
    source = _read_index(chosen) if chosen.name.endswith(_INDEX) else _reader(chosen.name)(chosen)
    configs = {name.removesuffix(".json"): _json(path / name) for name in CONFIGS if (path / name).exists()}
    return Source(
        "directory",
        path,
        source.arrays,
        source.layers,
        source.warnings,
        {**source.notes, **configs, "weights": chosen.name, "weights_format": source.format},
    )


def _read_index(path: Path) -> Source:
    """Weights in several files: `weight_map` says which array lies in which."""
    index = _json(path)
    places = index.get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise damaged(path, "is no index of weights (it lacks a weight_map)")
    sources: dict[str, Source] = {}
    for file in sorted(set(places.values())):
        if not file or file != Path(file).name or "\\" in file or "\0" in file:
            raise damaged(path, f"names a file outside its folder ({file[:100]!r})", "get it from its author")
        sources[file] = _reader(file)(path.parent / file)
    arrays: list[Array] = []
    for name, file in places.items():
        if name not in sources[file].arrays:
            raise damaged(path, f"names {name[:100]!r}, which {file} does not hold", "get all of its files")
        arrays.append(sources[file].arrays[name])
    unlisted = sum(len(source.arrays) for source in sources.values()) - len(arrays)
    are, they_are = agreeing(unlisted, "is", "are"), agreeing(unlisted, "it is", "they are")
    told = f"{counted(unlisted, 'array')} {are} in the files but not in the index; {they_are} left out"
    warnings = (told,) if unlisted else ()
    by_name = {array.name: array for array in arrays}
    notes = {"files": tuple(sources), "index_metadata": index.get("metadata", {})}
    return Source("index", path, by_name, warnings=warnings, notes=notes)


def _reader(name: str) -> Callable[[Path], Source]:
    return safetensors_file.read if name.endswith((".safetensors", ".safetensors" + _INDEX)) else torch_file.read


def _json(path: Path) -> dict[str, Any]:
    checked_head(path)
    try:
        content = json.loads(read_bounded(path, _MAX_JSON).decode())
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"is no JSON ({str(error)[:100]})") from None
    if not isinstance(content, dict):
        raise damaged(path, "holds no JSON object")
    return content
