"""A NetParameter, from a caffemodel or a prototxt, as layers."""

from __future__ import annotations

from collections import Counter
from typing import Any

from skipway.interchange.caffe.message import Message, last, plain
from skipway.interchange.containers.protobuf import WireError
from skipway.interchange.source import Layer
from skipway.reporting import agreeing, counted

MAX_LAYERS = 10_000
MAX_NAME = 1024
MAX_AXES = 32  # Caffe's kMaxBlobAxes
_MAX_SIDE = (1 << 31) - 1
_NO_FIELDS = {"name", "type", "bottom", "top", "blobs"}


def layers_of(messages: list[Message]) -> list[Layer]:
    """Today's LayerParameters as layers, their blobs named `<layer>/<index>`. Raises WireError."""
    if len(messages) > MAX_LAYERS:
        raise WireError(f"it has {counted(len(messages), 'layer')}, more than {MAX_LAYERS:,}")
    return [_layer(message) for message in messages]


def _layer(message: Message) -> Layer:
    name = str(last(message, "name", ""))
    if len(name) > MAX_NAME:
        raise WireError(f"a layer's name has {len(name):,} letters, more than {MAX_NAME:,}")
    settings = {key: values for key, values in message.items() if key not in _NO_FIELDS}
    return Layer(
        name,
        str(last(message, "type", "")),
        inputs=tuple(message.get("bottom", [])),
        outputs=tuple(message.get("top", [])),
        arrays=tuple(f"{name}/{index}" for index in range(len(message.get("blobs", [])))),
        fields=plain(settings, "LayerParameter"),
    )


def check_names(layers: list[Layer], learning: set[str]) -> tuple[str, ...]:
    """Warnings about names that occur twice. Raises WireError where that leaves open whose weights are meant.

    `learning` holds the kinds of layer that have weights even where none are listed.
    """
    counts = Counter(layer.name for layer in layers)
    twice = {name for name, count in counts.items() if count > 1}
    for layer in layers:
        if layer.name in twice and (layer.arrays or layer.kind in learning):
            raise WireError(f"the layer name {layer.name[:60]!r} occurs {counts[layer.name]} times, once with weights")
    if not twice:
        return ()
    shown = ", ".join(repr(name[:60]) for name in sorted(twice)[:3])
    names = f"{counted(len(twice), 'name')} {agreeing(len(twice), 'is that', 'are those')}"
    return (f"{names} of several layers without weights ({shown})",)


def inputs_of(net: Message, layers: list[Layer]) -> dict[str, tuple[int, ...]]:
    """The blobs that come from outside with their shapes, (N, C, H, W); () where the file does not say. Raises
    WireError for dimensions that do not fit the names."""
    names, dims = [str(name) for name in net.get("input", [])], net.get("input_dim", [])
    shapes = [dimensions(shape) for shape in net.get("input_shape", [])]
    if not shapes and len(dims) == 4 * len(names):
        shapes = [checked_dimensions(dims[at : at + 4]) for at in range(0, len(dims), 4)]
    elif not shapes and dims:
        raise WireError(f"it has {len(dims)} input_dim for {counted(len(names), 'input')}; each takes 4")
    found = {name: shapes[index] if index < len(shapes) else () for index, name in enumerate(names)}
    for layer in (layer for layer in layers if layer.kind == "Input"):
        given = layer.fields.get("input_param", {}).get("shape", ())
        for index, top in enumerate(layer.outputs):
            shape = given[min(index, len(given) - 1)].get("dim", ()) if given else ()
            found[top] = checked_dimensions(list(shape))
    return found


def shared_of(layers: list[Layer]) -> dict[str, tuple[str, ...]]:
    """Blobs that layers share under the name of a ParamSpec: the name to the arrays, where there are two or more."""
    shared: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        for array, spec in zip(layer.arrays, layer.fields.get("param", ()), strict=False):
            if spec.get("name"):
                shared[spec["name"]] = (*shared.get(spec["name"], ()), array)
    return {name: arrays for name, arrays in shared.items() if len(arrays) > 1}


def in_phase(layer: Layer, phase: str) -> bool:
    """Whether a network of that phase, TRAIN or TEST, at level 0 and without stages has the layer."""
    if "include" in layer.fields:
        return any(_meets(rule, phase) for rule in layer.fields["include"])
    return not any(_meets(rule, phase) for rule in layer.fields.get("exclude", ()))


def _meets(rule: dict[str, Any], phase: str) -> bool:
    return (
        rule.get("phase", phase) == phase
        and rule.get("min_level", 0) <= 0 <= rule.get("max_level", 0)
        and not rule.get("stage")
    )


def dimensions(shape: Message) -> tuple[int, ...]:
    return checked_dimensions(shape.get("dim", []))


def checked_dimensions(dims: list[int]) -> tuple[int, ...]:
    """The dimensions as Caffe allows them. Raises WireError."""
    if len(dims) > MAX_AXES:
        raise WireError(f"a shape has {len(dims):,} dimensions, more than {MAX_AXES}")
    for side in dims:
        if not 0 <= side <= _MAX_SIDE:
            raise WireError(f"a shape has a side of {side}")
    return tuple(dims)
