"""Old forms of Caffe's layers brought to today's, as Caffe's own upgrade_proto does.

V0 (2013) keeps every setting in one message and pads by layers of their own; V1 (2014) names types by an enumeration.
"""

from __future__ import annotations

from typing import Any

from skipway.interchange.caffe.message import Message, last
from skipway.interchange.containers.protobuf import WireError

# The types of V1 whose name today is not their words in capitals joined.
_ODD = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN", "MVN": "MVN", "RELU": "ReLU", "SOFTMAX_LOSS": "SoftmaxWithLoss", "TANH": "TanH", "NONE": "",
}  # fmt: skip
# The types of V0, by their names today.
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
_V1_LISTS = ("param", "blobs_lr", "weight_decay")  # lists with a value a blob, which ParamSpecs hold today
_PADDED = {"Convolution": "convolution_param", "Pooling": "pooling_param"}  # the layers that pad, and their settings


def form_of(net: Message) -> str:
    """The form of a network's layers: V0, V1, or V2, which is today's."""
    if "layer" in net:
        return "V2"
    old = net.get("layers", [])
    if any("layer" in layer for layer in old):
        return "V0"
    return "V1"


def upgraded(net: Message) -> list[Message]:
    """All layers of a NetParameter, each as a LayerParameter.

    Raises WireError where two forms are mixed, and for a padding layer before a layer that cannot pad.
    """
    old = net.get("layers", [])
    new = net.get("layer", [])
    if old and new:
        raise WireError("it has layers of the old form and of the new one")
    first_form = [layer for layer in old if "layer" in layer]
    if not first_form:
        second_form = [_from_v1(layer) for layer in old]
        return second_form + new
    if len(first_form) < len(old):
        raise WireError("it has layers of the first form and of the second")
    layers = [_from_v0(layer) for layer in first_form]
    return _without_padding_layers(layers)


def _from_v1(layer: Message) -> Message:
    """A V1LayerParameter as a LayerParameter."""
    made = {name: values for name, values in layer.items() if name not in _V1_LISTS}
    if "type" in layer:
        old_kind = last(layer, "type")
        made["type"] = [_v1_kind(old_kind)]
    specs = _specs(layer, layer.get("param", []))
    if specs:
        made["param"] = specs
    for name in ("data_param", "image_data_param", "window_data_param"):
        _move_transform(made, name)
    return made


def _v1_kind(kind: Any) -> str:
    """`SIGMOID_CROSS_ENTROPY_LOSS` is `SigmoidCrossEntropyLoss` today. A number that the schema lacks stays."""
    if isinstance(kind, int):
        return f"V1LayerParameter.{kind}"
    if kind in _ODD:
        return _ODD[kind]
    words = [word.capitalize() for word in str(kind).split("_")]
    return "".join(words)


def _specs(layer: Message, names: list[str]) -> list[Message]:
    """One ParamSpec a blob from three lists, each of which may be shorter than the others.

    `names` are the names under which layers share blobs.
    """
    lists = {"name": names, "lr_mult": layer.get("blobs_lr", []), "decay_mult": layer.get("weight_decay", [])}
    blobs = max(len(values) for values in lists.values())
    specs = []
    for index in range(blobs):
        spec: Message = {}
        for name, values in lists.items():
            if index < len(values):
                spec[name] = [values[index]]
        specs.append(spec)
    return specs


def _move_transform(layer: Message, name: str) -> None:
    """Move the settings of how pictures are prepared from the message `name` to `transform_param`, in place."""
    data = last(layer, name, {})
    moved = {key: data[key] for key in _TRANSFORM if key in data}
    if not moved:
        return
    kept = {key: values for key, values in data.items() if key not in moved}
    transform = last(layer, "transform_param", {})
    extended = {**transform, **moved}
    layer[name] = [kept]
    layer["transform_param"] = [extended]


def _from_v0(connection: Message) -> Message:
    """A layer of the first form, which is a V1LayerParameter around a V0LayerParameter, as a LayerParameter."""
    inner: Message = last(connection, "layer", {})
    old_kind = str(last(inner, "type", ""))
    kind = _V0_KINDS.get(old_kind, old_kind)
    made: Message = {"name": inner.get("name", []), "type": [kind]}
    for name in ("bottom", "top"):
        if name in connection:
            made[name] = connection[name]
    made["blobs"] = inner.get("blobs", [])
    specs = _specs(inner, [])
    if specs:
        made["param"] = specs
    param, names = _V0_SETTINGS.get(old_kind, ("", ()))
    if param:
        settings = _renamed(inner, names)
        made[param] = [settings]
    transform = _renamed(inner, _V0_TRANSFORM)
    if transform:
        made["transform_param"] = [transform]
    if kind == "Padding":
        made["pad"] = inner.get("pad", [])
    return made


def _renamed(inner: Message, names: tuple[str, ...]) -> Message:
    """Those settings of a V0LayerParameter that `names` lists, under their names of today."""
    settings: Message = {}
    for name in names:
        if name in inner:
            new_name = _V0_NAMES.get(name, name)
            settings[new_name] = inner[name]
    return settings


def _without_padding_layers(layers: list[Message]) -> list[Message]:
    """V0's layers without its padding layers: the convolution or pool that takes the output of one pads for itself."""
    kept: list[Message] = []
    padded: dict[str, Message] = {}  # a blob, and the padding layer that wrote it last
    for layer in layers:
        kind = last(layer, "type")
        tops = layer.get("top", [])
        if kind == "Padding":
            padded.update(dict.fromkeys(tops, layer))
            continue
        bottoms = layer.get("bottom", [])
        for index, bottom in enumerate(bottoms):
            padding = padded.get(bottom)
            if padding is not None:
                _pad(layer, kind, padding)
                sources = padding.get("bottom", [bottom])
                bottoms[index] = sources[0]
        for top in tops:
            padded.pop(top, None)
        kept.append(layer)
    return kept


def _pad(layer: Message, kind: str, padding: Message) -> None:
    """Give a layer the pad of the padding layer before it. Raises WireError where it cannot pad."""
    param = _PADDED.get(kind)
    bottoms = layer.get("bottom", [])
    if param is None or len(bottoms) != 1:
        name = str(last(layer, "name", ""))
        raise WireError(f"a padding layer is followed by {name[:60]!r}, which cannot pad")
    settings = last(layer, param, {})
    pad = padding["pad"] or [0]
    extended = {**settings, "pad": pad}
    layer[param] = [extended]
