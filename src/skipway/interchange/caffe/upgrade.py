"""Old forms of Caffe's layers brought to today's, as Caffe's own upgrade_proto does.

V0 (2013) keeps every setting in one message and pads by layers of their own; V1 (2014) names types by an enumeration.
"""

from __future__ import annotations

from typing import Any

from skipway.interchange.caffe.message import Message, last
from skipway.interchange.containers.protobuf import WireError

_ODD = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN", "MVN": "MVN", "RELU": "ReLU", "SOFTMAX_LOSS": "SoftmaxWithLoss", "TANH": "TanH", "NONE": "",
}  # fmt: skip
_V0_KINDS = {
    "accuracy": "Accuracy", "bnll": "BNLL", "concat": "Concat", "conv": "Convolution", "data": "Data",
    "dropout": "Dropout", "euclidean_loss": "EuclideanLoss", "flatten": "Flatten", "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output", "im2col": "Im2col", "images": "ImageData", "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct", "lrn": "LRN", "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling", "relu": "ReLU", "sigmoid": "Sigmoid", "softmax": "Softmax", "softmax_loss": "SoftmaxWithLoss",
    "split": "Split", "tanh": "TanH", "window_data": "WindowData", "padding": "Padding",
}  # fmt: skip
# Where V0's settings of a layer type went: the message, and which settings it took.
_V0_SETTINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "conv": ("convolution_param", ("num_output", "biasterm", "pad", "kernelsize", "group", "stride")),
    "innerproduct": ("inner_product_param", ("num_output", "biasterm")),
    "pool": ("pooling_param", ("pool", "pad", "kernelsize", "stride")),
    "dropout": ("dropout_param", ("dropout_ratio",)),
    "lrn": ("lrn_param", ("local_size", "alpha", "beta", "k")),
    "concat": ("concat_param", ("concat_dim",)),
    "data": ("data_param", ("source", "batchsize")),
    "images": ("image_data_param", ("source", "batchsize")),
}
_V0_TRANSFORM = ("scale", "meanfile", "cropsize", "mirror")
_V0_NAMES = {
    "biasterm": "bias_term", "kernelsize": "kernel_size", "batchsize": "batch_size", "meanfile": "mean_file",
    "cropsize": "crop_size",
}  # fmt: skip
_TRANSFORM = ("scale", "mean_file", "crop_size", "mirror")


def form_of(net: Message) -> str:
    """V0, V1 or V2."""
    if "layer" in net:
        return "V2"
    return "V0" if any("layer" in layer for layer in net.get("layers", [])) else "V1"


def upgraded(net: Message) -> list[Message]:
    """All layers of a NetParameter, each as a LayerParameter. Raises WireError where two forms are mixed."""
    old, new = net.get("layers", []), net.get("layer", [])
    if old and new:
        raise WireError("it has layers of the old form and of the new one")
    v0 = [layer for layer in old if "layer" in layer]
    if v0 and len(v0) < len(old):
        raise WireError("it has layers of the first form and of the second")
    return _unpadded([_from_v0(layer) for layer in v0]) if v0 else [*map(_from_v1, old), *new]


def _from_v1(layer: Message) -> Message:
    made = {name: values for name, values in layer.items() if name not in ("param", "blobs_lr", "weight_decay")}
    if "type" in layer:
        made["type"] = [_v1_kind(last(layer, "type"))]
    if specs := _specs(layer, layer.get("param", [])):
        made["param"] = specs
    for name in ("data_param", "image_data_param", "window_data_param"):
        _move_transform(made, name)
    return made


def _v1_kind(kind: Any) -> str:
    """`SIGMOID_CROSS_ENTROPY_LOSS` is `SigmoidCrossEntropyLoss` today; what this schema lacks stays as it is."""
    if isinstance(kind, int):
        return f"V1LayerParameter.{kind}"
    return _ODD[kind] if kind in _ODD else "".join(word.capitalize() for word in str(kind).split("_"))


def _specs(layer: Message, names: list[str]) -> list[Message]:
    """One ParamSpec a blob from three lists, each of which may be shorter than the others."""
    lists = {"name": names, "lr_mult": layer.get("blobs_lr", []), "decay_mult": layer.get("weight_decay", [])}
    return [
        {name: [values[index]] for name, values in lists.items() if index < len(values)}
        for index in range(max(map(len, lists.values())))
    ]


def _move_transform(layer: Message, name: str) -> None:
    data = last(layer, name, {})
    moved = {key: data[key] for key in _TRANSFORM if key in data}
    if moved:
        layer[name] = [{key: values for key, values in data.items() if key not in moved}]
        layer["transform_param"] = [{**last(layer, "transform_param", {}), **moved}]


def _from_v0(connection: Message) -> Message:
    inner: Message = last(connection, "layer", {})
    kind = str(last(inner, "type", ""))
    made: Message = {"name": inner.get("name", []), "type": [_V0_KINDS.get(kind, kind)]}
    made |= {name: connection[name] for name in ("bottom", "top") if name in connection}
    made["blobs"] = inner.get("blobs", [])
    if specs := _specs(inner, []):
        made["param"] = specs
    param, names = _V0_SETTINGS.get(kind, ("", ()))
    if param:
        made[param] = [{_V0_NAMES.get(name, name): inner[name] for name in names if name in inner}]
    if transform := {_V0_NAMES.get(name, name): inner[name] for name in _V0_TRANSFORM if name in inner}:
        made["transform_param"] = [transform]
    if made["type"] == ["Padding"]:  # some wrote it so, too
        made["pad"] = inner.get("pad", [])
    return made


def _unpadded(layers: list[Message]) -> list[Message]:
    """Without V0's padding layers: the convolution or pool that takes one's output pads for itself."""
    kept: list[Message] = []
    padded: dict[str, Message] = {}  # the padding layer that wrote a blob last
    for layer in layers:
        kind = last(layer, "type")
        if kind == "Padding":
            padded |= dict.fromkeys(layer.get("top", []), layer)
            continue
        bottoms = layer.get("bottom", [])
        for index, bottom in enumerate(bottoms):
            if bottom in padded:
                _pad(layer, kind, padded[bottom])
                bottoms[index] = padded[bottom].get("bottom", [bottom])[0]
        for top in layer.get("top", []):
            padded.pop(top, None)
        kept.append(layer)
    return kept


def _pad(layer: Message, kind: str, padding: Message) -> None:
    param = {"Convolution": "convolution_param", "Pooling": "pooling_param"}.get(kind)
    if param is None or len(layer.get("bottom", [])) != 1:
        raise WireError(f"a padding layer is followed by {str(last(layer, 'name', ''))[:60]!r}, which cannot pad")
    layer[param] = [{**last(layer, param, {}), "pad": padding["pad"] or [0]}]
