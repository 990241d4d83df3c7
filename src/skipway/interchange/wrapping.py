"""Names of state dicts whose network was a part of something: Lightning's `model.`, a detector's `backbone.body.`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from skipway.errors import ModelFileError
from skipway.interchange.mapping.matching import best
from skipway.interchange.source import Array, Source

_DEEPEST = 4
_MOST_SHOWN = 4
_HEAD = re.compile(r"fc\.\d+\.(weight|bias)")


def bare_names(source: Source, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays by the names that the network itself gives them, where the file is of torch's; the rest as they are.

    A prefix goes if what follows it are the names of a network that is all there and the file's own names are none's,
    and the number in `fc.1.weight`, where the one layer with weights of a classifier made of several has it. Raises
    ModelFileError where several prefixes hold a network.
    """
    if source.framework != "torch":
        return dict(arrays)
    prefix = _prefix(source, arrays)
    bare = {name.removeprefix(prefix): array for name, array in arrays.items()}
    if len(bare) != len(arrays):
        bare = dict(arrays)
    return _with_plain_head(bare)


def _prefix(source: Source, arrays: Mapping[str, Array]) -> str:
    """What stands before the names of a network that is all there; "" where nothing does."""
    shapes = {name: array.shape for name, array in arrays.items()}
    if best(shapes) is not None:
        return ""
    incomplete: list[str] = []
    complete: list[str] = []
    for prefix, inner in _below_prefixes(shapes).items():
        match = best(inner)
        if match is None:
            continue
        if match.missing:
            incomplete.append(prefix)
        else:
            complete.append(prefix)
    if len(complete) > 1:
        raise ModelFileError(
            f"{source.path} holds {len(complete)} networks ({_some(complete)}); leave out all but one with "
            f"--allow-unused '{complete[-1]}*'"
        )
    # One that lacks something is taken, too, for the error that names it.
    found = complete or incomplete
    return found[0] if found else ""


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
    head = [name for name in arrays if name.startswith("fc.")]
    layers = {name.rpartition(".")[0] for name in head}
    if len(layers) != 1:
        return arrays
    if not all(_HEAD.fullmatch(name) for name in head):
        return arrays
    renamed: dict[str, Array] = {}
    for name, array in arrays.items():
        if name in head:
            tensor = name.rpartition(".")[2]
            renamed[f"fc.{tensor}"] = array
        else:
            renamed[name] = array
    return renamed


def _some(prefixes: Sequence[str]) -> str:
    shown = ", ".join(prefixes[:_MOST_SHOWN])
    return f"{shown}, ..." if len(prefixes) > _MOST_SHOWN else shown
