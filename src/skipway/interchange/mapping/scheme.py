"""Schemes: the names that a source has for the tensors of a family of networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from skipway.interchange.mapping.keys import Key, keys_of
from skipway.interchange.mapping.layouts import Layout, Place
from skipway.models.network import Spec

# The tensors of a normalization: our names, and those of TensorFlow and Keras.
NORM_TENSORS = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


@dataclass(frozen=True)
class Scheme:
    """The names of one source; `name` is the name of the scheme itself.

    `place` gives the place of one of our tensors in the source, or None where the source has no such tensor.
    """

    name: str
    place: Callable[[Key, Spec], Place | None]

    def places(self, spec: Spec) -> dict[str, Place | None]:
        """For each of our keys its place in the source, in the order of our state dict."""
        places: dict[str, Place | None] = {}
        for key in keys_of(spec):
            places[key.name] = self.place(key, spec)
        return places


def torch_place(layer: str, key: Key, *, layout: Layout = "same") -> Place:
    """The place of a tensor of a torch module, whose tensors have our names."""
    optional = key.tensor == "num_batches_tracked"
    return Place(f"{layer}.{key.tensor}", layout, optional=optional)


def keras_place(layer: str, key: Key, *, layout: Layout | None = None) -> Place | None:
    """The place of a tensor of a Keras layer, None for a batch counter, which exists in torch only.

    `layout` is that of the kernel where it is not Keras's own.
    """
    if key.tensor == "num_batches_tracked":
        return None
    if key.kind == "norm":
        tensor = NORM_TENSORS[key.tensor]
        return Place(f"{layer}/{tensor}")
    if key.tensor == "bias":
        return Place(f"{layer}/bias")
    if layout is None:
        layout = "hwio" if key.kind == "conv" else "io"
    return Place(f"{layer}/kernel", layout)


def caffe_place(layer: str, key: Key) -> Place:
    """The place of a tensor of a Caffe layer with weights: its blob 0 is the weight, its blob 1 the bias."""
    blob = 0 if key.tensor == "weight" else 1
    return Place(f"{layer}/{blob}")


def caffe_norm_place(norm: str, scale: str, key: Key) -> Place | None:
    """The place of a tensor of a normalization, which Caffe splits into two layers. None for a batch counter.

    `norm` is the name of the BatchNorm (mean, variance, and a number by which both are to be divided), and `scale` that
    of the Scale.
    """
    blobs = {
        "running_mean": f"{norm}/0",
        "running_var": f"{norm}/1",
        "weight": f"{scale}/0",
        "bias": f"{scale}/1",
    }
    blob = blobs.get(key.tensor)
    if blob is None:
        return None
    divisor = ""
    if key.tensor in ("running_mean", "running_var"):
        divisor = f"{norm}/2"
    return Place(blob, divisor=divisor)
