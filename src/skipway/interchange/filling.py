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
        if place is None:
            tensors[key.name] = _absent(key)
            continue
        if place.optional and place.source not in arrays:
            tensors[key.name] = _absent(key)
            continue
        stored = arrays[place.source].shape
        needed = source_shape(key.shape, place)
        if _without_ones(stored) != _without_ones(needed):
            fix = NETWORKS
            if model:
                fix = "name another --model, or none"
            raise ModelFileError(
                f"{file}: {place.source} has the shape {stored}, {key.name} of {match.spec.name} needs {needed}; {fix}"
            )
        array = _in_our_layout(place, arrays, needed)
        dtype = torch.float32
        if key.tensor == "num_batches_tracked":
            dtype = torch.int64
        # Not np.array: a matrix that needs no other order is not copied once more.
        contiguous = np.ascontiguousarray(array)
        tensor = torch.from_numpy(contiguous).reshape(key.shape)
        tensors[key.name] = tensor.to(dtype)
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
        of_second_class = tensors[key]
        of_first_class = torch.zeros_like(of_second_class)
        changed[key] = torch.cat([of_first_class, of_second_class])
    first, second = labels
    text = f"its one output x is now two classes: logits 0 for '{first}' and x for '{second}', as by a sigmoid"
    doubt = Doubt("answers", text)
    return spec.replaced({"num_classes": 2}), changed, (doubt,)


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
    """The array of a place in our layout, divided by the divisor that is stored beside it."""
    array = arrays[place.source].read().reshape(shape)
    if place.divisor in arrays:
        stored = arrays[place.divisor].read()
        divisor = float(stored.reshape(-1)[0])
        factor = 0.0  # that of Caffe for a divisor of 0
        if divisor != 0:
            factor = 1 / divisor
        array = array * np.float32(factor)
    return to_ours(array, place)
