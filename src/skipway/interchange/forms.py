"""The forms that weights are exported in, and which of them a path means."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from skipway.data.preprocessing import Preprocessing
from skipway.errors import ModelFileError, RunError, UnknownNameError
from skipway.interchange.caffe import write as caffe_writer
from skipway.interchange.caffe.layers import DATA, layers_of
from skipway.interchange.form import Arrays, Form, SchemeFor, ending_of
from skipway.interchange.keras import write_h5 as keras_h5_writer
from skipway.interchange.keras import write_zip as keras_zip_writer
from skipway.interchange.keras.network import keras_network, keras_scheme
from skipway.interchange.keras.serialized import keras_3_config
from skipway.interchange.mapping import alexnet_names as alexnet
from skipway.interchange.mapping import resnet_names as resnet
from skipway.interchange.mapping.keys import Key
from skipway.interchange.mapping.scheme import Scheme
from skipway.interchange.numpy import write as npy_write
from skipway.interchange.tensorflow import checkpoint as tf_checkpoint
from skipway.interchange.tensorflow import write_graph as tf_graph_writer
from skipway.interchange.torch import safetensors as safetensors_file
from skipway.interchange.torch import write as torch_writer
from skipway.models.blocks import StackSpec
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.weights.bundle import Bundle

_MOST_LETTERS = 26  # of units named by letters


def find_form(spec: Spec, to: Path, form: str = "") -> tuple[Form, Scheme]:
    """The form that `to`'s ending, or `form`, means for this network, and its names for it.

    Raises UnknownNameError for a form that there is not, ModelFileError, naming those that can, where none is meant
    that holds the network.
    """
    if form and form not in {one.name for one in FORMS}:
        raise UnknownNameError("form", form, [one.name for one in FORMS])
    if to.name.endswith(".weights.h5"):
        raise ModelFileError(
            f"{to}: Keras takes a .weights.h5 for a form of Keras 3 alone, and this is the one that Keras 2 and 3 "
            f"both load; call it {to.name.removesuffix('.weights.h5')}.h5"
        )
    for one in FORMS:
        if one.takes(to, form) and (scheme := one.scheme(spec)) is not None:
            return one, scheme
    if isinstance(spec, StackSpec) and spec.norm.statistics != "running":
        raise ModelFileError(
            f"{spec.name} normalizes with the statistics of the batch in evaluation, which of other frameworks' files "
            "only a whole model's .h5 or .keras says; import it with --norm running and export that"
        )
    able = [one.describe() for one in FORMS if one.scheme(spec) is not None]
    if not able:
        raise ModelFileError(
            f"{spec.name} has a layout that no other framework's names are known for; train or import one of "
            f"{', '.join(sorted({name for one in FORMS for _, name in one.rows})[:4])}, ..."
        )
    wanted = f"{to.name} by the names of {form}" if form else to.name
    raise ModelFileError(f"{spec.name} cannot be written as {wanted}; choose one of {'; '.join(able)}")


def _always(scheme: Scheme) -> SchemeFor:
    return lambda spec: scheme  # noqa: ARG005


def _keras_branches(spec: Spec) -> Scheme | None:
    """None for stages of so many units that the letters end. Keras called its classifier fc1000 for any number of
    classes, the hand-signs code after them."""
    assert isinstance(spec, StackSpec)
    if max(len(block.rows) for block in spec.blocks) > _MOST_LETTERS:
        return None
    return resnet.keras_branches("fc1000" if spec.head == "global" else f"fc{spec.num_classes}")


def _caffe_resnet(spec: Spec) -> Scheme | None:
    """None for shortcuts of padded channels: Caffe has no layer that makes zeros."""
    assert isinstance(spec, ResNetV1Spec)
    return None if spec.shortcut == "pad" else resnet.caffe(f"fc{spec.num_classes}")


def _write_torch(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001 (all forms are written alike)
    if ending_of(to) == ".safetensors":
        safetensors_file.write(to, arrays, {"format": "pt"})
    else:
        torch_writer.write(to, arrays)


def _write_slim(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001
    tf_checkpoint.write(to, arrays)


def _write_slim_v1(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001
    index = to.with_name(f"{to.name}.index")
    if index.exists():
        raise RunError(f"{index} is that of a V2 checkpoint, which is read wherever both are; give another path")
    tf_checkpoint.write(to, arrays, "V1")


def _write_slim_frozen(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001
    tf_graph_writer.write(to, arrays)


def _write_keras(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001
    keras_h5_writer.write(to, arrays)


def _write_keras_model(to: Path, model: Bundle, arrays: Arrays) -> None:
    network = keras_network(model.spec)
    assert network is not None  # or the form would have no names for it
    config = network.config(model.spec.name.replace(".", "_"))
    keras_h5_writer.write(to, arrays, config=config, preprocessing=_told(model.preprocessing))


def _write_keras_3(to: Path, model: Bundle, arrays: Arrays) -> None:
    network = keras_network(model.spec)
    assert network is not None
    config = keras_3_config(model.spec.name.replace(".", "_"), network.layers)
    keras_zip_writer.write(to, arrays, config, preprocessing=_told(model.preprocessing))


def _told(rule: Preprocessing) -> dict[str, Any]:
    """Nothing where a mean image, which is no plain value, would be lost."""
    return {} if rule.mean_image is not None else rule.to_dict()


def _write_numpy(to: Path, model: Bundle, arrays: Arrays) -> None:  # noqa: ARG001
    if ending_of(to) == ".npz":
        npy_write.write_npz(to, arrays)
    else:
        npy_write.write_npy(to, arrays)


def _write_caffe(to: Path, model: Bundle, arrays: Arrays) -> None:
    spec = model.spec
    layers = layers_of(spec, arrays)
    inputs = {DATA: (1, spec.in_channels, spec.input_size, spec.input_size)}
    caffe_writer.write(to, arrays, layers, name=spec.name, inputs=inputs)
    caffe_writer.write_prototxt(to.with_suffix(".prototxt"), layers, name=spec.name, inputs=inputs)


def _layer_order(*, shortcut_first: bool) -> Callable[[Spec, list[Key]], list[Key]]:
    """As Keras sorts layers, by their depth in the graph: a unit's projection stands beside its last convolution, and
    before it where the sum names it first, as in keras.applications. Keras loads weights in this order."""

    def ordered(spec: Spec, keys: list[Key]) -> list[Key]:  # noqa: ARG001
        units = [list(unit) for _, unit in groupby(keys, key=lambda key: (key.stage, key.unit))]
        return [key for unit in units for key in (sorted(unit, key=_depth(unit)) if unit[0].stage else unit)]

    def _depth(unit: list[Key]) -> Callable[[Key], tuple[int, bool, int]]:
        last = max(int(key.layer[-1]) for key in unit if key.layer[-1].isdigit())

        def depth(key: Key) -> tuple[int, bool, int]:
            if key.layer.startswith("shortcut"):
                return last, key.kind == "norm", -1 if shortcut_first else 1
            return int(key.layer[-1]) if key.layer[-1].isdigit() else 0, key.kind == "norm", 0

        return depth

    return ordered


def _graph_order(spec: Spec, keys: list[Key]) -> list[Key]:
    network = keras_network(spec)
    assert network is not None
    places = {layer.name: number for number, layer in enumerate(network.layers)}
    return sorted(keys, key=lambda key: places[network.homes[key.name.rpartition(".")[0]]])


def _with_prototxt(to: Path) -> tuple[Path, ...]:
    return to, to.with_suffix(".prototxt")


def _index_and_shard(prefix: Path) -> tuple[Path, ...]:
    return tuple(prefix.with_name(prefix.name + end) for end in (".index", ".data-00000-of-00001"))


_TORCH = (".pth", ".pt", ".th")
_SLIM = ((_always(resnet.SLIM), "resnet_v1_50.slim"), (_always(resnet.SLIM), "resnet_v2_50.slim"))

# Where two forms share an ending, the first that holds the network is meant.
FORMS: tuple[Form, ...] = (
    Form(
        "torchvision",
        (
            (_always(resnet.TORCHVISION), "resnet_v1_50.torchvision"),
            (_always(alexnet.TORCHVISION), "alexnet.owt"),
        ),
        _TORCH,
        _write_torch,
        named=(".safetensors",),
    ),
    Form(
        "timm",
        (
            (_always(resnet.TIMM_V2), "resnet_v2_50.timm"),
            (_always(resnet.TORCHVISION), "resnet_v1_50.torchvision"),
        ),
        _TORCH,
        _write_torch,
        named=(".safetensors",),
    ),
    Form(
        "cifar_torch",
        ((_always(resnet.CIFAR_TORCH), "resnet_v1_20.cifar"),),
        _TORCH,
        _write_torch,
        named=(".safetensors",),
    ),
    Form(
        "hugging_face",
        ((_always(resnet.HUGGING_FACE), "resnet_v1_50.torchvision"),),
        (".bin",),
        _write_torch,
        named=(*_TORCH, ".safetensors"),
    ),
    Form("slim", _SLIM, (".ckpt",), _write_slim, scope=True, files=_index_and_shard),
    Form("slim_checkpoint_v1", _SLIM, (), _write_slim_v1, named=(".ckpt",), scope=True),
    Form("slim_frozen", _SLIM, (".pb",), _write_slim_frozen, scope=True),
    Form(
        "keras",
        ((_always(resnet.KERAS), "resnet_v1_50.keras"), (_always(resnet.KERAS), "resnet_v2_50.keras")),
        (".h5", ".hdf5"),
        _write_keras,
        order=_layer_order(shortcut_first=True),
    ),
    Form(
        "keras_branches",
        ((_keras_branches, "resnet_v1_50.signs"), (_keras_branches, "resnet_v1_50.keras")),
        (".h5", ".hdf5"),
        _write_keras,
        order=_layer_order(shortcut_first=False),
    ),
    Form("keras_model", (), (".h5", ".hdf5"), _write_keras_model, order=_graph_order, described=keras_scheme),
    Form("keras_3_model", (), (".keras",), _write_keras_3, order=_graph_order, described=keras_scheme),
    Form(
        "caffe",
        (
            *((_caffe_resnet, f"resnet_v1_{depth}.original") for depth in (50, 101, 152)),
            (_always(alexnet.CAFFE), "alexnet.caffe"),
            (_always(alexnet.CAFFE), "alexnet.caffenet"),
        ),
        (".caffemodel",),
        _write_caffe,
        files=_with_prototxt,
    ),
    Form(
        "npy",
        ((_always(alexnet.NPY), "alexnet.caffe"), (_always(alexnet.NPY), "alexnet.caffenet")),
        (".npy", ".npz"),
        _write_numpy,
    ),
)
