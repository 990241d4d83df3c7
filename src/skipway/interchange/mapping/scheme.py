"""What a scheme is: one source's names for the tensors of a family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from skipway.interchange.mapping.keys import Key, keys_of
from skipway.interchange.mapping.layouts import Layout, Place
from skipway.models.network import Spec

# Our tensors of a normalization in the words of TensorFlow and Keras.
NORM_TENSORS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


@dataclass(frozen=True)
class Scheme:
    """`place` says where one of our tensors lies in the source, or None where the source has no such tensor."""

    name: str
    place: Callable[[Key, Spec], Place | None]

    def places(self, spec: Spec) -> dict[str, Place | None]:
        """For each of our keys its place in the source, in the order of our state dict."""
        return {key.name: self.place(key, spec) for key in keys_of(spec)}


def torch_place(layer: str, key: Key, *, layout: Layout = "same") -> Place:
    """A tensor of a torch module: our own words."""
    return Place(f"{layer}.{key.tensor}", layout, optional=key.tensor == "num_batches_tracked")


def keras_place(layer: str, key: Key, *, layout: Layout | None = None) -> Place | None:
    """A tensor of a Keras layer; batch counters exist in torch only."""
    if key.tensor == "num_batches_tracked":
        return None
    if key.kind == "norm":
        return Place(f"{layer}/{NORM_TENSORS[key.tensor]}")
    if key.tensor == "bias":
        return Place(f"{layer}/bias")
    return Place(f"{layer}/kernel", layout or ("hwio" if key.kind == "conv" else "io"))


def caffe_place(layer: str, key: Key) -> Place:
    """A blob of a Caffe layer with weights: 0 and 1."""
    return Place(f"{layer}/{0 if key.tensor == 'weight' else 1}")


def caffe_norm_place(norm: str, scale: str, key: Key) -> Place | None:
    """Caffe splits a normalization into BatchNorm (mean, variance, and what both are to be divided by) and Scale."""
    match key.tensor:
        case "running_mean":
            return Place(f"{norm}/0", divisor=f"{norm}/2")
        case "running_var":
            return Place(f"{norm}/1", divisor=f"{norm}/2")
        case "weight":
            return Place(f"{scale}/0")
        case "bias":
            return Place(f"{scale}/1")
    return None
