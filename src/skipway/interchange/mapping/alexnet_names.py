"""The names of AlexNet's weights in Caffe, in caffe-tensorflow's conversions of them to NumPy, and in torchvision."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from skipway.interchange.mapping.keys import Key, Kind
from skipway.interchange.mapping.layouts import Place
from skipway.interchange.mapping.scheme import Scheme, caffe_place, torch_place
from skipway.models.alexnet import AlexNetSpec, Conv
from skipway.models.network import Spec

# Our layers by their places in torchvision's two Sequentials.
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
    if layer is None:
        return None
    return torch_place(layer, key)


def _layer_name(key: Key, spec: Spec, classifier: str) -> str:
    """Caffe's name of a layer: conv1, fc6, and `classifier` or, where it is "", the fc after the last: fc8."""
    if key.layer != "logits":
        name, _, _ = key.layer.partition(".")
        return name
    if classifier:
        return classifier
    assert isinstance(spec, AlexNetSpec)
    number = len(spec.convs) + len(spec.hidden) + 1
    return f"fc{number}"


def _npy_place(key: Key, spec: Spec, layer: str) -> Place:
    """caffe-tensorflow's arrays: convolutions (H, W, in, out), and fc6 for a map that TensorFlow flattens."""
    assert isinstance(spec, AlexNetSpec)
    if key.tensor == "bias":
        return Place(f"{layer}/biases")
    weights = f"{layer}/weights"
    if key.kind == "conv":
        return Place(weights, "hwio")
    first_linear = f"fc{len(spec.convs) + 1}.fc"
    if key.layer != first_linear:
        return Place(weights, "io")
    side = spec.flattened(spec.input_size)
    depth = spec.convs[-1].depth
    return Place(weights, "hwc_io", map_shape=(depth, side, side))


TORCHVISION = Scheme("torchvision", _torchvision)


def caffe(classifier: str = "") -> Scheme:
    """Caffe's names.

    `classifier` is the name of the classifier where it is not fc8: networks that were trained further for other classes
    have another name for it.
    """

    def place(key: Key, spec: Spec) -> Place:
        layer = _layer_name(key, spec, classifier)
        return caffe_place(layer, key)

    return Scheme("caffe", place)


def npy(classifier: str = "") -> Scheme:
    """caffe-tensorflow's names; `classifier` is as in `caffe`."""

    def place(key: Key, spec: Spec) -> Place:
        layer = _layer_name(key, spec, classifier)
        return _npy_place(key, spec, layer)

    return Scheme("npy", place)


CAFFE = caffe()
NPY = npy()


def infer_alexnet(shapes: Mapping[str, tuple[int, ...]], scheme: Scheme, base: AlexNetSpec) -> AlexNetSpec | None:
    """The network of a file with arrays of these `shapes`, by the names of this scheme; None where it is no AlexNet.

    Depths, kernels and groups are read from the convolutions, widths and classes from the linear layers. What the
    arrays do not show is the base's.
    """
    convs = _convs(shapes, scheme, base)
    if convs is None:
        return None
    first = _conv_shape(shapes, scheme, base, 1)
    layers = [f"fc{len(convs) + number}.fc" for number in range(1, len(base.hidden) + 1)]
    layers.append("logits")
    widths = []
    for layer in layers:
        shape = _shape(shapes, scheme, base, layer, "linear")
        if len(shape) < 2:
            return None
        outputs = shape[-2]  # old Caffe files write (1, 1, out, in)
        widths.append(outputs)
    fields = {
        "convs": tuple(convs),
        "hidden": tuple(widths[:-1]),
        "num_classes": widths[-1],
        "in_channels": first[1],
    }
    return base.replaced(fields)


def _convs(shapes: Mapping[str, tuple[int, ...]], scheme: Scheme, base: AlexNetSpec) -> list[Conv] | None:
    """The base's convolutions with the depths, kernels and groups of the file; None where they cannot be a chain."""
    convs = []
    channels = 0  # those that the next convolution takes; 0 before the first
    for number, row in enumerate(base.convs, 1):
        shape = _conv_shape(shapes, scheme, base, number)
        if len(shape) != 4:
            return None
        depth, depth_of_group, kernel, _ = shape
        if not depth_of_group:
            return None
        groups = 1
        if channels:
            groups, rest = divmod(channels, depth_of_group)
            if rest:
                return None
        conv = dataclasses.replace(row, depth=depth, kernel=kernel, groups=groups)
        convs.append(conv)
        channels = depth
    return convs


def _conv_shape(
    shapes: Mapping[str, tuple[int, ...]], scheme: Scheme, base: AlexNetSpec, number: int
) -> tuple[int, ...]:
    """The weight's shape of the convolution of that number: (out, in / groups, H, W), or () where there is none."""
    return _shape(shapes, scheme, base, f"conv{number}.conv", "conv")


def _shape(
    shapes: Mapping[str, tuple[int, ...]], scheme: Scheme, base: AlexNetSpec, layer: str, kind: Kind
) -> tuple[int, ...]:
    """The shape of a layer's weight in our layout, () where the file has none."""
    key = Key("", 0, 0, layer, "weight", kind, ())
    place = scheme.place(key, base)
    if place is None:
        return ()
    found = shapes.get(place.source, ())
    if place.layout == "same":
        return found
    if len(found) == 4:
        height, width, inputs, outputs = found
        return (outputs, inputs, height, width)
    return found[::-1]
