"""The tensors of our network, filled with a file's arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skipway.errors import ModelFileError
from skipway.interchange.mapping.keys import Key, keys_of
from skipway.interchange.mapping.layouts import Place, source_shape, to_ours
from skipway.interchange.mapping.matching import Match
from skipway.interchange.recognizing import NETWORKS
from skipway.interchange.source import Array
from skipway.models.network import Spec


def filled(file: Path, match: Match, arrays: Mapping[str, Array], model: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key in keys_of(match.spec):
        place = match.places[key.name]
        if place is None or (place.optional and place.source not in arrays):
            tensors[key.name] = _absent(key)
            continue
        found, wanted = arrays[place.source].shape, source_shape(key.shape, place)
        if _without_ones(found) != _without_ones(wanted):
            raise ModelFileError(
                f"{file}: {place.source} has the shape {found}, {key.name} of {match.spec.name} needs {wanted}; "
                + ("name another --model, or none" if model else NETWORKS)
            )
        array = _ours(place, arrays, wanted)
        kind = torch.int64 if key.tensor == "num_batches_tracked" else torch.float32
        # Not np.array: a matrix that needs no other order is not copied once more.
        tensors[key.name] = torch.from_numpy(np.ascontiguousarray(array)).reshape(key.shape).to(kind)
    return tensors


def two_classes(
    file: Path, spec: Spec, tensors: dict[str, Tensor], labels: Sequence[str]
) -> tuple[Spec, dict[str, Tensor], list[str]]:
    """A classifier with one output x, that of a sigmoid, as two classes with the logits 0 and x, whose softmax is the
    sigmoid; and a line that tells so. All others as they are.

    Raises ModelFileError unless two labels name the classes: a softmax over one class would be sure of every picture.
    """
    if spec.num_classes != 1:
        return spec, tensors, []
    if len(labels) != 2:
        raise ModelFileError(
            f"{file} has a classifier with one output, which tells two classes apart: name both with --labels FILE, "
            "first the one that an output near 0 stands for"
        )
    added = {key: torch.cat([torch.zeros_like(tensors[key]), tensors[key]]) for key in ("logits.weight", "logits.bias")}
    told = f"its one output x is now two classes: logits 0 for '{labels[0]}' and x for '{labels[1]}', as by a sigmoid"
    return spec.replaced({"num_classes": 2}), tensors | added, [told]


def _absent(key: Key) -> Tensor:
    """What a tensor is that the source does without: a batch counter, a norm's scale or shift, a bias."""
    if key.tensor == "num_batches_tracked":
        return torch.zeros(key.shape, dtype=torch.int64)
    return torch.full(key.shape, 1.0 if key.tensor == "weight" else 0.0)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of one element come and go between frameworks, and move no numbers."""
    return tuple(size for size in shape if size != 1)


def _ours(place: Place, arrays: Mapping[str, Array], shape: tuple[int, ...]) -> np.ndarray:
    array = arrays[place.source].read().reshape(shape)
    if place.divisor in arrays:
        factor = float(arrays[place.divisor].read().reshape(-1)[0])
        array = array * np.float32(0 if factor == 0 else 1 / factor)
    return to_ours(array, place)
