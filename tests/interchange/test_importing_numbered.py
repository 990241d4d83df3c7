"""Weights of Keras alone, whose layers are known by their order: they answer as Keras did, or are refused."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tests.interchange.imported import SAME, apart

from skipway.errors import ModelFileError
from skipway.interchange.importing import import_weights, read_weights
from skipway.interchange.keras.names import group_name
from skipway.interchange.keras.network import keras_network
from skipway.interchange.keras.numbered import in_order
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.layouts import source_shape
from skipway.interchange.options import ImportOptions
from skipway.interchange.source import WeightFile
from skipway.models.blocks import StackSpec, stage
from skipway.models.catalog import find_spec

FIXTURES = Path(__file__).parent / "fixtures" / "keras_numbered"
REFUSED = r"numbers its layers instead of naming them.*; save the whole model with"


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each case, with `w.weights.h5` and `logits.npz`."""
    folder = tmp_path_factory.mktemp("numbered")
    for archive in FIXTURES.glob("*.tar.xz"):
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
    return folder


def changed(file: Path, to: Path, change: Callable[[h5py.File], object]) -> Path:
    shutil.copy(file, to)
    with h5py.File(to, "r+") as opened:
        change(opened)
    return to


@pytest.mark.parametrize(
    ("case", "model", "code"),
    [
        ("keras2_12_signs", "resnet_v1_26.signs", "hand-signs"),
        ("keras2_12_cifar_v2", "resnet_v2_20.keras_file", "v2 of Keras's CIFAR example"),
        ("keras2_15_cifar_v1", "resnet_v1_14.keras_file", "v1 of Keras's CIFAR example"),
        ("keras3_cifar_v2", "resnet_v2_20.keras_file", "v2 of Keras's CIFAR example"),
    ],
)
def test_layers_known_by_their_order_answer_as_keras_did(
    numbered: Path, to: Path, case: str, model: str, code: str
) -> None:
    found = import_weights(numbered / case / "w.weights.h5", to)
    assert (found.model, found.scheme, found.left, found.missing) == (model, "keras_order", (), ())
    assert apart(numbered / case, to) < SAME
    assert any(code in warning and "--model" in warning for warning in found.warnings)


def test_the_networks_of_keras_applications_are_told_apart(written: Path, to: Path, tmp_path: Path) -> None:
    found = import_weights(written / "keras2_v1" / "w.weights.h5", to)
    assert (found.model, found.scheme) == ("resnet_v1_17.keras", "keras_order")
    assert apart(written / "keras2_v1", to) < SAME

    def nameless(opened: h5py.File) -> None:  # as Keras 3.0 to 3.5 write it
        for layer in opened["layers"].values():
            layer["vars"].attrs.pop("name", None)

    file = changed(written / "keras3_v2" / "w.weights.h5", tmp_path / "w.weights.h5", nameless)
    found = import_weights(file, to, overwrite=True)
    assert (found.model, found.scheme) == ("resnet_v2_20.keras", "keras_order")
    assert apart(written / "keras3_v2", to) < SAME


@pytest.mark.parametrize("name", ["cifar10_ResNet20v1_model.h5", "pretrainedResnet.h5"])
def test_public_files_without_their_description_import_alike(real_data: Path, tmp_path: Path, name: str) -> None:
    file = real_data / "checkpoints" / name
    whole = read_weights(file).bundle
    bare = changed(file, tmp_path / name, lambda opened: opened.attrs.pop("model_config"))
    found = read_weights(bare)
    assert found.scheme == "keras_order"
    assert (found.bundle.spec, found.bundle.preprocessing) == (whole.spec, whole.preprocessing)
    assert found.bundle.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(tensor, whole.tensors[key]) for key, tensor in found.bundle.tensors.items())


def _exchanged(opened: h5py.File) -> None:
    opened.move("layers/conv2d_3", "layers/kept")
    opened.move("layers/conv2d_5", "layers/conv2d_3")
    opened.move("layers/kept", "layers/conv2d_5")


def _another_kind(opened: h5py.File) -> None:
    opened["layers/layer_normalization/vars/0"] = np.ones(4, np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda opened: opened.pop("layers/conv2d_4"),
        lambda opened: opened.pop("layers/batch_normalization_3"),
        lambda opened: opened.pop("layers/conv2d_2/vars/1"),
        lambda opened: opened.copy("layers/dense", opened["layers"], "dense_1"),
        _exchanged,
        _another_kind,
    ],
    ids=["convolution", "norm", "bias", "two classifiers", "order", "kind"],
)
def test_other_shapes_or_another_order_are_refused(
    numbered: Path, to: Path, tmp_path: Path, change: Callable[[h5py.File], object]
) -> None:
    file = changed(numbered / "keras2_15_cifar_v1" / "w.weights.h5", tmp_path / "w.weights.h5", change)
    with pytest.raises(ModelFileError, match=REFUSED):
        import_weights(file, to)
    assert not to.exists()


def test_a_row_with_other_layers_is_refused(numbered: Path, to: Path) -> None:
    with pytest.raises(ModelFileError, match=REFUSED):
        import_weights(numbered / "keras2_15_cifar_v1" / "w.weights.h5", to, ImportOptions(model="resnet_v1_50.keras"))
    assert not to.exists()


def test_sizes_beyond_measure_are_no_network() -> None:
    norm = {f"batch_normalization/{name}": (64,) for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    shapes = {"conv2d/kernel": (7, 7, 3, 64), **norm}
    shapes |= {f"conv2d_{n}/kernel": shape for n, shape in enumerate([(1, 1, 64, 1 << 62), (3, 3, 1 << 62, 4)], 1)}
    shapes["conv2d_3/kernel"] = (1, 1, 4, 64)
    assert in_order(WeightFile("keras_h5", Path("w.weights.h5"), {}), shapes) is None


def _spelled(spec: StackSpec, to: Path) -> Path:
    """The file that Keras would write of a network, with zeros."""
    network = keras_network(spec)
    assert network is not None
    shapes: dict[str, list[tuple[int, ...]]] = {}  # of each layer in the order in which torch and Keras both have them
    for key in keys_of(spec):
        place = network.place(key, spec)
        if place is not None:
            shapes.setdefault(place.source.rpartition("/")[0], []).append(source_shape(key.shape, place))
    counted: Counter[str] = Counter()
    with h5py.File(to, "w") as opened:
        for layer in network.layers:
            for number, shape in enumerate(shapes.get(layer.name, [])):
                group, count = group_name(layer.kind), counted[layer.kind]
                opened[f"layers/{group}{f'_{count}' if count else ''}/vars/{number}"] = np.zeros(shape, np.float32)
            counted[layer.kind] += 1
    return to


def test_what_two_codes_might_have_written_is_refused(to: Path, tmp_path: Path) -> None:
    row = find_spec("resnet_v1_50.keras")
    assert isinstance(row, StackSpec)
    told = [stage("stage1", "bottleneck", 64, 2, stride=1), stage("stage2", "bottleneck", 32, 1, stride=2)]
    clear = row.replaced({"blocks": tuple(told), "num_classes": 0})
    assert read_weights(_spelled(clear, tmp_path / "clear.weights.h5")).bundle.spec.name == "resnet_v1_11.keras"
    # Projection and last convolution have one shape: the order of the summands, which differs, does not show.
    open_one = clear.replaced({"blocks": clear.blocks[:1]})
    with pytest.raises(ModelFileError, match=REFUSED):
        import_weights(_spelled(open_one, tmp_path / "open.weights.h5"), to)
    assert not to.exists()
