"""A NetParameter, from a caffemodel or a prototxt, as layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from skipway.interchange.caffe.message import Message, last, plain
from skipway.interchange.containers.protobuf import WireError
from skipway.interchange.source import Layer
from skipway.reporting import agreeing, counted

MAX_LAYERS = 10_000
MAX_NAME = 1024
MAX_AXES = 32  # Caffe's kMaxBlobAxes
_MAX_SIDE = (1 << 31) - 1
# Fields of a LayerParameter that Layer holds in attributes of its own.
_NO_FIELDS = {"name", "type", "bottom", "top", "blobs"}


def layers_of(messages: list[Message]) -> list[Layer]:
    """LayerParameters of today's form as layers, their blobs named `<layer>/<index>`.

    Raises WireError where there are more layers than MAX_LAYERS or a name is longer than MAX_NAME.
    """
    if len(messages) > MAX_LAYERS:
        raise WireError(f"it has {counted(len(messages), 'layer')}, more than {MAX_LAYERS:,}")
    return [_layer(message) for message in messages]


def _layer(message: Message) -> Layer:
    name = str(last(message, "name", ""))
    kind = str(last(message, "type", ""))
    if len(name) > MAX_NAME:
        raise WireError(f"a layer's name has {len(name):,} letters, more than {MAX_NAME:,}")
    blobs = message.get("blobs", [])
    arrays = [f"{name}/{index}" for index in range(len(blobs))]
    inputs = message.get("bottom", [])
    outputs = message.get("top", [])
    settings = {key: values for key, values in message.items() if key not in _NO_FIELDS}
    fields = plain(settings, "LayerParameter")
    return Layer(name, kind, tuple(inputs), tuple(outputs), tuple(arrays), fields)


def check_names(layers: list[Layer], learning: set[str]) -> tuple[str, ...]:
    """Warnings about names that several layers have.

    `learning` holds the kinds of layer that have weights even where none are listed. Raises WireError where a name of
    several layers belongs to a layer with weights, since it is open whose weights are meant.
    """
    names = [layer.name for layer in layers]
    counts = Counter(names)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if not repeated:
        return ()
    for layer in layers:
        count = counts[layer.name]
        has_weights = bool(layer.arrays) or layer.kind in learning
        if has_weights and count > 1:
            raise WireError(f"the layer name {layer.name[:60]!r} occurs {count} times, once with weights")
    some = [repr(name[:60]) for name in repeated[:3]]
    shown = ", ".join(some)
    subject = counted(len(repeated), "name")
    are_those = agreeing(len(repeated), "is that", "are those")
    warning = f"{subject} {are_those} of several layers without weights ({shown})"
    return (warning,)


def inputs_of(net: Message, layers: list[Layer]) -> dict[str, tuple[int, ...]]:
    """The blobs that come from outside with their shapes, (N, C, H, W); () where the file does not say.

    Raises WireError where the dimensions do not fit the names.
    """
    names = [str(name) for name in net.get("input", [])]
    shapes = _input_shapes(net, len(names))
    without_shape = len(names) - len(shapes)
    shapes += [()] * without_shape
    found = dict(zip(names, shapes, strict=False))
    for layer in layers:
        if layer.kind == "Input":
            blobs = _blobs_of_input(layer)
            found.update(blobs)
    return found


def _blobs_of_input(layer: Layer) -> dict[str, tuple[int, ...]]:
    """The blobs that a layer of the kind Input brings from outside, with their shapes."""
    settings = layer.fields.get("input_param", {})
    given = settings.get("shape", ())
    blobs: dict[str, tuple[int, ...]] = dict.fromkeys(layer.outputs, ())
    if not given:
        return blobs
    for index, top in enumerate(layer.outputs):
        described = min(index, len(given) - 1)  # the last shape is that of the blobs after it, too
        dims = given[described].get("dim", ())
        blobs[top] = checked_dimensions(list(dims))
    return blobs


def _input_shapes(net: Message, inputs: int) -> list[tuple[int, ...]]:
    """The shapes that a NetParameter gives for its inputs: from `input_shape`, or from four `input_dim` an input."""
    shapes = [dimensions(shape) for shape in net.get("input_shape", [])]
    dims = net.get("input_dim", [])
    if shapes or not dims:
        return shapes
    if len(dims) != 4 * inputs:
        named_inputs = counted(inputs, "input")
        raise WireError(f"it has {len(dims)} input_dim for {named_inputs}; each takes 4")
    for start in range(0, len(dims), 4):
        shape = checked_dimensions(dims[start : start + 4])
        shapes.append(shape)
    return shapes


def shared_of(layers: list[Layer]) -> dict[str, tuple[str, ...]]:
    """Blobs that layers share under the name of a ParamSpec: the name to the arrays, where there are two or more."""
    arrays_of: dict[str, list[str]] = {}
    for layer in layers:
        specs = layer.fields.get("param", ())
        for array, spec in zip(layer.arrays, specs, strict=False):
            name = spec.get("name")
            if name:
                arrays = arrays_of.setdefault(name, [])
                arrays.append(array)
    shared = {}
    for name, arrays in arrays_of.items():
        if len(arrays) > 1:
            shared[name] = tuple(arrays)
    return shared


def in_phase(layer: Layer, phase: str) -> bool:
    """Whether a network of that phase, TRAIN or TEST, at level 0 and without stages has the layer."""
    if "include" in layer.fields:
        including = layer.fields["include"]
        return _meets_any(including, phase)
    excluding = layer.fields.get("exclude", ())
    return not _meets_any(excluding, phase)


def _meets_any(rules: Iterable[Mapping[str, Any]], phase: str) -> bool:
    """Whether a network of that phase meets one of the rules."""
    for rule in rules:
        if _meets(rule, phase):
            return True
    return False


def _meets(rule: Mapping[str, Any], phase: str) -> bool:
    """Whether a network of that phase, at level 0 and without stages, meets a NetStateRule."""
    if rule.get("phase", phase) != phase:
        return False
    if rule.get("stage"):
        return False
    lowest = rule.get("min_level", 0)
    highest = rule.get("max_level", 0)
    return bool(lowest <= 0 <= highest)


def dimensions(shape: Message) -> tuple[int, ...]:
    """The dimensions of a BlobShape. Raises WireError where Caffe does not allow them."""
    sides = shape.get("dim", [])
    return checked_dimensions(sides)


def checked_dimensions(dims: list[int]) -> tuple[int, ...]:
    """The dimensions as they are given. Raises WireError where Caffe does not allow them."""
    if len(dims) > MAX_AXES:
        raise WireError(f"a shape has {len(dims):,} dimensions, more than {MAX_AXES}")
    for side in dims:
        if not 0 <= side <= _MAX_SIDE:
            raise WireError(f"a shape has a side of {side}")
    return tuple(dims)
