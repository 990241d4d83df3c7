"""Every form gives back, bit for bit, what was written; what a form cannot hold is refused before anything is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import torchvision

from skipway.data.preprocessing import preset
from skipway.errors import ModelFileError, RunError, StorageError, UnknownNameError
from skipway.interchange import exporting
from skipway.interchange.caffe.prototxt import read as read_prototxt
from skipway.interchange.exporting import convert_weights, export_weights
from skipway.interchange.forms import FORMS, find_form
from skipway.interchange.importing import import_weights
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.layouts import source_shape
from skipway.interchange.mapping.matching import best
from skipway.interchange.options import ImportOptions
from skipway.interchange.reading import read_any
from skipway.models.alexnet import AlexNetSpec
from skipway.models.blocks import StackSpec
from skipway.models.catalog import find_spec, list_models
from skipway.models.joins import Carry
from skipway.models.network import Spec
from skipway.weights.bundle import Bundle, load_bundle, save_bundle

# A row of each kind, the form's name where the ending does not tell, and the file.
ROUNDS: list[tuple[str, str, str]] = [
    ("resnet_v1_18.torchvision", "", "w.pth"),
    ("resnet_v1_50.torchvision", "torchvision", "w.safetensors"),
    ("resnet_v1_18.torchvision", "timm", "w.pt"),
    ("resnet_v1_50.torchvision", "", "w.bin"),
    ("resnet_v1_18.torchvision", "hugging_face", "w.safetensors"),
    ("resnet_v1_20.cifar", "", "w.th"),
    ("resnet_v2_18.timm", "", "w.pth"),
    ("resnet_v2_50.timm", "timm", "w.safetensors"),
    ("resnet_v1_50.slim", "", "w.ckpt"),
    ("resnet_v2_50.slim", "", "w.ckpt-1000"),
    ("resnet_v2_50.slim", "slim_checkpoint_v1", "w.ckpt-1000"),
    ("resnet_v1_50.slim", "", "w.pb"),
    ("resnet_v2_50.slim", "slim_frozen", "w.pb"),
    ("resnet_v1_50.keras", "", "w.h5"),
    ("resnet_v1_50.keras", "keras_branches", "w.h5"),
    ("resnet_v1_50.signs", "", "w.h5"),
    ("resnet_v2_50.keras", "", "w.h5"),
    ("resnet_v1_50.original", "", "w.caffemodel"),
    ("resnet_v1_101.original", "", "w.caffemodel"),
    ("alexnet.owt", "", "w.pth"),
    ("alexnet.caffe", "", "w.caffemodel"),
    ("alexnet.caffenet", "", "w.caffemodel"),
    ("alexnet.caffe", "", "w.npy"),
    ("alexnet.caffe", "", "w.npz"),
]
# Forms hold these rows in full width and depth. Their names do not depend on the ending.
ROWS = [
    pytest.param(name, form, file, id=f"{name}-{form or 'by_ending'}")
    for pattern, form, file in [
        ("resnet_v1_*.torchvision", "torchvision", "w.pth"),
        ("resnet_v1_*.torchvision", "hugging_face", "w.bin"),
        ("resnet_v1_*.cifar", "cifar_torch", "w.th"),
        ("resnet_v2_*.timm", "timm", "w.pth"),
        ("resnet_v1_*.slim", "slim", "w.ckpt"),
        ("resnet_v2_*.slim", "slim", "w.ckpt"),
        ("resnet_v1_*.keras", "keras", "w.h5"),
        ("resnet_v2_*.keras", "keras", "w.h5"),
        ("resnet_v1_50.keras", "keras_branches", "w.h5"),
        ("resnet_v1_50.signs", "keras_branches", "w.h5"),
        ("resnet_v1_[15][05]*.original", "caffe", "w.caffemodel"),
        ("alexnet.owt", "torchvision", "w.pth"),
        ("alexnet.caffe*", "caffe", "w.caffemodel"),
        ("alexnet.caffe*", "npy", "w.npy"),
    ]
    for name in list_models(pattern)
]


def narrow(name: str) -> Spec:
    """A row with few channels and seven classes; no two of a unit's widths are equal."""
    spec = find_spec(name)
    if isinstance(spec, StackSpec):
        blocks = tuple(
            dataclasses.replace(
                block, rows=tuple((_depth(number, block.unit), 3 + number, stride) for _, _, stride in block.rows)
            )
            for number, block in enumerate(spec.blocks)
        )
        stem = dataclasses.replace(spec.stem, width=_depth(0, "basic"))
        return spec.replaced({"blocks": blocks, "stem": stem, "num_classes": 7})
    assert isinstance(spec, AlexNetSpec)
    convs = tuple(dataclasses.replace(row, depth=4 + 2 * number) for number, row in enumerate(spec.convs))
    return spec.replaced({"convs": convs, "hidden": (11, 13), "num_classes": 7})


