"""Files of real Keras 2.15 and 3.15 in every form: each weight by its one name, the topology, what the file notes."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from skipway.interchange.keras import read_h5 as keras_h5
from skipway.interchange.keras import read_zip as keras_zip
from skipway.interchange.keras.config import parse_config
from skipway.interchange.source import WeightFile

FIXTURES = Path(__file__).parent / "fixtures" / "keras"
SHAPES = {
    "conv1/kernel": (3, 3, 3, 4),
    "conv1/bias": (4,),
    "bn_conv1/gamma": (4,),
    "bn_conv1/beta": (4,),
    "bn_conv1/moving_mean": (4,),
    "bn_conv1/moving_variance": (4,),
    "block/squeeze/kernel": (1, 1, 4, 4),
    "block/squeeze_bn/beta": (4,),
    "block/squeeze_bn/moving_mean": (4,),
    "block/squeeze_bn/moving_variance": (4,),
    "fc/kernel": (4, 5),
    "fc/bias": (5,),
}


def _drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    specification = importlib.util.spec_from_file_location("keras_fixtures", FIXTURES / "make.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.drawn(name, shape)


def _read(file: Path) -> WeightFile:
    return keras_zip.read(file) if file.suffix == ".keras" else keras_h5.read(file)


@pytest.mark.parametrize(
    "name", ["keras2_model.h5", "keras2_weights.h5", "keras2.keras", "keras3_model.h5", "keras3.keras"]
)
def test_every_form_gives_the_same_names_and_values(name: str) -> None:
    source = _read(FIXTURES / name)

    assert {array.name: array.shape for array in source.arrays.values()} == SHAPES
    for array in source.arrays.values():
        values = array.read()
        assert values.dtype == array.dtype == np.float32
        np.testing.assert_array_equal(values, _drawn(array.name, array.shape))


def test_numbered_weights_without_a_configuration_keep_what_their_groups_tell() -> None:
    source = _read(FIXTURES / "keras3.weights.h5")

    # Of three numbers the first could be scale or shift: that one layer keeps its numbers, with a warning.
    numbered = {f"block/squeeze_bn/{number}": (4,) for number in range(3)}
    named = {name: shape for name, shape in SHAPES.items() if "squeeze_bn" not in name}
    assert {array.name: array.shape for array in source.arrays.values()} == {**named, **numbered}
    assert any("block/squeeze_bn" in warning for warning in source.warnings)
    np.testing.assert_array_equal(source.arrays["block/squeeze_bn/0"].read(), _drawn("block/squeeze_bn/beta", (4,)))

    # Keras 2.15 wrote no names of layers there: their classes stand for them.
    source = _read(FIXTURES / "keras2.weights.h5")
    assert source.arrays["batch_normalization/moving_variance"].shape == (4,)
    np.testing.assert_array_equal(source.arrays["conv2d/kernel"].read(), _drawn("conv1/kernel", (3, 3, 3, 4)))


@pytest.mark.parametrize("name", ["keras2_model.h5", "keras2.keras", "keras3_model.h5", "keras3.keras"])
def test_the_network_is_described_down_to_nested_models(name: str) -> None:
    source = _read(FIXTURES / name)
    layers = {layer.name: layer for layer in source.layers}

    assert layers["conv1"].kind == "Conv2D" and layers["conv1"].inputs == ("picture",)
    assert layers["conv1"].fields["strides"] == [2, 2]
    assert layers["conv1"].arrays == ("conv1/kernel", "conv1/bias")
    assert layers["block"].kind == "Sequential" and layers["block"].inputs == ("bn_conv1",)
    assert layers["block"].outputs == ("block/squeeze_bn",)
    entrance = layers["block/squeeze"].inputs[0]
    assert layers[entrance].kind == "InputLayer" and layers[entrance].inputs == ("bn_conv1",)
    assert layers["block/squeeze_bn"].inputs == ("block/squeeze",)
    assert layers["add"].inputs == ("bn_conv1", "twice")
    assert [layer.name for layer in source.layers if not layer.inputs] == ["picture"]
    assert {array for layer in source.layers for array in layer.arrays} == set(SHAPES)


@pytest.mark.parametrize("name", ["keras2_model.h5", "keras2.keras", "keras3_model.h5", "keras3.keras"])
def test_live_batch_norm_and_lambda_are_told(name: str) -> None:
    source = _read(FIXTURES / name)
    layers = {layer.name: layer for layer in source.layers}

    assert layers["bn_conv1"].fields["live"] is True
    assert "live" not in layers["block/squeeze_bn"].fields
    assert layers["twice"].kind == "Lambda"
    assert layers["twice"].fields["function"] is None  # the marshalled code is dropped, not decoded
    assert any("Lambda" in warning and "twice" in warning for warning in source.warnings)
    assert any("bn_conv1" in warning and "statistics of the batch" in warning for warning in source.warnings)


def test_notes_of_a_whole_model() -> None:
    notes = _read(FIXTURES / "keras2_model.h5").notes
    assert notes["keras_version"] == "2.15.0" and notes["backend"] == "tensorflow"
    assert notes["data_format"] == "channels_last" and notes["model"] == "residual"
    assert notes["training"]["loss"] == "mse" and notes["optimizer_weights"] == 9

    assert _read(FIXTURES / "keras3.keras").notes["keras_version"].startswith("3.")


@pytest.mark.parametrize("name", ["keras2_plain.h5", "keras3_plain.keras"])
def test_a_sequential_model_is_a_chain(name: str) -> None:
    source = _read(FIXTURES / name)

    kinds = [layer.kind for layer in source.layers]
    assert kinds == ["InputLayer", "Conv2D", "Flatten", "Dense"]
    assert [layer.inputs for layer in source.layers[1:]] == [(layer.name,) for layer in source.layers[:-1]]
    np.testing.assert_array_equal(source.arrays["last/kernel"].read(), _drawn("last/kernel", (8, 3)))


def test_a_keras_archive_packed_again_with_deflate(tmp_path: Path) -> None:
    packed = tmp_path / "packed.keras"
    with zipfile.ZipFile(FIXTURES / "keras3.keras") as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for name in plain.namelist():
            out.writestr(name, plain.read(name))

    source = keras_zip.read(packed)
    packed.unlink()  # what was unpacked stays readable as long as the source
    for array in source.arrays.values():
        np.testing.assert_array_equal(array.read(), _drawn(array.name, array.shape))


def test_looks_like_goes_by_the_bytes() -> None:
    h5, archive = FIXTURES / "keras2_model.h5", FIXTURES / "keras3.keras"
    assert keras_h5.looks_like(h5.read_bytes()[:512], h5)
    assert not keras_h5.looks_like(archive.read_bytes()[:512], archive)
    assert keras_zip.looks_like(archive.read_bytes()[:512], archive)
    assert not keras_zip.looks_like(h5.read_bytes()[:512], h5)


def _keras_1(file: Path, *, theano_kernels: bool) -> dict[str, np.ndarray]:
    """A weights file as Keras 1 wrote it: names without a scope, no version."""
    kernel = np.arange(54, dtype=np.float32).reshape((2, 3, 3, 3) if theano_kernels else (3, 3, 3, 2))
    weights = {
        "conv1": {"conv1_W": kernel, "conv1_b": np.ones(2, np.float32)},
        "bn_conv1": {
            f"bn_conv1_{name}": np.full(2, number, np.float32)
            for number, name in enumerate(("gamma", "beta", "running_mean", "running_std"))
        },
    }
    with h5py.File(file, "w") as root:
        root.attrs["layer_names"] = [b"conv1", b"bn_conv1"]
        for layer, stored in weights.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in stored]
            for name, values in stored.items():
                group.create_dataset(name, data=values)
    return {name: values for stored in weights.values() for name, values in stored.items()}


@pytest.mark.parametrize("theano_kernels", [True, False])
def test_keras_1_names_and_what_it_leaves_open(tmp_path: Path, theano_kernels: bool) -> None:
    file = tmp_path / "keras1.h5"
    written = _keras_1(file, theano_kernels=theano_kernels)

    source = keras_h5.read(file)

    np.testing.assert_array_equal(source.arrays["conv1/kernel"].read(), written["conv1_W"])
    assert list(source.arrays)[2:] == [
        f"bn_conv1/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")
    ]
    np.testing.assert_array_equal(source.arrays["bn_conv1/moving_variance"].read(), written["bn_conv1_running_std"])
    assert source.notes["keras_version"] == "1" and source.notes["running_std"] == "variance"
    assert source.notes["kernel_layout"] == ("OIHW" if theano_kernels else "HWIO")
    assert any("running_std" in warning for warning in source.warnings)


def test_attributes_split_for_their_length_and_texts_of_either_kind(tmp_path: Path) -> None:
    file = tmp_path / "split.h5"
    with h5py.File(file, "w") as root:
        root.attrs["layer_names0"] = [b"a"]
        root.attrs["layer_names1"] = np.array(["b"], dtype=h5py.string_dtype())
        for layer in "ab":
            group = root.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/kernel:0".encode()]
            group.create_dataset(f"{layer}/kernel:0", data=np.full(3, ord(layer), ">f8"))

    source = keras_h5.read(file)

    assert list(source.arrays) == ["a/kernel", "b/kernel"]
    values = source.arrays["b/kernel"].read()
    assert values.dtype == np.dtype("=f8") and values.tolist() == [98.0, 98.0, 98.0]


def test_gzip_shuffle_and_checksum_are_undone_and_checked(tmp_path: Path) -> None:
    file, values = tmp_path / "packed.h5", np.random.default_rng(0).normal(size=(13, 7)).astype(np.float32)
    with h5py.File(file, "w", userblock_size=512) as root:
        root.attrs["layer_names"] = [b"a"]
        group = root.create_group("a")
        group.attrs["weight_names"] = [b"a/kernel:0"]
        packed = group.create_dataset(
            "a/kernel:0", data=values, chunks=(5, 3), compression="gzip", shuffle=True, fletcher32=True
        )
        offset = packed.id.get_chunk_info(0).byte_offset
    np.testing.assert_array_equal(keras_h5.read(file).arrays["a/kernel"].read(), values)

    damaged = bytearray(file.read_bytes())
    damaged[offset + 20] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(keras_h5.ModelFileError, match="checksum"):
        keras_h5.read(file).arrays["a/kernel"].read()


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    file, values = tmp_path / "brain.weights.h5", np.array([1.0, -2.5, 0.15625], np.float32)
    with h5py.File(file, "w") as root:
        group = root.create_group("layers/dense/vars")
        group.create_dataset("0", data=(values.view(np.uint32) >> 16).astype("<u2").view("V2"))
        group["0"].attrs["dtype"] = "bfloat16"
    array = keras_h5.read(file).arrays["dense/kernel"]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array.read(), values)


def _config(*layers: dict[str, object], kind: str = "Functional") -> str:
    return json.dumps({"class_name": kind, "config": {"name": "net", "layers": list(layers)}})


def test_keras_1_configurations() -> None:
    sequential = json.dumps(
        {
            "class_name": "Sequential",
            "config": [  # a bare list, before Keras 2.2.3
                {"class_name": "Convolution2D", "config": {"name": "conv1", "dim_ordering": "th"}},
                {"class_name": "BatchNormalization", "config": {"name": "bn", "mode": 2}},
            ],
        }
    )
    model = parse_config(sequential)
    assert [entry.layer.inputs for entry in model.layers] == [(), ("conv1",)]
    assert model.notes["data_format"] == "channels_first"
    assert model.layers[1].layer.fields["live"] is True

    graph = _config(
        {"class_name": "InputLayer", "name": "in", "config": {}, "inbound_nodes": []},
        {"class_name": "Merge", "name": "sum", "config": {}, "inbound_nodes": [[["in", 0, 0], ["in", 0, 0]]]},
        kind="Model",
    )
    assert parse_config(graph).layers[1].layer.inputs == ("in", "in")


def test_operations_called_with_tensors_among_their_arguments() -> None:
    graph = _config(
        {"class_name": "InputLayer", "name": "in", "config": {}, "inbound_nodes": []},
        {
            "class_name": "TFOpLambda",
            "name": "tf.pad",
            "config": {"function": "compat.v1.pad"},
            "inbound_nodes": [["in", 0, 0, {"paddings": [[0, 0], [0, 0], [8, 8]]}]],
        },
        {
            "class_name": "TFOpLambda",
            "name": "tf.add",
            "config": {"function": "__operators__.add"},
            "inbound_nodes": [["tf.pad", 0, 0, {"y": ["in", 0, 0], "name": None}]],
        },
    )
    _, pad, add = (entry.layer for entry in parse_config(graph).layers)
    assert pad.inputs == ("in",) and pad.fields["call"] == {"paddings": [[0, 0], [0, 0], [8, 8]]}
    assert add.inputs == ("tf.pad", "in") and "call" not in add.fields


def test_a_nested_model_called_in_training_makes_its_norms_live_and_shared_layers_are_told() -> None:
    norm = {"class_name": "BatchNormalization", "name": "bn", "config": {"name": "bn"}}
    inner = {
        "class_name": "Sequential",
        "name": "body",
        "config": {"name": "body", "layers": [norm]},
        "inbound_nodes": [[["in", 0, 0, {"training": True}]], [["in", 0, 0, {}]]],
    }
    model = parse_config(_config({"class_name": "InputLayer", "name": "in", "config": {}, "inbound_nodes": []}, inner))
    layers = {entry.layer.name: entry.layer for entry in model.layers}
    assert layers["body/bn"].fields["live"] is True
    assert layers["body"].fields["calls"] == (("in",), ("in",))
    assert any("more than once" in warning for warning in model.warnings)


@pytest.mark.parametrize(
    ("name", "arrays", "convolutions", "norms"),
    [("cifar10_ResNet20v1_model.h5", 120, 21, 19), ("pretrainedResnet.h5", 48, 9, 7)],
)
def test_real_files(real_data: Path, name: str, arrays: int, convolutions: int, norms: int) -> None:
    source = keras_h5.read(real_data / "checkpoints" / name)
    kinds = [layer.kind for layer in source.layers]

    assert len(source.arrays) == arrays
    assert kinds.count("Conv2D") == convolutions and kinds.count("BatchNormalization") == norms
    assert [layer.kind for layer in source.layers if not layer.inputs] == ["InputLayer"]
    names = {layer.name for layer in source.layers}
    assert all(taken in names for layer in source.layers for taken in layer.inputs)
    assert {array for layer in source.layers for array in layer.arrays} == set(source.arrays)
    for array in source.arrays.values():
        values = array.read()
        assert values.shape == array.shape and np.isfinite(values).all()
    variances = [array.read() for full, array in source.arrays.items() if full.endswith("moving_variance")]
    assert all((values >= 0).all() and values.any() for values in variances)
