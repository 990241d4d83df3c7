"""ResNets found in Keras files by their graph, filled by their places, and asked what Keras answered.

`fixtures/keras_topology/make.py` wrote the models with Keras 2.15 and Keras 3, and their answers to drawn pictures.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.contracts.tiny import relative
from tests.marks import slow_but
from torch import nn

from skipway.errors import ModelFileError
from skipway.interchange.keras import read_h5 as keras_h5
from skipway.interchange.keras import read_zip as keras_zip
from skipway.interchange.keras.config import parse_config
from skipway.interchange.keras.topology import Recognized, recognize
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.layouts import source_shape, to_ours
from skipway.interchange.preparation.input_mean import input_mean
from skipway.interchange.source import Array, Layer, WeightFile
from skipway.models.blocks import Norm, Stem
from skipway.models.catalog import find_spec
from skipway.models.network import Network

FIXTURES = Path(__file__).parent / "fixtures" / "keras_topology"
MODELS = ("v1_basic", "v1_bottleneck", "v2_cifar", "v2_applications", "signs")
FILES = [*(f"keras2_{name}.h5" for name in MODELS), *(f"keras3_{name}.keras" for name in MODELS)]
# Right answers to the 10,000 test pictures, as the weights' authors publish them.
PUBLIC = {"cifar10_ResNet20v1_model.h5": (9_188, 1 / 255), "pretrainedResnet.h5": (8_719, 1.0)}
_SIDE, _ACROSS = 32, 50  # the test pictures lie in mosaics of 50 x 50


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, WeightFile]:
    folder = tmp_path_factory.mktemp("keras")
    found = {}
    for name in FILES:
        path = folder / name
        path.write_bytes(gzip.decompress((FIXTURES / f"{name}.gz").read_bytes()))
        found[name] = (keras_h5 if name.endswith(".h5") else keras_zip).read(path)
    return found


def found_in(source: WeightFile) -> Recognized:
    found = recognize(source)
    assert found is not None
    return found


def filled(source: WeightFile, found: Recognized) -> Network:
    """Our network with the file's weights: every array is used once, and every tensor of ours has the shape it says."""
    network = found.spec.build().eval()
    state = network.state_dict()
    places = {name: place for name, place in found.places.items() if place is not None}
    assert sorted(place.source for place in places.values()) == sorted(source.arrays)
    assert {name.rpartition(".")[2] for name in set(state) - set(places)} <= {"num_batches_tracked"}
    for name, place in places.items():
        assert source.arrays[place.source].shape == source_shape(tuple(state[name].shape), place)
        state[name] = torch.from_numpy(np.ascontiguousarray(to_ours(source.arrays[place.source].read(), place)))
    network.load_state_dict(state)
    return network


def answers(network: Network) -> torch.Tensor:
    """Logits for the pictures of `make.py`."""
    side, channels = network.spec.input_size, network.spec.in_channels
    pictures = np.random.default_rng(1).normal(0, 1, (3, side, side, channels)).astype(np.float32)
    with torch.no_grad():
        return network(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()))


def expected(name: str, kind: str = "") -> torch.Tensor:
    """What Keras answered."""
    with np.load(FIXTURES / f"{name.partition('_')[0] if name in FILES else 'keras2'}_answers.npz") as stored:
        return torch.from_numpy(stored[f"{name}{kind}"])


@pytest.mark.parametrize("name", FILES)
def test_a_network_found_by_its_graph_answers_as_keras(sources: dict[str, WeightFile], name: str) -> None:
    found = found_in(sources[name])
    network = filled(sources[name], found)
    live = any(layer.fields.get("live") for layer in sources[name].layers)
    assert live == ("signs" in name)
    assert relative(answers(network), expected(name, " frozen" if live else "")) < 1e-5