def _depth(stage: int, unit: str) -> int:
    return 2 * (3 + stage) if unit == "bottleneck" else 3 + stage


def bundle_of(spec: Spec, *, counted: bool = False) -> Bundle:
    """Random weights and statistics."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.rand(value.shape, generator=generator) + 0.5
        if value.is_floating_point()
        else torch.tensor(17 if counted else 0)
        for name, value in spec.build().state_dict().items()
    }
    rule = preset(spec.preprocessing, spec.input_size, grey=spec.in_channels == 1)
    return Bundle(spec, rule, tuple(map(str, range(spec.num_classes))), tensors)


def built(spec: Spec) -> dict[str, object]:
    """What a spec says but for where its row comes from: a narrow network is that of its layout's first row."""
    return {key: value for key, value in spec.to_dict().items() if key not in {"source", "preprocessing"}}


def model_file(folder: Path, spec: Spec, *, counted: bool = False) -> Path:
    file = folder / "model.safetensors"
    save_bundle(file, bundle_of(spec, counted=counted))
    return file


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        assert value.numpy().tobytes() == other[name].numpy().tobytes(), name


@pytest.mark.parametrize(("name", "form", "file"), ROUNDS)
def test_a_round_trip_is_exact(name: str, form: str, file: str, tmp_path: Path) -> None:
    spec = narrow(name)
    # Only PyTorch keeps a batch counter.
    model = model_file(tmp_path, spec, counted=file.endswith((".pth", ".pt", ".th", ".bin", ".safetensors")))
    (tmp_path / "a").mkdir()
    first = export_weights(model, tmp_path / "a" / file, form=form)
    assert all(one.is_file() for one in first.files)
    again = tmp_path / "again.safetensors"
    imported = import_weights(tmp_path / "a" / file, again, ImportOptions(model=name))
    assert (imported.left, imported.missing) == ((), ())
    assert built(load_bundle(again).spec) == built(spec)
    assert_equal(load_bundle(model).tensors, load_bundle(again).tensors)
    (tmp_path / "b").mkdir()
    second = export_weights(again, tmp_path / "b" / file, form=form)
    assert [one.read_bytes() for one in first.files] == [one.read_bytes() for one in second.files]


@pytest.mark.parametrize(("name", "form", "file"), ROWS)
def test_every_row_is_found_in_its_names_and_shapes(name: str, form: str, file: str) -> None:
    """The widths and depths of the catalog, which no round trip above has: shapes alone, without numbers."""
    spec = find_spec(name)
    found, scheme = find_form(spec, Path(file), form)
    assert found.name == form
    places = [(key, place) for key in keys_of(spec) if (place := scheme.place(key, spec)) is not None]
    assert {key.tensor for key in keys_of(spec)} - {key.tensor for key, _ in places} <= {"num_batches_tracked"}
    shapes = {place.source: source_shape(key.shape, place) for key, place in places}
    assert len(shapes) == len(places)
    divisors = {place.divisor: (1,) for _, place in places if place.divisor}
    match = best(shapes | divisors, frozenset({name}))
    assert match is not None
    assert (match.left, match.missing) == ((), ())
    assert built(match.spec) == built(spec)


def test_every_form_has_its_round_trip() -> None:
    tried = {find_form(narrow(name), Path(file), form)[0].name for name, form, file in ROUNDS}
    assert tried | {"keras_model", "keras_3_model"} == {one.name for one in FORMS}  # which have tests of their own


def test_a_network_that_is_no_row_is_exported(tmp_path: Path) -> None:
    row = find_spec("resnet_v1_20.cifar")
    assert isinstance(row, StackSpec)
    blocks = tuple(dataclasses.replace(block, rows=block.rows[:1]) for block in row.blocks)
    spec = row.replaced({"name": "resnet_v1_8.cifar", "blocks": blocks, "in_channels": 1, "input_size": 28})
    export_weights(model_file(tmp_path, spec), tmp_path / "w.pth")
    import_weights(tmp_path / "w.pth", tmp_path / "again.safetensors", ImportOptions(preprocessing="unit"))
    again = load_bundle(tmp_path / "again.safetensors")
    assert again.spec == spec.replaced({"input_size": 32})
    assert_equal(bundle_of(spec).tensors, again.tensors)


