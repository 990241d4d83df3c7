"""Whole models for Keras: any ResNet that Keras's own layers can build, with the network in the file."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import h5py
import pytest
from tests.interchange.test_exporting import assert_equal, bundle_of, model_file, narrow

from skipway.data.preprocessing import Preprocessing, preset
from skipway.errors import ModelFileError
from skipway.interchange.exporting import export_weights
from skipway.interchange.importing import import_weights
from skipway.interchange.keras.network import keras_network, keras_scheme
from skipway.interchange.options import ImportOptions
from skipway.interchange.reading import read_any
from skipway.models.blocks import StackSpec
from skipway.models.catalog import find_spec
from skipway.models.network import Spec
from skipway.weights.bundle import load_bundle, save_bundle

# Fields that no graph tells.
_UNTOLD = ("name", "preprocessing", "initialization", "weight_decay", "year", "paper", "source")


@pytest.mark.parametrize(("file", "form"), [("w.h5", "keras_model"), ("w.keras", "keras_3_model")])
@pytest.mark.parametrize(
    "name", ["resnet_v1_50.torchvision", "resnet_v1_50.slim", "resnet_v1_50.signs", "resnet_v2_50.keras"]
)
def test_a_whole_model_gives_network_and_weights_back(name: str, file: str, form: str, tmp_path: Path) -> None:
    spec = narrow(name).replaced({"input_size": 64})
    done = export_weights(model_file(tmp_path, spec), tmp_path / file, form=form)
    found = import_weights(tmp_path / file, tmp_path / "again.safetensors")
    assert (done.form, found.scheme, found.left, found.missing) == (form, "keras_graph", (), ())
    again = load_bundle(tmp_path / "again.safetensors")
    assert again.spec.replaced({field: getattr(spec, field) for field in _UNTOLD}) == spec
    assert_equal(bundle_of(spec).tensors, again.tensors)


@pytest.mark.parametrize("file", ["w.h5", "w.keras"])
def test_a_whole_model_says_how_its_pictures_are_prepared(file: str, tmp_path: Path) -> None:
    rule = Preprocessing(
        64, resize="squash", resize_to=80, kernel="bicubic", channels="BGR", scale=1.0, mean=(1.5, 2.5, 3.5)
    )
    model = dataclasses.replace(bundle_of(narrow("resnet_v1_50.slim").replaced({"input_size": 64})), preprocessing=rule)
    save_bundle(tmp_path / "model.safetensors", model)
    done = export_weights(tmp_path / "model.safetensors", tmp_path / file)
    assert done.stated
    assert "does not say so" not in done.describe()
    found = import_weights(tmp_path / file, tmp_path / "again.safetensors")
    assert load_bundle(tmp_path / "again.safetensors").preprocessing == rule
    assert not [one for one in found.warnings if "pictures" in one and "do not fit natural pictures" not in one]
    import_weights(tmp_path / file, tmp_path / "other.safetensors", ImportOptions(preprocessing="keras_tf"))
    assert load_bundle(tmp_path / "other.safetensors").preprocessing == preset("keras_tf", 64)


def test_a_preprocessing_that_is_none_is_refused(tmp_path: Path) -> None:
    spec = narrow("resnet_v1_50.slim").replaced({"input_size": 64})
    export_weights(model_file(tmp_path, spec), tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5", "a") as root:
        root.attrs["skipway_preprocessing"] = b'{"size": 0}'
    with pytest.raises(ModelFileError, match="--preprocessing"):
        import_weights(tmp_path / "w.h5", tmp_path / "again.safetensors")


def test_the_cifar_example_goes_back_by_its_own_names_and_order(real_data: Path, tmp_path: Path) -> None:
    """Keras loads weights by the order of layers: that of the file, which Keras itself wrote, must come again."""
    file = real_data / "checkpoints" / "cifar10_ResNet20v1_model.h5"
    import_weights(file, tmp_path / "m.safetensors")
    done = export_weights(tmp_path / "m.safetensors", tmp_path / "w.h5")
    assert done.form == "keras_model"
    theirs, ours = list(read_any(file).arrays.values()), list(read_any(tmp_path / "w.h5").arrays.values())
    assert [_counted_from_one(one.name) for one in ours] == [one.name for one in theirs]
    assert all(one.read().tobytes() == other.read().tobytes() for one, other in zip(ours, theirs, strict=True))


def _counted_from_one(name: str) -> str:
    """conv2d, conv2d_1 as older Keras counted them: conv2d_1, conv2d_2."""
    layer, _, weight = name.rpartition("/")
    base, _, number = layer.rpartition("_")
    return f"{base}_{int(number) + 1}/{weight}" if number.isdigit() else f"{layer}_1/{weight}"


def test_the_configuration_is_one_that_keras_reads(tmp_path: Path) -> None:
    """Keras 2.15 and 3.15 loaded such files and answered as we do (docs/log.md); they need every one of these."""
    export_weights(model_file(tmp_path, narrow("resnet_v1_50.torchvision")), tmp_path / "w.h5")
    with h5py.File(tmp_path / "w.h5") as root:
        model = json.loads(root.attrs["model_config"])
        assert root.attrs["keras_version"].decode() == root["model_weights"].attrs["keras_version"].decode() == "2.15.0"
        assert len(root["model_weights"].attrs["layer_names"]) == 53 + 53 + 1
    layers = {layer["name"]: layer for layer in model["config"]["layers"]}
    assert (model["class_name"], model["config"]["name"]) == ("Functional", "resnet_v1_50_torchvision")
    assert model["config"]["input_layers"] == [["input", 0, 0]]
    assert model["config"]["output_layers"] == [["dense", 0, 0]]
    assert layers["input"]["config"]["batch_input_shape"] == [None, 224, 224, 3]
    assert layers["add"]["inbound_nodes"] == [
        [["batch_normalization_4", 0, 0, {}], ["batch_normalization_3", 0, 0, {}]]
    ]
    assert layers["batch_normalization"]["config"]["epsilon"] == 1e-5
    assert layers["batch_normalization"]["config"]["momentum"] == 0.9
    assert layers["dense"]["config"] == {"name": "dense", "units": 7, "activation": "softmax"}


def test_the_serialization_is_one_that_keras_3_reads(tmp_path: Path) -> None:
    """Keras 3.15 loaded such files and answered as we do (docs/log.md)."""
    export_weights(model_file(tmp_path, narrow("resnet_v1_50.torchvision")), tmp_path / "w.keras")
    with zipfile.ZipFile(tmp_path / "w.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(archive.read("metadata.json"))["keras_version"] == "3.0.0"
        model = json.loads(archive.read("config.json"))
        with archive.open("model.weights.h5") as member, h5py.File(member) as root:
            assert [root[f"layers/batch_normalization/vars/{number}"].shape for number in range(4)] == [(3,)] * 4
            assert root["layers/conv2d/vars/0"].shape == (7, 7, 3, 3)
            assert root["layers/dense/vars"].attrs["name"] == "dense"
    assert (model["module"], model["class_name"]) == ("keras.src.models.functional", "Functional")
    layers = {layer["name"]: layer for layer in model["config"]["layers"]}
    assert layers["input"]["config"]["batch_shape"] == [None, 224, 224, 3]
    assert [_taken(one) for one in layers["add"]["inbound_nodes"][0]["args"][0]] == [
        ("batch_normalization_4", [None, 56, 56, 6]),
        ("batch_normalization_3", [None, 56, 56, 6]),
    ]
    assert _taken(layers["global_average_pooling2d"]["inbound_nodes"][0]["args"][0])[1] == [None, 7, 7, 12]
    assert _taken(layers["dense"]["inbound_nodes"][0]["args"][0]) == ("global_average_pooling2d", [None, 12])


def _taken(tensor: dict[str, dict[str, list[object]]]) -> tuple[object, list[object]]:
    return tensor["config"]["keras_history"][0], tensor["config"]["shape"]


@pytest.mark.parametrize("file", ["w.h5", "w.keras"])
@pytest.mark.parametrize("statistics", ["batch", "batch_in_units"])
def test_live_norms_are_called_in_training(statistics: str, file: str, tmp_path: Path) -> None:
    row = narrow("resnet_v1_50.signs")
    assert isinstance(row, StackSpec)
    spec = row.replaced({"norm": dataclasses.replace(row.norm, statistics=statistics)})
    assert export_weights(model_file(tmp_path, spec), tmp_path / file).form.endswith("_model")
    import_weights(tmp_path / file, tmp_path / "again.safetensors", ImportOptions(norm="batch"))
    again = load_bundle(tmp_path / "again.safetensors").spec
    assert isinstance(again, StackSpec)
    assert again.norm == spec.norm  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("resnet_v1_20.cifar", {}),  # zeros beside the channels are a Lambda's
        ("resnet_v1_50.original", {}),  # a pool that counts a last partial window
        ("resnet_v2_50.timm", {}),  # a pool that pads with what never wins
        ("resnet_v1_50.torchvision", {"output_stride": 8}),
        ("resnet_v1_50.torchvision", {"include_root_block": False}),
        ("alexnet.owt", {}),
    ],
)
def test_what_keras_layers_cannot_build_is_refused(name: str, fields: dict[str, object], tmp_path: Path) -> None:
    spec = find_spec(name).replaced(fields)
    assert keras_scheme(spec) is None
    with pytest.raises(ModelFileError, match=r"cannot be written as w\.h5|no other framework's names"):
        export_weights(model_file(tmp_path, _small(spec)), tmp_path / "w.h5", form="keras_model")
    assert not (tmp_path / "w.h5").exists()


def _small(spec: Spec) -> Spec:
    """The same network for few classes, with one unit a stage."""
    if not isinstance(spec, StackSpec):
        return narrow(spec.name)
    blocks = tuple(dataclasses.replace(block, rows=block.rows[:1]) for block in spec.blocks[:2])
    return spec.replaced({"blocks": blocks, "num_classes": 7})


def test_deep_networks_are_described() -> None:
    """The order of layers is found without recursion."""
    network = keras_network(find_spec("resnet_v2_200.slim"))
    assert network is not None
    assert len([layer for layer in network.layers if layer.kind == "Conv2D"]) == 200 + 3
