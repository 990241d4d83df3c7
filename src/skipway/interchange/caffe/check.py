"""Whether the weights of a caffemodel fit the network of a prototxt: names, sizes, groups and biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skipway.interchange.caffe.prototxt import LEARNING
from skipway.interchange.source import Layer, WeightFile
from skipway.reporting import agreeing, counted

Shape = tuple[int, ...]

# The message that holds the settings of a kind of layer.
_PARAMS = {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}


def spatial(param: Mapping[str, Any], name: str, default: int) -> tuple[int, int]:
    """Height and width of a setting of a convolution or pool, in any of the ways that Caffe has to write it.

    `param` is the layer's message of settings, `name` the setting, such as `stride` or `kernel_size`, and `default`
    its value where the message does not have it.
    """
    prefix = name.removesuffix("_size")
    height_name = f"{prefix}_h"
    width_name = f"{prefix}_w"
    if height_name in param or width_name in param:
        height = param.get(height_name, default)
        width = param.get(width_name, default)
        return height, width
    given = param.get(name, default)
    if isinstance(given, int):
        return given, given
    sides = tuple(given)
    if not sides:
        return default, default
    return sides[0], sides[-1]


def mismatches(described: WeightFile, weights: WeightFile) -> tuple[str, ...]:
    """One line for each difference between the prototxt `described` and the caffemodel `weights`.

    Some published prototxts leave out `group: 2`. The shape of the weight shows the groups, and the line says so.
    """
    shapes = _stored_shapes(weights)
    described_names = {layer.name for layer in described.layers}
    unknown_names = shapes.keys() - described_names
    lines = []
    for name in sorted(unknown_names):
        lines.append(f"{name}: the prototxt has no such layer")
    channels = {blob: shape[1] for blob, shape in described.notes["inputs"].items() if len(shape) > 1}
    for layer in described.layers:
        taken = [channels.get(blob, 0) for blob in layer.inputs]
        if layer.name in shapes:
            differences = _differences(layer, shapes[layer.name], taken)
            for difference in differences:
                lines.append(f"{layer.name}: {difference}")
        elif layer.kind in LEARNING:
            lines.append(f"{layer.name}: the caffemodel has no weights for it")
        depth = _output_channels(layer, taken)
        if depth:
            known = dict.fromkeys(layer.outputs, depth)
            channels.update(known)
    return tuple(lines)


def _stored_shapes(weights: WeightFile) -> dict[str, list[Shape]]:
    """The shapes of each layer's blobs, by the name of the layer, of the layers that have blobs."""
    shapes = {}
    for layer in weights.layers:
        if layer.arrays:
            shapes[layer.name] = [weights.arrays[array].shape for array in layer.arrays]
    return shapes


def _differences(layer: Layer, shapes: list[Shape], taken: list[int]) -> list[str]:
    """What a layer's settings say otherwise than the shapes of its blobs.

    `taken` are the channels of the blobs that the layer takes, 0 where they are not known.
    """
    param = _settings(layer)
    if param is None:
        return []
    weight = shapes[0]
    lines = []
    wanted_rows = param.get("num_output")
    rows = _stored_outputs(layer, weight)
    if rows != wanted_rows:
        lines.append(f"num_output is {wanted_rows}, its weight {weight} has {rows}")
    bias = param.get("bias_term", True)
    wanted_blobs = 2 if bias else 1
    if len(shapes) != wanted_blobs:
        shown = str(bias).lower()
        blobs = counted(len(shapes), "blob")
        are = agreeing(len(shapes), "is", "are")
        lines.append(f"bias_term is {shown}, {blobs} {are} stored")
    if layer.kind == "Convolution" and len(weight) == 4:
        lines += _convolution_differences(param, weight, taken)
    return lines


def _convolution_differences(param: Mapping[str, Any], weight: Shape, taken: list[int]) -> list[str]:
    """The differences in the kernel and in the groups; the weight is (out, in / groups, height, width)."""
    lines = []
    _, depth, height, width = weight
    kernel = spatial(param, "kernel_size", 0)
    if kernel != (height, width):
        lines.append(f"the kernel is {kernel[0]}x{kernel[1]}, its weight {weight} has {height}x{width}")
    if not taken or not depth:
        return lines
    group = param.get("group", 1)
    stored_groups = taken[0] / depth
    # 0 groups: the channels of the layer's input are not known.
    if stored_groups not in (0, group):
        channels = counted(taken[0], "channel")
        lines.append(f"group is {group}, its weight {weight} for {channels} has {stored_groups:g}")
    return lines


def _settings(layer: Layer) -> Mapping[str, Any] | None:
    """The settings of a convolution or of a linear layer, None for any other layer."""
    name = _PARAMS.get(layer.kind)
    if name is None:
        return None
    return layer.fields.get(name)


def _stored_outputs(layer: Layer, weight: Shape) -> int:
    """The outputs that a weight of this shape has. Caffe of before 2015 stores a matrix as (1, 1, out, in)."""
    if not weight:
        return 0
    if layer.kind != "InnerProduct" or len(weight) < 2:
        return weight[0]
    param = layer.fields["inner_product_param"]
    if param.get("transpose"):
        return weight[-1]
    return weight[-2]


def _output_channels(layer: Layer, taken: list[int]) -> int:
    """Channels of a layer's outputs; 0 where they are not known."""
    param = _settings(layer)
    if param is not None:
        return int(param.get("num_output", 0))
    if not taken:
        return 0
    if layer.kind != "Concat":
        return taken[0]
    if 0 in taken:
        return 0
    return sum(taken)
