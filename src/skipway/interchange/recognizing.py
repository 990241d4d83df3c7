"""Which network a file holds, all of whose tensors are there: by its description, or by names and shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from skipway.errors import ModelFileError
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

_STEM_NORM = tuple(f"stem.norm.{tensor}" for tensor in ("weight", "bias", "running_mean", "running_var"))


def matched(source: Source, arrays: Mapping[str, Array], model: str) -> tuple[Match, list[str]]:
    """The network, all of whose tensors are there, and doubts about its settings."""
    shapes = {name: array.shape for name, array in arrays.items()}
    row = find_spec(model).name if model else ""
    match, doubts = _described(source, shapes, row) or _named(source, arrays, shapes, row)
    another = " or name another --model" if row else ""
    if match.scheme in TORCH_NAMES and set(_STEM_NORM) <= set(match.missing):
        raise ModelFileError(
            f"{source.path} has PyTorch's names and no normalization behind its first convolution: a pre-activation "
            "network (ResNet v2), which skipway reads by the names of timm, TF-Slim and Keras only; rename its arrays "
            "as timm's resnetv2 has them"
        )
    if match.missing:
        places = [match.places[key] for key in match.missing]
        lacking = [place.source if place else key for place, key in zip(places, match.missing, strict=True)]
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
    return match, doubts


def _described(source: Source, shapes: Mapping[str, tuple[int, ...]], row: str) -> tuple[Match, list[str]] | None:
    """The network that a Keras file describes, whatever its layers are called; None where it describes none, or
    another one than the row that is asked for."""
    if not source.format.startswith("keras"):
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
        return match, list(found.warnings)
    # Who uses these names prepares pictures alike, whatever the network's depths.
    spec = found.spec.replaced({"preprocessing": named.spec.preprocessing})
    return dataclasses.replace(match, spec=spec), [one for one in found.warnings if "pictures" not in one]


def _named(
    source: Source, arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], row: str
) -> tuple[Match, list[str]]:
    """The network by the names of its arrays; what the layers say beside them counts unless a row is asked for."""
    match = best(shapes, frozenset({row}) if row else frozenset())
    if match is None and (numbered := in_order(source, shapes, row)) is not None:
        return numbered
    if match is None and "conv2d/kernel" in shapes and not source.layers:
        raise ModelFileError(
            f"{source.path} numbers its layers instead of naming them, and does not describe them; save the whole "
            'model with model.save("FILE.keras")'
        )
    if match is None:
        wanted = f"{row} by any names that skipway knows" if row else "a network that skipway knows"
        fix = "name another --model, or none" if row else NETWORKS
        raise ModelFileError(
            f"{source.path} holds {counted(len(arrays), 'array')} ({some_of(arrays)}), but not {wanted}; {fix}"
        )
    if row:
        return match, []
    spec, doubts = settled(match.spec, match.scheme, source)
    return dataclasses.replace(match, spec=spec), doubts


def some_of(names: Mapping[str, Any] | Sequence[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:4]) + (", ..." if len(shown) > 4 else "")
