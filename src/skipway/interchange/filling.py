"""The tensors of our network, filled with a file's arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skipway.errors import ModelFileError
from skipway.interchange.doubt import Doubt
from skipway.interchange.mapping.keys import Key, keys_of
from skipway.interchange.mapping.layouts import Place, source_shape, to_ours
from skipway.interchange.mapping.matching import Match
from skipway.interchange.recognizing import NETWORKS
from skipway.interchange.source import Array
from skipway.models.network import Spec


def filled(file: Path, match: Match, arrays: Mapping[str, Array], model: str) -> dict[str, Tensor]:
    """The tensors of the network that `match` found, by our keys, float32 but for the batch counters.

    Raises ModelFileError where an array has another shape than its tensor; `model` is the row that the user named.
    """
    tensors: dict[str, Tensor] = {}
    for key in keys_of(match.spec):
        place = match.places[key.name]
        is_absent = place is None or (place.optional and place.source not in arrays)
        if place is None or is_absent:
            tensors[key.name] = _absent(key)
            continue
        stored = arrays[place.source].shape
        needed = source_shape(key.shape, place)
        if _without_ones(stored) != _without_ones(needed):
            fix = "name another --model, or none" if model else NETWORKS
            raise ModelFileError(
                f"{file}: {place.source} has the shape {stored}, {key.name} of {match.spec.name} needs {needed}; {fix}"
            )
        array = _in_our_layout(place, arrays, needed)
        dtype = torch.int64 if key.tensor == "num_batches_tracked" else torch.float32
        # Not np.array: a matrix that needs no other order is not copied once more.
        contiguous = np.ascontiguousarray(array)
        tensors[key.name] = torch.from_numpy(contiguous).reshape(key.shape).to(dtype)
    return tensors


def with_two_classes(
    file: Path, spec: Spec, tensors: dict[str, Tensor], labels: Sequence[str]
) -> tuple[Spec, dict[str, Tensor], tuple[Doubt, ...]]:
    """A classifier with one output x, that of a sigmoid, becomes one of two classes with the logits 0 and x.

    The softmax of these logits is the sigmoid of x. All other networks stay as they are. Returns the network, its
    tensors, and a line that says what was done. Raises ModelFileError unless two labels name the classes: a softmax
    over one class would be sure of every picture.
    """
    if spec.num_classes != 1:
        return spec, tensors, ()
    if len(labels) != 2:
        raise ModelFileError(
            f"{file} has a classifier with one output, which tells two classes apart: name both with --labels FILE, "
            "first the one that an output near 0 stands for"
        )
    changed = dict(tensors)
    for key in ("logits.weight", "logits.bias"):
        changed[key] = torch.cat([torch.zeros_like(tensors[key]), tensors[key]])
    text = f"its one output x is now two classes: logits 0 for '{labels[0]}' and x for '{labels[1]}', as by a sigmoid"
    return spec.replaced({"num_classes": 2}), changed, (Doubt("answers", text),)


def _absent(key: Key) -> Tensor:
    """The value of a tensor that the source does without: a batch counter, a norm's scale or shift, a bias."""
    if key.tensor == "num_batches_tracked":
        return torch.zeros(key.shape, dtype=torch.int64)
    if key.tensor == "weight":
        return torch.ones(key.shape)
    return torch.zeros(key.shape)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of one element: they come and go between frameworks, and move no numbers."""
    return tuple(size for size in shape if size != 1)


def _in_our_layout(place: Place, arrays: Mapping[str, Array], shape: tuple[int, ...]) -> np.ndarray:
    array = arrays[place.source].read().reshape(shape)
    if place.divisor in arrays:
        divisor = float(arrays[place.divisor].read().reshape(-1)[0])
        factor = 0.0 if divisor == 0 else 1 / divisor  # Caffe, too, takes 0 for a divisor of 0
        array = array * np.float32(factor)
    return to_ours(array, place)
