"""Names of state dicts whose network was a part of something: Lightning's `model.`, a detector's `backbone.body.`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from skipway.errors import ModelFileError
from skipway.interchange.mapping.matching import best
from skipway.interchange.source import Array, WeightFile

_DEEPEST = 4
_MOST_SHOWN = 4
_HEAD = re.compile(r"fc\.\d+\.(weight|bias)")


def bare_names(source: WeightFile, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays by the names that the network itself gives them, in a file of PyTorch; others stay as they are.

    A prefix is removed where the names behind it are those of a whole network, and the file's own names are those of
    none. The number in `fc.1.weight` is removed where that is the only layer with weights in a classifier of several
    layers. Raises ModelFileError where several prefixes hold a network.
    """
    if source.framework != "torch":
        return dict(arrays)
    prefix = _prefix(source, arrays)
    bare = {name.removeprefix(prefix): array for name, array in arrays.items()}
    if len(bare) != len(arrays):
        bare = dict(arrays)
    return _with_plain_head(bare)


def _prefix(source: WeightFile, arrays: Mapping[str, Array]) -> str:
    """The prefix of the names of a whole network; "" where no prefix has one."""
    shapes = {name: array.shape for name, array in arrays.items()}
    if best(shapes) is not None:
        return ""
    incomplete: list[str] = []
    complete: list[str] = []
    for prefix, inner_shapes in _below_prefixes(shapes).items():
        match = best(inner_shapes)
        if match is None:
            continue
        if match.missing:
            incomplete.append(prefix)
        else:
            complete.append(prefix)
    if len(complete) > 1:
        last = complete[-1]
        raise ModelFileError(
            f"{source.path} holds {len(complete)} networks ({_some(complete)}); leave out all but one with "
            f"--allow-unused '{last}*'"
        )
    if complete:
        return complete[0]
    if incomplete:
        return incomplete[0]  # the error about it will name what it lacks
    return ""


def _below_prefixes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, tuple[int, ...]]]:
    """For each prefix of one to four words the names behind it, with their shapes."""
    below: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        parts = name.split(".")
        deepest = min(_DEEPEST, len(parts) - 1)
        for depth in range(1, deepest + 1):
            prefix = ".".join(parts[:depth]) + "."
            rest = ".".join(parts[depth:])
            below.setdefault(prefix, {})[rest] = shape
    return below


def _with_plain_head(arrays: dict[str, Array]) -> dict[str, Array]:
    """The names with `fc.weight` and `fc.bias` for `fc.1.weight` and `fc.1.bias`, if these are all that fc has."""
    layers: set[str] = set()
    for name in arrays:
        if not name.startswith("fc."):
            continue
        if not _HEAD.fullmatch(name):
            return arrays
        layer = name.rpartition(".")[0]
        layers.add(layer)
    if len(layers) != 1:
        return arrays
    renamed: dict[str, Array] = {}
    for name, array in arrays.items():
        new_name = name
        if name.startswith("fc."):
            tensor = name.rpartition(".")[2]
            new_name = f"fc.{tensor}"
        renamed[new_name] = array
    return renamed


def _some(prefixes: Sequence[str]) -> str:
    """The first prefixes, for a message."""
    text = ", ".join(prefixes[:_MOST_SHOWN])
    if len(prefixes) > _MOST_SHOWN:
        text += ", ..."
    return text
