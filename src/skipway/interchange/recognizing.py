"""Which network a file holds: by its description, or by the names and shapes of its arrays. All must be there."""

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
from skipway.interchange.source import Array, WeightFile
from skipway.models.catalog import find_spec
from skipway.reporting import counted

# For messages about files of other networks.
NETWORKS = "skipway has AlexNet, Highway and plain networks and ResNet v1 and v2, and no others"

_MOST_SHOWN = 4
_STEM_NORM = tuple(f"stem.norm.{tensor}" for tensor in ("weight", "bias", "running_mean", "running_var"))


def recognized(source: WeightFile, arrays: Mapping[str, Array], model: str) -> tuple[Match, tuple[Doubt, ...]]:
    """The network, all of whose tensors are in the file, and doubts about its settings.

    `model` is the row of the catalog that the user named, or "". Raises ModelFileError where arrays are missing or
    left over, or where no network has such names and shapes; UnknownNameError for the row.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    row = ""
    if model:
        row = find_spec(model).name
    described = _described(source, shapes, row)
    if described is not None:
        match, doubts = described
    else:
        match, doubts = _named(source, arrays, shapes, row)
    _require_complete(source, match, row)
    return match, doubts


def _require_complete(source: WeightFile, match: Match, row: str) -> None:
    """Raises ModelFileError where the network lacks an array, or an array has no place in the network."""
    another = ""
    if row:
        another = " or name another --model"
    lacks_stem_norm = set(_STEM_NORM) <= set(match.missing)
    if lacks_stem_norm and match.scheme in TORCH_NAMES:
        raise ModelFileError(
            f"{source.path} has PyTorch's names and no normalization behind its first convolution: a pre-activation "
            "network (ResNet v2), which skipway reads by the names of timm, TF-Slim and Keras only; rename its arrays "
            "as timm's resnetv2 has them"
        )
    if match.missing:
        lacking = []
        for key in match.missing:
            place = match.places[key]
            name = place.source if place else key
            lacking.append(name)
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
    source: WeightFile, shapes: Mapping[str, tuple[int, ...]], row: str
) -> tuple[Match, tuple[Doubt, ...]] | None:
    """The network that a Keras file describes, whatever its layers are called.

    None where it describes none, or another one than the row that is asked for.
    """
    if source.framework != "keras":
        return None
    try:
        found = recognize(source)
    except ModelFileError:
        if row:
            return None
        raise
    if found is None:
        return None
    if row and found.spec.name != row:
        return None
    taken = {place.source for place in found.places.values() if place}
    left = tuple(name for name in shapes if name not in taken)
    match = Match(found.spec, "keras_graph", found.places, left, ())
    named = best(shapes)
    if named is None or named.left or named.missing:
        return match, found.doubts
    # Whoever uses these names prepares pictures alike, whatever the network's depths.
    convention = named.spec.preprocessing
    spec = found.spec.replaced({"preprocessing": convention})
    match = dataclasses.replace(match, spec=spec)
    return match, without("pictures", found.doubts)


def _named(
    source: WeightFile, arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], row: str
) -> tuple[Match, tuple[Doubt, ...]]:
    """The network by the names of its arrays; what the layers say beside them counts unless a row is asked for.

    Raises ModelFileError where no network has such names.
    """
    rows: frozenset[str] = frozenset()
    if row:
        rows = frozenset({row})
    match = best(shapes, rows)
    if match is None:
        by_order = in_order(source, shapes, row)
        if by_order is not None:
            return by_order
        raise _unknown_names(source, arrays, row)
    if row:
        return match, ()
    spec, doubts = settled(match.spec, match.scheme, source)
    match = dataclasses.replace(match, spec=spec)
    return match, doubts


def _unknown_names(source: WeightFile, arrays: Mapping[str, Array], row: str) -> ModelFileError:
    """The error for names that no network has."""
    has_numbered_layers = "conv2d/kernel" in arrays
    if has_numbered_layers and not source.layers:
        return ModelFileError(
            f"{source.path} numbers its layers instead of naming them, and does not describe them; save the whole "
            'model with model.save("FILE.keras")'
        )
    wanted = "a network that skipway knows"
    fix = NETWORKS
    if row:
        wanted = f"{row} by any names that skipway knows"
        fix = "name another --model, or none"
    held = counted(len(arrays), "array")
    return ModelFileError(f"{source.path} holds {held} ({some_of(arrays)}), but not {wanted}; {fix}")


def some_of(names: Mapping[str, Any] | Sequence[str]) -> str:
    """The first names, for a message."""
    all_names = list(names)
    text = ", ".join(all_names[:_MOST_SHOWN])
    if len(all_names) > _MOST_SHOWN:
        text += ", ..."
    return text
