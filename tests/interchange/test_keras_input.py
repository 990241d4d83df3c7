"""Layers in front of a Keras network: those that do nothing in inference, and those that prepare its pictures."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skipway.data.preprocessing import preset
from skipway.errors import ModelFileError
from skipway.interchange.keras import read_h5 as keras_h5
from skipway.interchange.keras.topology import recognize
from skipway.interchange.mapping.matching import network_arrays
from skipway.interchange.preparation.conventions import stated
from skipway.interchange.source import Array, Layer, WeightFile

FIXTURE = Path(__file__).parent / "fixtures" / "keras_topology" / "keras2_v1_basic.h5.gz"
_BGR = {"slice_spec": [{"class_name": "__ellipsis__"}, {"start": None, "stop": None, "step": -1}]}
_MEAN = [-103.93900299072266, -116.77899932861328, -123.68000030517578]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> WeightFile:
    path = tmp_path_factory.mktemp("keras") / "w.h5"
    path.write_bytes(gzip.decompress(FIXTURE.read_bytes()))
    return keras_h5.read(path)


def behind(source: WeightFile, *front: tuple[str, dict[str, Any]]) -> WeightFile:
    """The same network with these layers before its first convolution."""
    start = next(layer for layer in source.layers if layer.kind == "InputLayer")
    first = next(layer for layer in source.layers if layer.inputs == (start.name,))
    layers, top = [], start.name
    for number, (kind, fields) in enumerate(front):
        layers.append(Layer(f"front_{number}", kind, (top,), fields=fields))
        top = f"front_{number}"
    others = [replace(layer, inputs=(top,)) if layer is first else layer for layer in source.layers]
    return replace(source, layers=(*others, *layers))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *((kind, {}) for kind in ("RandomFlip", "RandomRotation", "RandomZoom", "RandomContrast", "GaussianNoise")),
        ("RandomCrop", {"height": 22, "width": 22}),
    ],
)
def test_what_only_training_does_is_passed_over(plain: WeightFile, kind: str, fields: dict[str, Any]) -> None:
    found, wanted = recognize(behind(plain, (kind, fields))), recognize(plain)
    assert found is not None
    assert wanted is not None
    assert (found.spec, found.places) == (wanted.spec, wanted.places)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("RandomCrop", {"height": 20, "width": 20}),
        ("RandomFlip", {"call": {"training": True}}),
        ("Resizing", {"height": 22, "width": 22}),
        ("Lambda", {}),
        ("Rescaling", {"scale": 0.0}),
        ("Rescaling", {"scale": [1.0, 2.0]}),
        ("Normalization", {"mean": [1.0, 2.0, 3.0], "variance": [1.0] * 3, "axis": [1]}),
        ("TFOpLambda", {"function": "math.pow", "call": {"y": 2.0}}),
        ("SlicingOpLambda", {"call": {"slice_spec": [{"start": 1, "stop": None, "step": None}]}}),
    ],
)
def test_what_is_not_followed_is_named(plain: WeightFile, kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ModelFileError, match=f"{kind} layer 'front_0'.*save the part of the model behind it"):
        recognize(behind(plain, (kind, fields)))


# Layers in front, and what they make of counts (R, G, B).
FRONTS: list[tuple[list[tuple[str, dict[str, Any]]], Any]] = [
    ([("Rescaling", {"scale": 1 / 255, "offset": 0.0})], lambda x: x / 255),
    ([("RandomFlip", {}), ("Rescaling", {"scale": 1 / 127.5, "offset": -1.0})], lambda x: x / 127.5 - 1),
    ([("Rescaling", {"scale": [0.5, 0.25, 2.0], "offset": [1.0, 2.0, 3.0]})], lambda x: x * [0.5, 0.25, 2] + [1, 2, 3]),
    (
        [
            ("Rescaling", {"scale": 1 / 255}),
            ("Normalization", {"mean": [0.485, 0.456, 0.406], "variance": [0.229**2, 0.224**2, 0.225**2]}),
        ],
        lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    ),
    (
        [
            ("SlicingOpLambda", {"call": _BGR}),
            ("TFOpLambda", {"function": "nn.bias_add", "call": {"bias": _MEAN, "data_format": "NHWC"}}),
        ],
        lambda x: x[:, ::-1] + _MEAN,
    ),
    (
        [
            ("TFOpLambda", {"function": "math.truediv", "call": {"y": 127.5}}),
            ("TFOpLambda", {"function": "math.subtract", "call": {"y": 1.0}}),
        ],
        lambda x: x / 127.5 - 1,
    ),
    (
        [("Rescaling", {"scale": [1.0, 2.0, 4.0]}), ("SlicingOpLambda", {"call": _BGR})],
        lambda x: (x * [1, 2, 4])[:, ::-1],
    ),
]


@pytest.mark.parametrize(("front", "made"), FRONTS)
def test_layers_that_scale_are_the_preprocessing(
    plain: WeightFile, front: list[tuple[str, dict[str, Any]]], made: Any
) -> None:
    source = behind(plain, *front)
    found = recognize(source)
    assert found is not None
    assert not [doubt for doubt in found.doubts if doubt.kind == "pictures"]
    rule, told = stated(source, found.spec, "keras_graph")
    assert rule is not None
    assert (rule.size, rule.resize) == (22, "short_side")
    counts = np.random.default_rng(0).integers(0, 256, (50, 3)).astype(np.uint8)
    given = rule.standardized(torch.from_numpy(counts[:, :, None, None]))[:, :, 0, 0].numpy()
    np.testing.assert_allclose(given, made(counts.astype(float)), rtol=1e-5, atol=1e-4 * np.abs(given).max())
    assert len(told) == 1
    assert f"'front_{len(front) - 1}'" in told[0].text


def test_preprocess_input_is_the_convention_of_that_name(plain: WeightFile) -> None:
    source = behind(plain, *FRONTS[4][0])
    spec = found.spec if (found := recognize(source)) else None
    assert spec is not None
    rule, _ = stated(source, spec.replaced({"preprocessing": "keras_caffe"}), "keras_graph")
    assert rule == preset("keras_caffe", 22)


def test_adapted_statistics_are_used_and_not_left_over(plain: WeightFile) -> None:
    arrays = {
        f"norm/{name}": Array(f"norm/{name}", value.shape, value.dtype, lambda value=value: value)
        for name, value in (
            ("mean", np.float32([10, 20, 30])),
            ("variance", np.float32([4, 9, 16])),
            ("count", np.array(7)),
        )
    }
    source = behind(plain, ("Normalization", {"axis": [-1], "mean": None, "variance": None}))
    layers = tuple(replace(one, arrays=tuple(arrays)) if one.kind == "Normalization" else one for one in source.layers)
    source = replace(source, arrays={**source.arrays, **arrays}, layers=layers)
    found = recognize(source)
    assert found is not None
    rule, _ = stated(source, found.spec, "keras_graph")
    assert rule is not None
    assert (rule.scale, rule.mean, rule.std) == (1.0, (10.0, 20.0, 30.0), (2.0, 3.0, 4.0))
    assert set(network_arrays(source)) == set(plain.arrays)


def test_a_network_that_takes_its_pictures_as_they_are_says_nothing(plain: WeightFile) -> None:
    found = recognize(plain)
    assert found is not None
    assert stated(plain, found.spec, "keras_graph") == (None, ())