@pytest.mark.parametrize(
    ("row", "build"),
    [
        ("resnet_v1_18.torchvision", torchvision.models.resnet18),
        ("resnet_v1_50.torchvision", torchvision.models.resnet50),
    ],
)
def test_torchvision_loads_it_and_answers_the_same(row: str, build: type[torch.nn.Module], tmp_path: Path) -> None:
    spec = find_spec(row)
    network = spec.build().eval()
    rule = preset(spec.preprocessing, spec.input_size)
    model = tmp_path / "model.safetensors"
    save_bundle(model, Bundle(spec, rule, tuple(map(str, range(1000))), network.state_dict()))
    export_weights(model, tmp_path / "w.pth")
    theirs = build()
    theirs.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True), strict=True)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = network(x)
        assert wanted.std() > 0.01
        assert torch.allclose(theirs.eval()(x), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_slim_names_have_the_networks_scope(tmp_path: Path) -> None:
    export_weights(model_file(tmp_path, narrow("resnet_v2_50.slim")), tmp_path / "w.ckpt")
    names = set(read_any(tmp_path / "w.ckpt").arrays)
    assert "resnet_v2_50/block1/unit_1/bottleneck_v2/conv3/biases" in names
    assert "resnet_v2_50/postnorm/moving_variance" in names
    assert all(name.startswith("resnet_v2_50/") for name in names)


@pytest.mark.parametrize(
    ("row", "wanted"),  # what model.layers of Keras 2.15 and 3 say
    [
        ("resnet_v1_50.keras", "1_conv 1_bn 2_conv 2_bn 0_conv 3_conv 0_bn 3_bn"),
        ("resnet_v2_50.keras", "preact_bn 1_conv 1_bn 2_conv 2_bn 0_conv 3_conv"),
        (
            "resnet_v1_50.signs",
            "res2a_branch2a bn2a_branch2a res2a_branch2b bn2a_branch2b res2a_branch2c res2a_branch1 bn2a_branch2c "
            "bn2a_branch1",
        ),
    ],
)
def test_keras_layers_stand_in_its_order(row: str, wanted: str, tmp_path: Path) -> None:
    """Keras loads weights by this order: equal shapes in another one would be taken for each other."""
    export_weights(model_file(tmp_path, narrow(row)), tmp_path / "w.h5")
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in read_any(tmp_path / "w.h5").arrays))
    start = 2 if "v1" in row else 1
    found = [name.removeprefix("conv2_block1_") for name in layers[start:]]
    assert found[: len(wanted.split())] == wanted.split()


def test_the_prototxt_says_what_the_spec_says(tmp_path: Path) -> None:
    export_weights(model_file(tmp_path, narrow("alexnet.caffenet")), tmp_path / "w.caffemodel")
    source = read_prototxt(tmp_path / "w.prototxt")
    layers = {layer.name: layer for layer in source.layers}
    order = list(layers)
    assert order.index("pool1") < order.index("norm1")
    assert layers["norm1"].fields["lrn_param"] == {"local_size": 5, "alpha": 1e-4, "beta": 0.75}
    assert layers["conv2"].fields["convolution_param"]["group"] == 2
    assert order[-2:] == ["fc8", "prob"]
    export_weights(model_file(tmp_path, narrow("alexnet.caffe")), tmp_path / "v.caffemodel")
    order = [layer.name for layer in read_prototxt(tmp_path / "v.prototxt").layers]
    assert order.index("norm1") < order.index("pool1")


def test_caffes_statistics_are_not_to_be_divided(tmp_path: Path) -> None:
    export_weights(model_file(tmp_path, narrow("resnet_v1_50.original")), tmp_path / "w.caffemodel")
    arrays = read_any(tmp_path / "w.caffemodel").arrays
    assert arrays["bn2a_branch2a/2"].read().tolist() == [1.0]


@pytest.mark.parametrize(
    ("row", "file", "form", "told"),
    [
        ("resnet_v1_50.torchvision", "w.ckpt", "", "torchvision (.pth"),
        ("resnet_v1_50.torchvision", "w.safetensors", "", "with --form also .safetensors"),
        ("resnet_v1_50.torchvision", "w.pth", "slim", "hugging_face (.bin"),
        ("resnet_v2_50.slim", "w.npy", "", "slim (.ckpt)"),
        ("resnet_v2_50.slim", "w.pth", "timm", "slim_checkpoint_v1 (with --form .ckpt)"),
        ("resnet_v1_152.keras", "w.h5", "keras_branches", "keras (.h5"),
        ("resnet_v1_18.original", "w.caffemodel", "", "no other framework's names"),
        ("resnet_v2_20.cifar", "w.pth", "", "no other framework's names"),
        ("highway_19.cifar", "w.pth", "", "no other framework's names"),
        ("alexnet.tflearn", "w.npy", "", "no other framework's names"),
        ("resnet_v1_20.cifar", "w.h5", "", "cifar_torch (.pth"),
        ("resnet_v1_50.keras", "w.weights.h5", "", "call it w.h5"),
        ("resnet_v1_20.cifar", "w.keras", "", "cifar_torch (.pth"),
        ("resnet_v1_50.torchvision", "w.pb", "", "keras_3_model (.keras)"),
    ],
)
def test_what_a_form_cannot_hold_is_refused(row: str, file: str, form: str, told: str, tmp_path: Path) -> None:
    model = model_file(tmp_path, find_spec(row) if row.startswith("highway") else narrow(row))
    with pytest.raises(ModelFileError) as refused:
        export_weights(model, tmp_path / file, form=form)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model.safetensors"]


