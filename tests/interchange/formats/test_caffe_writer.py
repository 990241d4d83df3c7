"""Caffe's files as written here: read again bit for bit, and the same to Google's protobuf library."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from skipway.errors import ModelFileError, StorageError
from skipway.interchange.caffe import prototxt
from skipway.interchange.caffe import read as caffe
from skipway.interchange.caffe import write as caffe_writer
from skipway.interchange.caffe.message import Symbol
from skipway.interchange.source import Layer, WeightFile

FIXTURES = Path(__file__).parent / "fixtures" / "caffe"
CONV = Layer(
    "conv2", "Convolution", ("norm1",), ("conv2",), ("conv2/0", "conv2/1"),
    {"convolution_param": {"num_output": 4, "kernel_size": (3,), "pad": (1, 0), "group": 2, "bias_term": True}},
)  # fmt: skip
LAYERS = (
    Layer("data", "Input", (), ("data",), (), {"input_param": {"shape": ({"dim": (1, 4, 300, 8)},)}}),
    Layer("norm1", "LRN", ("data",), ("norm1",), (), {"lrn_param": {"local_size": 5, "alpha": 1e-4, "beta": 0.75}}),
    CONV,
    Layer("bn", "BatchNorm", ("conv2",), ("conv2",), ("bn/0",), {"batch_norm_param": {"eps": 1e-5}}),
    Layer("pool", "Pooling", ("conv2",), ("pool",), (), {"pooling_param": {"pool": "AVE", "global_pooling": True}}),
    Layer("sum", "Eltwise", ("pool", "bn"), ("sum",), (), {"eltwise_param": {"operation": "MAX", "coeff": (1.0, 2.0)}}),
)  # fmt: skip


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """The classes of Google's library for Caffe's messages, from the script that made the fixtures."""
    spec = importlib.util.spec_from_file_location("make_caffe", FIXTURES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    made: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made.messages()


def arrays() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(7)
    weight = draw.normal(size=(4, 2, 3, 3)).astype("f4")
    weight.ravel()[:5] = [np.nan, np.inf, -0.0, 1e-45, np.float32(3.4e38)]
    return {"conv2/0": weight, "conv2/1": draw.normal(size=4).astype("f4"), "bn/0": draw.normal(size=4)}


def same(source: WeightFile, expected: dict[str, np.ndarray]) -> bool:
    assert list(source.arrays) == list(expected)
    found = {name: array.read() for name, array in source.arrays.items()}
    return all(
        found[name].dtype == values.dtype
        and found[name].shape == values.shape
        and found[name].tobytes() == values.tobytes()
        for name, values in expected.items()
    )


def test_what_is_written_is_read_again_bit_for_bit(tmp_path: Path) -> None:
    file = tmp_path / "net.caffemodel"
    caffe_writer.write(file, arrays(), LAYERS, name="net", inputs={"x": (1, 3, 227, 227)})
    source = caffe.read(file)
    assert same(source, arrays())
    assert source.layers == LAYERS
    assert source.notes["name"] == "net"
    assert source.notes["inputs"] == {"x": (1, 3, 227, 227), "data": (1, 4, 300, 8)}


@pytest.mark.parametrize(
    "values",
    [
        np.array(2.5, "f4"),
        np.zeros((0, 3), "f4"),
        np.zeros((2, 0)),
        np.arange(24, dtype="f4").reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(6, dtype=">f4"),
        np.arange(6, dtype=">f8")[::2],
        np.arange(3, dtype="f4").reshape((1,) * 31 + (3,)),
    ],
    ids=["scalar", "empty", "empty double", "transposed", "big-endian", "strided", "32 dimensions"],
)
def test_odd_arrays_keep_shape_and_bits(tmp_path: Path, values: np.ndarray) -> None:
    caffe_writer.write(tmp_path / "net.caffemodel", {"a/0": values})
    source = caffe.read(tmp_path / "net.caffemodel")
    assert same(source, {"a/0": np.array(values, values.dtype.newbyteorder("="), order="C")})
    assert [layer.name for layer in source.layers] == ["a"]


def test_googles_library_finds_the_same(tmp_path: Path, theirs: dict[str, Any]) -> None:
    file = tmp_path / "net.caffemodel"
    caffe_writer.write(file, arrays(), LAYERS, name="net")
    net = theirs["Net"].FromString(file.read_bytes())
    assert net.name == "net"
    assert [(layer.name, layer.type, tuple(layer.bottom), tuple(layer.top)) for layer in net.layer] == [
        (layer.name, layer.kind, layer.inputs, layer.outputs) for layer in LAYERS
    ]
    weight, bias = net.layer[2].blobs
    assert tuple(weight.shape.dim) == (4, 2, 3, 3)
    assert np.array(weight.data, "f4").tobytes() == arrays()["conv2/0"].tobytes()
    assert np.array(bias.data, "f4").tobytes() == arrays()["conv2/1"].tobytes()
    assert np.array(net.layer[3].blobs[0].double_data).tobytes() == arrays()["bn/0"].tobytes()
    conv = net.layer[2].convolution_param
    assert (conv.num_output, conv.group, list(conv.kernel_size), list(conv.pad)) == (4, 2, [3], [1, 0])
    assert net.layer[1].lrn_param.alpha == np.float32(1e-4)


@pytest.mark.parametrize("form", ["v0", "v1", "v1_unpacked", "v1_double", "v2"])
def test_every_form_becomes_todays_and_stays(tmp_path: Path, form: str) -> None:
    source = caffe.read(FIXTURES / f"{form}.caffemodel")
    loaded = {name: array.read() for name, array in source.arrays.items()}
    file = tmp_path / "net.caffemodel"
    caffe_writer.write(file, loaded, source.layers, name=source.notes["name"])
    assert same(caffe.read(file), loaded)
    assert caffe.read(file).layers == source.layers
    again = tmp_path / "again.caffemodel"
    caffe_writer.write(again, loaded, source.layers, name=source.notes["name"])
    assert again.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("form", ["v0", "v1", "v2"])
def test_texts_are_read_again_as_they_were(tmp_path: Path, form: str) -> None:
    source = prototxt.read(FIXTURES / f"{form}.prototxt")
    file = tmp_path / "net.prototxt"
    caffe_writer.write_prototxt(file, source.layers, name=source.notes["name"], inputs=source.notes["inputs"])
    again = prototxt.read(file)
    assert again.layers == source.layers
    assert {**again.notes, "form": form.upper()} == source.notes


def test_texts_of_every_kind_of_value(tmp_path: Path) -> None:
    name = "a \"quoted\" \\ 'name'\n\té\x07"
    fields = {
        "own_param": {"mode": Symbol("FAST"), "text": "FAST", "on": True, "at": (1, 2), "rate": 1e-9, "in": {"x": 1}},
        "include": ({"phase": "TEST"},),
        "dropout_param": {"dropout_ratio": np.float32(0.5)},
    }  # fmt: skip
    layer = Layer(name, "Own", fields=fields)
    caffe_writer.write_prototxt(tmp_path / "net.prototxt", [layer], inputs={"data": ()})
    assert prototxt.read(tmp_path / "net.prototxt").layers == (layer,)
    assert 'mode: FAST\n    text: "FAST"\n    on: true\n' in (tmp_path / "net.prototxt").read_text()


def test_random_names_survive_both_forms(tmp_path: Path) -> None:
    draw = random.Random(5)
    names = {
        "".join(chr(draw.choice([draw.randrange(1, 128), draw.randrange(160, 0xD000)])) for _ in range(20))
        for _ in range(50)
    }
    layers = tuple(Layer(name, "ReLU", (name,), (name,)) for name in sorted(names))
    caffe_writer.write_prototxt(tmp_path / "net.prototxt", layers)
    assert prototxt.read(tmp_path / "net.prototxt").layers == layers
    values = {f"{name}/0": np.ones(1, "f4") for name in names}
    caffe_writer.write(tmp_path / "net.caffemodel", values, name="names")
    assert same(caffe.read(tmp_path / "net.caffemodel"), values)


@pytest.mark.parametrize("dtype", ["f2", "i4", "u1", "c8"])
def test_other_types_are_refused(tmp_path: Path, dtype: str) -> None:
    file = tmp_path / "net.caffemodel"
    with pytest.raises(ModelFileError, match="Caffe stores float32 or float64; convert it first"):
        caffe_writer.write(file, {"a/0": np.ones(3, dtype)})
    assert not file.exists()


def test_arrays_and_layers_must_agree(tmp_path: Path) -> None:
    file = tmp_path / "net.caffemodel"
    for given, layers, told in (
        (arrays(), LAYERS[:3], "1 belongs to no layer"),
        ({}, LAYERS, "layers lack 3 arrays"),
        (arrays(), (*LAYERS, CONV), "2 belong to more than one"),
        ({"b/0": np.ones(1, "f4")}, (Layer("a", "", arrays=("b/0",)),), "name them a/0"),
        ({"a/1": np.ones(1, "f4")}, (), "layers lack 1 array "),
    ):
        with pytest.raises(ModelFileError, match=told):
            caffe_writer.write(file, given, layers)
    unknown = Layer("p", "Pooling", fields={"pooling_param": {"pool": "MEDIAN"}})
    with pytest.raises(ModelFileError, match="pool is MEDIAN; it must be one of MAX, AVE, STOCHASTIC"):
        caffe_writer.write(file, arrays(), (*LAYERS, unknown))
    assert not file.exists()


def test_more_than_caffe_reads_is_refused(tmp_path: Path) -> None:
    huge = np.broadcast_to(np.float32(0), (1 << 29,))
    with pytest.raises(ModelFileError, match="more than Caffe reads"):
        caffe_writer.write(tmp_path / "net.caffemodel", {"a/0": huge})


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose another folder"):
        caffe_writer.write(tmp_path / "file" / "net.caffemodel", arrays(), LAYERS)
