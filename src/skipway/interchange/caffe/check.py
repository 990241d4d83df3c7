"""Whether a caffemodel's weights are those of a prototxt's network: names, sizes, groups and biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skipway.interchange.caffe.prototxt import LEARNING
from skipway.interchange.source import Layer, Source
from skipway.reporting import agreeing, counted

_PARAMS = {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}


def spatial(param: Mapping[str, Any], name: str, default: int) -> tuple[int, int]:
    """Height and width of a setting such as `stride` of a convolution or pool, in any of the ways to write it."""
    prefix = name.removesuffix("_size")
    if f"{prefix}_h" in param or f"{prefix}_w" in param:
        return param.get(f"{prefix}_h", default), param.get(f"{prefix}_w", default)
    given = param.get(name, default)
    sides = (given,) if isinstance(given, int) else tuple(given)
    return (sides[0], sides[-1]) if sides else (default, default)


def mismatches(described: Source, weights: Source) -> tuple[str, ...]:
    """One line for each layer that the prototxt `described` and the caffemodel `weights` do not agree on.

    Some published prototxts leave out `group: 2`: the shape of the weight tells it, and the line says so.
    """
    shapes = {
        layer.name: [weights.arrays[array].shape for array in layer.arrays] for layer in weights.layers if layer.arrays
    }
    told = [
        f"{name}: the prototxt has no such layer"
        for name in sorted(shapes.keys() - {one.name for one in described.layers})
    ]
    channels = {blob: shape[1] for blob, shape in described.notes["inputs"].items() if len(shape) > 1}
    for layer in described.layers:
        taken = [channels.get(blob, 0) for blob in layer.inputs]
        if layer.name in shapes:
            told += [f"{layer.name}: {line}" for line in _compared(layer, shapes[layer.name], taken)]
        elif layer.kind in LEARNING:
            told.append(f"{layer.name}: the caffemodel has no weights for it")
        depth = _depth(layer, taken)
        channels |= dict.fromkeys(layer.outputs, depth) if depth else {}
    return tuple(told)


def _compared(layer: Layer, shapes: list[tuple[int, ...]], taken: list[int]) -> Iterator[str]:
    param = layer.fields.get(
        {"Convolution": "convolution_param", "InnerProduct": "inner_product_param"}.get(layer.kind, "")
    )
    if param is None:
        return
    weight = shapes[0]
    dense = layer.kind == "InnerProduct"
    rows = weight[-1 if param.get("transpose") else -2] if dense and len(weight) > 1 else weight[0] if weight else 0
    if rows != param.get("num_output"):
        yield f"num_output is {param.get('num_output')}, its weight {weight} has {rows}"
    if len(shapes) != 1 + param.get("bias_term", True):
        blobs = f"{counted(len(shapes), 'blob')} {agreeing(len(shapes), 'is', 'are')} stored"
        yield f"bias_term is {str(param.get('bias_term', True)).lower()}, {blobs}"
    if dense or len(weight) != 4:
        return
    if (kernel := spatial(param, "kernel_size", 0)) != weight[2:]:
        yield f"the kernel is {kernel[0]}x{kernel[1]}, its weight {weight} has {weight[2]}x{weight[3]}"
    group, stored = param.get("group", 1), taken[0] / weight[1] if taken and weight[1] else 0
    if stored and stored != group:
        yield f"group is {group}, its weight {weight} for {counted(taken[0], 'channel')} has {stored:g}"


def _depth(layer: Layer, taken: list[int]) -> int:
    """Channels of a layer's outputs; 0 where they are not known."""
    if (param := layer.fields.get(_PARAMS.get(layer.kind, ""))) is not None:
        return int(param.get("num_output", 0))
    if layer.kind == "Concat":
        return sum(taken) if all(taken) else 0
    return taken[0] if taken else 0
