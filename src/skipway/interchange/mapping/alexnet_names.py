"""AlexNets in other hands: Caffe, its NumPy conversions, torchvision."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from skipway.interchange.mapping.keys import Key
from skipway.interchange.mapping.layouts import Layout, Place
from skipway.interchange.mapping.scheme import Scheme, caffe_place, torch_place
from skipway.models.alexnet import AlexNetSpec
from skipway.models.network import Spec

# Where torchvision's two Sequentials hold our stages.
_TORCHVISION = {
    "conv1.conv": "features.0",
    "conv2.conv": "features.3",
    "conv3.conv": "features.6",
    "conv4.conv": "features.8",
    "conv5.conv": "features.10",
    "fc6.fc": "classifier.1",
    "fc7.fc": "classifier.4",
    "logits": "classifier.6",
}


def _torchvision(key: Key, spec: Spec) -> Place | None:  # noqa: ARG001
    layer = _TORCHVISION.get(key.layer)
    return torch_place(layer, key) if layer else None


def _numbered(key: Key, spec: Spec) -> str:
    """conv1, fc6, and the classifier as the next fc: fc8."""
    assert isinstance(spec, AlexNetSpec)
    if key.layer == "logits":
        return f"fc{len(spec.convs) + len(spec.hidden) + 1}"
    return key.layer.partition(".")[0]


def _named(key: Key, spec: Spec, classifier: str) -> str:
    return classifier if classifier and key.layer == "logits" else _numbered(key, spec)


def _npy_place(key: Key, spec: Spec, layer: str) -> Place:
    """caffe-tensorflow's arrays: convolutions (H, W, in, out), and fc6 for a map that TensorFlow flattens."""
    assert isinstance(spec, AlexNetSpec)
    if key.tensor == "bias":
        return Place(f"{layer}/biases")
    if key.kind == "conv":
        return Place(f"{layer}/weights", "hwio")
    if key.layer != f"fc{len(spec.convs) + 1}.fc":
        return Place(f"{layer}/weights", "io")
    side = spec.flattened(spec.input_size)
    return Place(f"{layer}/weights", "hwc_io", map_shape=(spec.convs[-1].depth, side, side))


TORCHVISION = Scheme("torchvision", _torchvision)


def caffe(classifier: str = "") -> Scheme:
    """Caffe's names. Who trained a network further for other classes gave its classifier another name than fc8."""
    return Scheme("caffe", lambda key, spec: caffe_place(_named(key, spec, classifier), key))


def npy(classifier: str = "") -> Scheme:
    """caffe-tensorflow's names, with the classifier's as in `caffe`."""
    return Scheme("npy", lambda key, spec: _npy_place(key, spec, _named(key, spec, classifier)))


CAFFE, NPY = caffe(), npy()


def infer_alexnet(shapes: Mapping[str, tuple[int, ...]], scheme: Scheme, base: AlexNetSpec) -> AlexNetSpec | None:
    """The network of a file by this scheme, or None. Depths, kernels and groups are read from the convolutions, widths
    and classes from the linear layers; what arrays cannot tell is the base's."""
    convs, channels, first = [], 0, 0
    for number, row in enumerate(base.convs, 1):
        shape = _shape(shapes, scheme, base, f"conv{number}.conv", "hwio")
        if len(shape) != 4 or not shape[1] or (channels and channels % shape[1]):
            return None
        first = first or shape[1]
        groups = channels // shape[1] if channels else 1
        convs.append(dataclasses.replace(row, depth=shape[0], kernel=shape[2], groups=groups))
        channels = shape[0]
    widths = []
    for layer in [*(f"fc{len(convs) + 1 + index}.fc" for index in range(len(base.hidden))), "logits"]:
        shape = _shape(shapes, scheme, base, layer, "io")
        if len(shape) < 2:
            return None
        widths.append(shape[-2])  # old Caffe files write (1, 1, out, in)
    return base.replaced(
        {"convs": tuple(convs), "hidden": tuple(widths[:-1]), "num_classes": widths[-1], "in_channels": first}
    )


def _shape(
    shapes: Mapping[str, tuple[int, ...]], scheme: Scheme, base: AlexNetSpec, layer: str, other: Layout
) -> tuple[int, ...]:
    """Our shape of a layer's weight, () where the file has none."""
    place = scheme.place(Key("", 0, 0, layer, "weight", "conv" if other == "hwio" else "linear", ()), base)
    found = shapes.get(place.source, ()) if place else ()
    if not found or place is None or place.layout == "same":
        return found
    return (found[3], found[2], found[0], found[1]) if len(found) == 4 else found[::-1]
