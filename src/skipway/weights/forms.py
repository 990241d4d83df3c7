"""The forms that weights are exported in: whose names, which endings, which networks, and how the files are written.

A form holds a network where reading the names and shapes that it would get, as an import does, gives that network
again. So an export needs no tables of its own, and what it writes can be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from skipway.errors import ModelFileError, UnknownNameError
from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import StackSpec
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.weights.formats import caffe_writer, keras_h5_writer, npy_write, safetensors_file, tf_checkpoint
from skipway.weights.formats import torch_write as torch_writer
from skipway.weights.mapping import alexnet, resnet
from skipway.weights.mapping.alexnet import infer_alexnet
from skipway.weights.mapping.caffe_graph import DATA, layers_of
from skipway.weights.mapping.inference import infer_stack
from skipway.weights.mapping.keys import Key, keys_of
from skipway.weights.mapping.layouts import source_shape
from skipway.weights.mapping.scheme import Scheme

Arrays = Mapping[str, np.ndarray]
SchemeFor = Callable[[Spec], Scheme | None]

# What a network's frameworks take from elsewhere, or not at all: the rest of a spec must be that of the form's row.
_FREE = ("name", "input_size", "preprocessing", "initialization", "weight_decay", "year", "paper", "source")
_MOST_LETTERS = 26  # of units named by letters


@dataclass(frozen=True)
class Form:
    """`rows` pairs the names that a form uses with the row of the catalog that these names are used for. `endings` mean
    the form by themselves, `named` only with its name. `scope` puts the network's bare name before every array's.

    `files` are those that a path stands for; `write` fills them with arrays in the order that `order` brings our keys
    into.
    """

    name: str
    rows: tuple[tuple[SchemeFor, str], ...]
    endings: tuple[str, ...]
    write: Callable[[Path, Spec, Arrays], None]
    named: tuple[str, ...] = ()
    scope: bool = False
    files: Callable[[Path], tuple[Path, ...]] = lambda to: (to,)
    order: Callable[[list[Key]], list[Key]] = list

    def scheme(self, spec: Spec) -> Scheme | None:
        """The names for this network, or None where the form cannot hold it."""
        if isinstance(spec, StackSpec) and [block.name for block in spec.blocks] != _stage_names(spec):
            return None
        for scheme_for, name in self.rows:
            row = find_spec(name)
            scheme = scheme_for(spec) if type(row) is type(spec) else None
            if scheme is not None and _is_same(spec, _read_back(spec, scheme, row)):
                return scheme
        return None

    def takes(self, to: Path, form: str) -> bool:
        """Whether a path, with the form's name or without, means this form."""
        ending = ending_of(to)
        return (not form and ending in self.endings) or (form == self.name and ending in self.endings + self.named)

    def told(self) -> str:
        """Name and endings: `hugging_face (.bin, with --form also .pth)`."""
        more = f", with --form also {', '.join(self.named)}" if self.named else ""
        return f"{self.name} ({', '.join(self.endings)}{more})"


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
    able = [one.told() for one in FORMS if one.scheme(spec) is not None]
    if not able:
        raise ModelFileError(
            f"{spec.name} has a layout that no other framework's names are known for; train or import one of "
            f"{', '.join(sorted({name for one in FORMS for _, name in one.rows})[:4])}, ..."
        )
    wanted = f"{to.name} by the names of {form}" if form else to.name
    raise ModelFileError(f"{spec.name} cannot be written as {wanted}; choose one of {'; '.join(able)}")


def ending_of(to: Path) -> str:
    """A path's ending, `.ckpt` for TensorFlow's numbered prefixes: model.ckpt-1000."""
    ending = to.suffix.lower()
    return ".ckpt" if ending.startswith(".ckpt-") else ending


def _stage_names(spec: StackSpec) -> list[str]:
    return [f"stage{number}" for number in range(1, len(spec.blocks) + 1)]


def _read_back(spec: Spec, scheme: Scheme, row: Spec) -> Spec | None:
    """What an import makes of the names and shapes that this scheme gives the network."""
    keys = keys_of(spec)
    places = {key.name: scheme.place(key, spec) for key in keys}
    shapes = {place.source: source_shape(key.shape, place) for key in keys if (place := places[key.name]) is not None}
    if isinstance(row, StackSpec):
        return infer_stack(shapes, scheme, row)
    assert isinstance(row, AlexNetSpec)
    return infer_alexnet(shapes, scheme, row)


def _is_same(spec: Spec, found: Spec | None) -> bool:
    """Whether both are one network; pictures of another size count where the classifier does not depend on it."""
    if found is None or found.flattened(found.input_size) != spec.flattened(spec.input_size):
        return False
    return found.replaced({field: getattr(spec, field) for field in _FREE}) == spec


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


def _write_torch(to: Path, spec: Spec, arrays: Arrays) -> None:  # noqa: ARG001 (all forms are written alike)
    if ending_of(to) == ".safetensors":
        safetensors_file.write(to, arrays, {"format": "pt"})
    else:
        torch_writer.write(to, arrays)


def _write_slim(to: Path, spec: Spec, arrays: Arrays) -> None:  # noqa: ARG001
    tf_checkpoint.write(to, arrays)


def _write_keras(to: Path, spec: Spec, arrays: Arrays) -> None:  # noqa: ARG001
    keras_h5_writer.write(to, arrays)


def _write_npy(to: Path, spec: Spec, arrays: Arrays) -> None:  # noqa: ARG001
    npy_write.write_npy(to, arrays)


def _write_caffe(to: Path, spec: Spec, arrays: Arrays) -> None:
    layers = layers_of(spec, arrays)
    inputs = {DATA: (1, spec.in_channels, spec.input_size, spec.input_size)}
    caffe_writer.write(to, arrays, layers, name=spec.name, inputs=inputs)
    caffe_writer.write_prototxt(to.with_suffix(".prototxt"), layers, name=spec.name, inputs=inputs)


def _layer_order(*, shortcut_first: bool) -> Callable[[list[Key]], list[Key]]:
    """As Keras sorts layers, by their depth in the graph: a unit's projection stands beside its last convolution, and
    before it where the sum names it first, as in keras.applications. Keras loads weights in this order."""

    def ordered(keys: list[Key]) -> list[Key]:
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


def _with_prototxt(to: Path) -> tuple[Path, ...]:
    return to, to.with_suffix(".prototxt")


def _index_and_shard(prefix: Path) -> tuple[Path, ...]:
    return tuple(prefix.with_name(prefix.name + end) for end in (".index", ".data-00000-of-00001"))


_TORCH = (".pth", ".pt", ".th")

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
    Form(
        "slim",
        ((_always(resnet.SLIM), "resnet_v1_50.slim"), (_always(resnet.SLIM), "resnet_v2_50.slim")),
        (".ckpt",),
        _write_slim,
        scope=True,
        files=_index_and_shard,
    ),
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
        (".npy",),
        _write_npy,
    ),
)