@pytest.mark.parametrize("name", [name for name in FILES if "signs" in name])
def test_live_norms_are_those_of_the_file(sources: dict[str, WeightFile], name: str) -> None:
    """With the statistics of the batch in its units, our network answers as Keras does."""
    network = filled(sources[name], found_in(sources[name]))
    for path, module in network.named_modules():
        module.train(isinstance(module, nn.BatchNorm2d) and path.startswith("stage"))
    live = answers(network)
    assert relative(live, expected(name)) < 1e-5
    assert relative(expected(name, " frozen"), expected(name)) > 1e-2


SPECS: dict[str, dict[str, Any]] = {
    "v1_basic": {
        "shortcut": "pad", "conv_bias": True, "padding": "same", "head": "global", "norm": Norm(1e-3, 0.01),
        "stem": Stem(3, 1, 4, None, bias=True), "num_classes": 5, "input_size": 22,
        "rows": [[(4, 4, 1)], [(8, 8, 2), (8, 8, 1)], [(12, 12, 2)]],
    },
    "v1_bottleneck": {
        "shortcut": "projection", "projection": "normalized", "conv_bias": False, "padding": "symmetric",
        "stride_in": "middle", "norm": Norm(1.001e-5, 0.1), "stem": Stem(7, 2, 6, "symmetric"), "num_classes": 7,
        "in_channels": 1, "input_size": 47, "rows": [[(16, 4, 1)], [(24, 6, 2), (24, 6, 1)]],
    },
    "v2_cifar": {
        "shortcut": "projection", "projection": "first_shared", "conv_bias": True, "open_bias": True,
        "stride_in": "first", "stem": Stem(3, 1, 4, None, bias=True),
        "rows": [[(8, 2, 1), (8, 2, 1)], [(12, 8, 2)], [(16, 12, 2)]],
    },
    "v2_applications": {
        "shortcut": "projection", "projection": "shared", "conv_bias": False, "open_bias": True, "stride_in": "middle",
        "padding": "symmetric", "stem": Stem(7, 2, 6, "zeros", bias=True),
        "rows": [[(16, 4, 1), (16, 4, 2)], [(24, 6, 1)]],
    },
    "signs": {
        "shortcut": "projection", "projection": "normalized", "stride_in": "first", "head": "average_2_flatten",
        "stem": Stem(7, 2, 4, "valid", bias=True), "input_size": 64, "rows": [[(8, 2, 1)], [(16, 4, 4)]],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_says_is_in_the_spec(sources: dict[str, WeightFile], name: str) -> None:
    model = name.partition("_")[2].partition(".")[0]
    spec = found_in(sources[name]).spec
    wanted = dict(SPECS[model])
    assert [list(block.rows) for block in spec.blocks] == wanted.pop("rows")
    assert {field: getattr(spec, field) for field in wanted} == wanted
    assert spec.architecture == ("resnet_v2" if model.startswith("v2") else "resnet_v1")


def test_a_lambda_is_told(sources: dict[str, WeightFile]) -> None:
    told = [doubt.text for doubt in found_in(sources["keras2_v1_basic.h5"]).doubts if "code is not read" in doubt.text]
    assert len(told) == 2
    assert "every 2. pixel" in told[0]
    assert "4 channels of zeros" in told[0]


@pytest.mark.parametrize("name", ["keras2_v1_basic.h5", "keras3_v2_cifar.keras"])
def test_neither_names_nor_order_matter(sources: dict[str, WeightFile], name: str) -> None:
    source = sources[name]
    names = {layer.name: f"x{number}" for number, layer in enumerate(reversed(source.layers))}
    layers = [
        replace(layer, name=names[layer.name], inputs=tuple(names[one] for one in layer.inputs))
        for layer in sorted(source.layers, key=lambda layer: layer.name)
    ]
    assert found_in(replace(source, layers=tuple(layers))).spec == found_in(source).spec
    assert found_in(replace(source, layers=tuple(layers))).places == found_in(source).places


def changed(source: WeightFile, number: int, of: str, **changes: Any) -> WeightFile:
    """With one layer changed, the `number`-th of its kind."""
    chosen = [layer for layer in source.layers if layer.kind == of][number]
    fields = {**chosen.fields, **changes.pop("fields", {})}
    other = replace(chosen, fields=fields, **changes)
    return replace(source, layers=tuple(other if layer is chosen else layer for layer in source.layers))


@pytest.mark.parametrize(
    ("name", "number", "of", "changes", "told"),
    [
        ("v1_basic", 1, "Activation", {"kind": "Multiply"}, "Multiply layer .* has no place in a unit"),
        ("v1_basic", 2, "Conv2D", {"kind": "DepthwiseConv2D"}, "DepthwiseConv2D layer .* has no place in a unit"),
        ("v1_basic", 0, "Add", {"kind": "Concatenate"}, "Concatenate layer .* takes 2 values"),
        ("v1_basic", 1, "Conv2D", {"fields": {"groups": 2}}, "is dilated or grouped"),
        ("v1_basic", 1, "Conv2D", {"fields": {"dilation_rate": [2, 2]}}, "is dilated or grouped"),
        ("v1_basic", 1, "Conv2D", {"fields": {"strides": [2, 1]}}, "ours are odd and square"),
        ("v1_basic", 2, "Conv2D", {"fields": {"strides": [2, 2]}}, "belongs in an earlier convolution"),
        ("v1_basic", 1, "Conv2D", {"fields": {"padding": "valid"}}, "pads neither alike"),
        ("v1_basic", 1, "Conv2D", {"fields": {"activation": "relu"}}, "has an activation of its own"),
        ("v1_basic", 1, "BatchNormalization", {"fields": {"axis": 1}}, "which is not that of the channels"),
        ("v1_basic", 1, "BatchNormalization", {"fields": {"epsilon": 1e-5}}, "differs from the layers before it"),
        ("v1_basic", 0, "Lambda", {"kind": "Activation"}, "has no place in a unit"),
        ("v1_basic", 1, "Add", {"kind": "Lambda"}, "Lambda layer .* takes 2 values"),
        ("v1_basic", 0, "AveragePooling2D", {"fields": {"pool_size": [3, 3]}}, "averages 3 x 3 of 6 x 6 pixels"),
        ("v1_basic", 0, "Dense", {"fields": {"activation": "sigmoid"}}, "ends in sigmoid"),
        ("v1_basic", 0, "InputLayer", {"fields": {"batch_input_shape": [None, 22, 20, 3]}}, "not square"),
        ("v1_basic", 1, "Conv2D", {"fields": {"calls": 2}}, "is applied more than once"),
        ("v1_bottleneck", 0, "MaxPooling2D", {"fields": {"pool_size": [2, 2]}}, "is not 3x3"),
        ("v1_bottleneck", 2, "ZeroPadding2D", {"fields": {"padding": [[0, 1], [0, 1]]}}, "pads neither alike"),
        ("v1_bottleneck", 0, "ReLU", {"fields": {"max_value": 6.0}}, "stands where a relu belongs"),
        ("v2_applications", 1, "MaxPooling2D", {"fields": {"pool_size": [2, 2]}}, "more than single pixels"),
        ("v2_applications", 1, "MaxPooling2D", {"fields": {"strides": [1, 1]}}, "of unequal shapes"),
    ],
)  # fmt: skip
def test_the_first_layer_that_does_not_fit_is_named(
    sources: dict[str, WeightFile], name: str, number: int, of: str, changes: dict[str, Any], told: str
) -> None:
    source = changed(sources[f"keras2_{name}.h5"], number, of, **changes)
    with pytest.raises(ModelFileError, match=told):
        recognize(source)


def test_a_lambda_between_equal_shapes_is_refused(sources: dict[str, WeightFile]) -> None:
    """It might scale, or drop the branch now and then: nothing about the shapes asks for it."""
    source = sources["keras2_v1_basic.h5"]
    first = next(layer for layer in source.layers if layer.kind == "Add")
    scale = Layer("scale", "Lambda", (first.inputs[1],))
    source = changed(source, 0, "Add", inputs=(first.inputs[0], "scale"))
    with pytest.raises(ModelFileError, match="'scale' changes a shortcut between equal shapes"):
        recognize(replace(source, layers=(*source.layers, scale)))


def test_what_passes_on_or_adds_by_another_name_is_seen_through(sources: dict[str, WeightFile]) -> None:
    """Dropout, a sum as an operator or as Keras 1 has it, a pooled Lambda: the network stays what it was."""
    source = sources["keras2_v1_basic.h5"]
    spec = found_in(source).spec
    pooled = next(layer for layer in source.layers if layer.kind == "Lambda")
    extra = (
        Layer("drop", "Dropout", (next(layer for layer in source.layers if layer.kind == "Flatten").name,)),
        Layer("every second", "MaxPooling2D", pooled.inputs, fields={"pool_size": [1, 1], "strides": [2, 2]}),
    )
    source = changed(source, 0, "Add", kind="Merge", fields={"mode": "sum"})
    source = changed(source, 0, "Add", kind="TFOpLambda", fields={"function": "__operators__.add"})
    source = changed(source, 0, "Dense", inputs=("drop",))
    source = changed(source, 0, "Lambda", inputs=("every second",))
    assert found_in(replace(source, layers=(*source.layers, *extra))).spec == spec


def test_a_rescaling_by_255_says_how_pictures_are_prepared(sources: dict[str, WeightFile]) -> None:
    source = sources["keras2_v1_basic.h5"]
    start = next(layer for layer in source.layers if layer.kind == "InputLayer")
    told = [doubt.text for doubt in found_in(source).doubts if doubt.kind == "pictures"]
    assert told == ["the file does not say how its pictures were prepared: values from 0 to 1 are assumed"]
    layer = Layer("scale", "Rescaling", (start.name,), fields={"scale": 1 / 255, "offset": 0.0})
    scaled = changed(source, 0, "Conv2D", inputs=("scale",))
    scaled = replace(scaled, layers=(*scaled.layers, layer))
    assert found_in(scaled).spec.preprocessing == "unit"
    assert not [doubt for doubt in found_in(scaled).doubts if doubt.kind == "pictures"]


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("v1_basic", {"padding": "symmetric"}),
    ("v1_bottleneck", {"padding": "same"}),
    ("v1_bottleneck", {"stride_in": "first"}),
    ("v2_cifar", {"projection": "shared"}),
    ("v2_cifar", {"projection": "raw"}),
    ("v2_applications", {"projection": "raw"}),
    ("v2_applications", {"stem": Stem(7, 2, 6, "symmetric", bias=True)}),
]


@pytest.mark.parametrize(("model", "fields"), MISTAKES)
def test_a_mistake_that_shapes_do_not_show_is_seen(
    sources: dict[str, WeightFile], model: str, fields: dict[str, Any]
) -> None:
    name = f"keras2_{model}.h5"
    found = found_in(sources[name])
    wrong = replace(found, spec=found.spec.replaced(fields))
    assert relative(answers(filled(sources[name], wrong)), expected(name)) > 1e-3


def test_a_file_without_a_residual_network_is_none(sources: dict[str, WeightFile]) -> None:
    source = sources["keras2_v1_basic.h5"]
    assert recognize(replace(source, layers=())) is None
    assert recognize(replace(source, layers=tuple(layer for layer in source.layers[:4]))) is None


def test_a_cycle_and_a_missing_layer_are_refused(sources: dict[str, WeightFile]) -> None:
    source = sources["keras2_v1_basic.h5"]
    last = source.layers[-1].name
    with pytest.raises(ModelFileError, match="its own output as input"):
        recognize(changed(source, 2, "Conv2D", inputs=(last,)))
    with pytest.raises(ModelFileError, match="none of its layers"):
        recognize(changed(source, 2, "Conv2D", inputs=("gone",)))


@pytest.mark.parametrize("name", ["resnet_v1_50.keras", "resnet_v2_101.keras", "resnet_v1_50.signs"])
def test_a_row_of_the_catalog_is_found_as_such(name: str) -> None:
    """The configurations and shapes of Keras's own networks at full size, without their weights."""
    described = json.loads(gzip.decompress((FIXTURES / "rows.json.gz").read_bytes()))[name]
    arrays, owned = {}, {}
    for layer, weights in described["weights"].items():
        owned[layer] = tuple(f"{layer}/{weight}" for weight in weights)
        for weight, shape in weights.items():
            full = f"{layer}/{weight}"
            arrays[full] = Array(full, tuple(shape), np.dtype("f4"), lambda: np.zeros(0))
    layers = [entry.layer for entry in parse_config(described["config"]).layers]
    layers = [replace(layer, arrays=owned.get(layer.name, ())) for layer in layers]
    found = found_in(WeightFile("keras_h5", Path("model.h5"), arrays, tuple(layers)))
    assert found.spec == find_spec(name)
    assert found.doubts == ()
    assert {place.source for place in found.places.values() if place} == set(arrays)


@pytest.fixture(scope="module")
def pictures(real_data: Path) -> tuple[torch.Tensor, np.ndarray]:
    """CIFAR-10's test pictures (N, 3, 32, 32), counts from 0 to 255, and their labels."""
    mosaics = [np.asarray(Image.open(file).convert("RGB")) for file in sorted((real_data / "cifar10").glob("test-*"))]
    tiles = np.stack(mosaics).reshape(len(mosaics), _ACROSS, _SIDE, _ACROSS, _SIDE, 3)
    maps = torch.from_numpy(tiles.transpose(0, 1, 3, 5, 2, 4).reshape(-1, 3, _SIDE, _SIDE)).float()
    with np.load(real_data / "cifar10" / "labels.npz") as labels:
        return maps, labels["test"]


@pytest.mark.parametrize(
    ("name", "mean"),
    [("cifar10_ResNet20v1_model.h5", (0.491, 0.482, 0.447)), ("pretrainedResnet.h5", (125.3, 123.0, 113.9))],
)
def test_the_statistics_tell_what_pictures_were_like(real_data: Path, name: str, mean: tuple[float, ...]) -> None:
    """Means of CIFAR-10's training pictures, as values from 0 to 1 and as counts."""
    network = filled(source := keras_h5.read(real_data / "checkpoints" / name), found_in(source))
    state = {key: value.numpy() for key, value in network.state_dict().items()}
    found = input_mean(state["stem.conv.weight"], state["stem.conv.bias"], state["stem.norm.running_mean"])
    assert found is not None
    assert found.unexplained < 0.15
    assert np.allclose(found.channels, mean, rtol=0.1)


@pytest.mark.parametrize("name", slow_but(PUBLIC, quick=["pretrainedResnet.h5"]))
def test_public_networks_answer_as_keras_and_as_published(
    real_data: Path, pictures: tuple[torch.Tensor, np.ndarray], name: str
) -> None:
    source = keras_h5.read(real_data / "checkpoints" / name)
    network = filled(source, found_in(source))
    assert relative(answers(network), expected(name)) < 1e-5
    maps, labels = pictures
    right, scale = PUBLIC[name]
    with torch.inference_mode():
        found = torch.cat([network(batch * scale).argmax(1) for batch in maps.split(500)])
    assert abs(int((found.numpy() == labels).sum()) - right) <= 1  # the last bits differ between machines


def test_keys_are_those_of_the_spec(sources: dict[str, WeightFile]) -> None:
    for source in sources.values():
        found = found_in(source)
        assert list(found.places) == [key.name for key in keys_of(found.spec)]
