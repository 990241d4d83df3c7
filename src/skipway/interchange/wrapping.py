"""Names of state dicts whose network was a part of something: Lightning's `model.`, a detector's `backbone.body.`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from skipway.errors import ModelFileError
from skipway.interchange.mapping.matching import best
from skipway.interchange.source import Array, Source

_FORMATS = ("torch", "safetensors", "directory", "index")
_DEEPEST = 4
_HEAD = re.compile(r"fc\.\d+\.(weight|bias)")


def bare_names(source: Source, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays by the names that the network itself gives them, where the file is of torch's; the rest as they are.

    A prefix goes if what follows it are the names of a network that is all there and the file's own names are none's,
    and the number in `fc.1.weight`, where the one layer with weights of a classifier made of several has it. Raises
    ModelFileError where several prefixes hold a network.
    """
    if source.format not in _FORMATS:
        return dict(arrays)
    prefix = _prefix(source, arrays)
    bare = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return _with_plain_head(bare if len(bare) == len(arrays) else dict(arrays))


def _prefix(source: Source, arrays: Mapping[str, Array]) -> str:
    shapes = {name: array.shape for name, array in arrays.items()}
    if best(shapes) is not None:
        return ""
    below: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        parts = name.split(".")
        for depth in range(1, min(_DEEPEST, len(parts) - 1) + 1):
            below.setdefault(".".join(parts[:depth]) + ".", {})[".".join(parts[depth:])] = shape
    matches = {prefix: match for prefix, inner in below.items() if (match := best(inner)) is not None}
    whole = [prefix for prefix, match in matches.items() if not match.missing]
    if len(whole) > 1:
        raise ModelFileError(
            f"{source.path} holds {len(whole)} networks ({_some(whole)}); leave out all but one with "
            f"--allow-unused '{whole[-1]}*'"
        )
    # One that lacks something is taken, too, for the error that names it.
    return next(iter(whole or matches), "")


def _with_plain_head(arrays: dict[str, Array]) -> dict[str, Array]:
    head = [name for name in arrays if name.startswith("fc.")]
    layers = {name.rpartition(".")[0] for name in head}
    if len(layers) != 1 or not all(_HEAD.fullmatch(name) for name in head):
        return arrays
    return {f"fc.{name.rpartition('.')[2]}" if name in head else name: array for name, array in arrays.items()}


def _some(prefixes: Sequence[str]) -> str:
    return ", ".join(prefixes[:4]) + (", ..." if len(prefixes) > 4 else "")
