"""Which network a file holds, all of whose tensors are there: by its description, or by names and shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from skipway.errors import ModelFileError
from skipway.interchange.doubt import Doubt, without
from skipway.interchange.keras.numbered import in_order
from skipway.interchange.keras.topology import recognize
from skipway.interchange.mapping.described_settings import settled
from skipway.interchange.mapping.matching import Match, best
from skipway.interchange.mapping.resnet_names import TORCH_NAMES
from skipway.interchange.source import Array, Source
from skipway.models.catalog import find_spec
from skipway.reporting import counted

# What names and shapes are held against, for those who bring something else.
NETWORKS = "skipway has AlexNet, Highway and plain networks and ResNet v1 and v2, and no others"

_MOST_SHOWN = 4
_STEM_NORM = tuple(f"stem.norm.{tensor}" for tensor in ("weight", "bias", "running_mean", "running_var"))


def recognized(source: Source, arrays: Mapping[str, Array], model: str) -> tuple[Match, tuple[Doubt, ...]]:
    """The network, all of whose tensors are in the file, and doubts about its settings.

    `model` is the row of the catalog that the user named, or "". Raises ModelFileError where arrays are missing or
    left over, or where no network has such names and shapes; UnknownNameError for the row.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    row = find_spec(model).name if model else ""
    found = _described(source, shapes, row)
    if found is None:
        found = _named(source, arrays, shapes, row)
    match, doubts = found
    _require_complete(source, match, row)
    return match, doubts


def _require_complete(source: Source, match: Match, row: str) -> None:
    """Raises ModelFileError where the network lacks an array, or an array has no place in the network."""
    another = " or name another --model" if row else ""
    if match.scheme in TORCH_NAMES and set(_STEM_NORM) <= set(match.missing):
        raise ModelFileError(
            f"{source.path} has PyTorch's names and no normalization behind its first convolution: a pre-activation "
            "network (ResNet v2), which skipway reads by the names of timm, TF-Slim and Keras only; rename its arrays "
            "as timm's resnetv2 has them"
        )
    if match.missing:
        lacking = []
        for key in match.missing:
            place = match.places[key]
            lacking.append(place.source if place else key)
        raise ModelFileError(
            f"{source.path} looks like {match.spec.name} but lacks {len(lacking)} of its arrays "
            f"({some_of(lacking)}); give the whole file{another}"
        )
    if match.left:
        raise ModelFileError(
            f"{source.path} looks like {match.spec.name}, but nobody takes {len(match.left)} of its arrays "
            f"({some_of(match.left)}); leave out with --allow-unused PATTERN what the network does without{another}: "
            f"{NETWORKS}"
        )


def _described(
    source: Source, shapes: Mapping[str, tuple[int, ...]], row: str
) -> tuple[Match, tuple[Doubt, ...]] | None:
    """The network that a Keras file describes, whatever its layers are called; None where it describes none, or
    another one than the row that is asked for.
    """
    if source.framework != "keras":
        return None
    try:
        found = recognize(source)
    except ModelFileError:
        if row:
            return None
        raise
    if found is None or (row and found.spec.name != row):
        return None
    taken = {place.source for place in found.places.values() if place}
    left = tuple(name for name in shapes if name not in taken)
    match = Match(found.spec, "keras_graph", found.places, left, ())
    named = best(shapes)
    if named is None or named.left or named.missing:
        return match, found.doubts
    # Who uses these names prepares pictures alike, whatever the network's depths.
    spec = found.spec.replaced({"preprocessing": named.spec.preprocessing})
    return dataclasses.replace(match, spec=spec), without("pictures", found.doubts)


def _named(
    source: Source, arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], row: str
) -> tuple[Match, tuple[Doubt, ...]]:
    """The network by the names of its arrays; what the layers say beside them counts unless a row is asked for."""
    rows = frozenset({row}) if row else frozenset()
    match = best(shapes, rows)
    if match is None:
        by_order = in_order(source, shapes, row)
        if by_order is not None:
            return by_order
        raise _unknown_names(source, arrays, row)
    if row:
        return match, ()
    spec, doubts = settled(match.spec, match.scheme, source)
    return dataclasses.replace(match, spec=spec), doubts


def _unknown_names(source: Source, arrays: Mapping[str, Array], row: str) -> ModelFileError:
    if "conv2d/kernel" in arrays and not source.layers:
        return ModelFileError(
            f"{source.path} numbers its layers instead of naming them, and does not describe them; save the whole "
            'model with model.save("FILE.keras")'
        )
    wanted = f"{row} by any names that skipway knows" if row else "a network that skipway knows"
    fix = "name another --model, or none" if row else NETWORKS
    return ModelFileError(
        f"{source.path} holds {counted(len(arrays), 'array')} ({some_of(arrays)}), but not {wanted}; {fix}"
    )


def some_of(names: Mapping[str, Any] | Sequence[str]) -> str:
    """The first names, for a message."""
    shown = list(names)
    text = ", ".join(shown[:_MOST_SHOWN])
    return f"{text}, ..." if len(shown) > _MOST_SHOWN else text