def test_a_network_built_otherwise_than_the_form_is_refused(tmp_path: Path) -> None:
    """Its names and shapes are torchvision's, but torchvision would put the stride elsewhere."""
    spec = narrow("resnet_v1_50.torchvision").replaced({"stride_in": "first"})
    with pytest.raises(ModelFileError, match=r"cannot be written as w\.pth; choose one of keras_model"):
        export_weights(model_file(tmp_path, spec), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        *((row, {"shortcut": "projection_all"}) for row in ("resnet_v1_20.cifar", "resnet_v1_50.signs")),
        *(
            (row, {"carry": carry})
            for row in ("resnet_v1_20.cifar", "resnet_v1_50.torchvision", "resnet_v1_50.original")
            for carry in get_args(Carry)[1:]
        ),
        *(("alexnet.caffe", {"conv_activation": kind}) for kind in ("tanh", "sigmoid")),
        ("alexnet.owt", {"activation": "sigmoid"}),
    ],
)
def test_no_form_passes_an_experiment_off_as_the_network_it_changes(row: str, fields: dict[str, str]) -> None:
    assert [one.name for one in FORMS if one.scheme(narrow(row)) is not None]
    changed = narrow(row).replaced(fields)
    assert [one.name for one in FORMS if one.scheme(changed) is not None] == []
    with pytest.raises(ModelFileError, match="has a layout that no other framework's names are known for"):
        find_form(changed, Path("w.pth"))


def test_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="hugging_face"):
        export_weights(model_file(tmp_path, narrow("resnet_v1_50.torchvision")), tmp_path / "w.pth", form="huggingface")


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    model = model_file(tmp_path, narrow("resnet_v1_50.slim"))
    (tmp_path / "w.ckpt.index").write_bytes(b"old")
    with pytest.raises(RunError, match="--overwrite"):
        export_weights(model, tmp_path / "w.ckpt")
    assert (tmp_path / "w.ckpt.index").read_bytes() == b"old"
    export_weights(model, tmp_path / "w.ckpt", overwrite=True)
    assert len(read_any(tmp_path / "w.ckpt").arrays) > 100


def test_an_old_checkpoint_is_not_put_beside_a_new_one(tmp_path: Path) -> None:
    """Whoever reads w.ckpt takes w.ckpt.index, as TensorFlow does."""
    model = model_file(tmp_path, narrow("resnet_v1_50.slim"))
    export_weights(model, tmp_path / "w.ckpt")
    with pytest.raises(RunError, match=r"w\.ckpt\.index is that of a V2 checkpoint"):
        export_weights(model, tmp_path / "w.ckpt", form="slim_checkpoint_v1", overwrite=True)
    assert not (tmp_path / "w.ckpt").exists()


def test_a_file_that_reads_otherwise_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(path: Path) -> object:
        source = read_any(path)
        name = next(iter(source.arrays))
        wrong = dataclasses.replace(source.arrays[name], read=lambda: np.zeros(source.arrays[name].shape, np.float32))
        return dataclasses.replace(source, arrays={**source.arrays, name: wrong})

    monkeypatch.setattr(exporting, "read_any", spoiled)
    with pytest.raises(StorageError, match="does not give back"):
        export_weights(model_file(tmp_path, narrow("resnet_v1_20.cifar")), tmp_path / "w.pth")


def test_one_step_from_file_to_file(tmp_path: Path) -> None:
    spec = narrow("alexnet.caffe")
    export_weights(model_file(tmp_path, spec), tmp_path / "w.npy")
    done = convert_weights(tmp_path / "w.npy", tmp_path / "v.caffemodel")
    assert done.found.bundle.spec == spec
    assert done.exported.files == (tmp_path / "v.caffemodel", tmp_path / "v.prototxt")
    assert {one.name for one in tmp_path.iterdir()} == {"model.safetensors", "w.npy", "v.caffemodel", "v.prototxt"}
    import_weights(tmp_path / "v.caffemodel", tmp_path / "again.safetensors")
    assert_equal(bundle_of(spec).tensors, load_bundle(tmp_path / "again.safetensors").tensors)
