"""Files that the frameworks themselves wrote, imported: the same logits, the same network, and every doubt told.

`fixtures/importing/make.py` wrote the files and recorded what each framework answers to the same uint8 pictures; the
frameworks standardize them in their own way, the imported model by the preprocessing that it was given here.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.interchange.imported import SAME, apart
from torchvision.models import ResNet50_Weights

from skipway.errors import ModelFileError
from skipway.interchange.caffe import prototxt
from skipway.interchange.caffe import write as caffe_writer
from skipway.interchange.caffe.read import read as read_caffe
from skipway.interchange.importing import import_weights
from skipway.interchange.options import ImportOptions
from skipway.models.alexnet import AlexNetSpec
from skipway.models.catalog import find_spec
from skipway.weights.bundle import load_bundle
from skipway.weights.labels import default_labels

# Case, file in it ("" is the folder), the network and the names that found it.
FILES = [
    ("slim_v1_saved_v1", "model.ckpt", "resnet_v1_17.slim", "slim"),
    ("slim_v1_saved_v2", "model.ckpt", "resnet_v1_17.slim", "slim"),
    ("slim_v1_saved_v2", "model.ckpt.index", "resnet_v1_17.slim", "slim"),
    ("slim_v1_saved_v2", "model.ckpt.data-00000-of-00001", "resnet_v1_17.slim", "slim"),
    ("slim_v2_saved_v1", "model.ckpt", "resnet_v2_17.slim", "slim"),
    ("slim_v2_saved_v2", "model.ckpt", "resnet_v2_17.slim", "slim"),
    ("slim_v1_frozen", "frozen.pb", "resnet_v1_17.slim", "slim"),
    ("slim_v2_frozen", "frozen.pb", "resnet_v2_17.slim", "slim"),
    ("torchvision_resnet_zip", "model.pth", "resnet_v1_17.torchvision", "torchvision"),
    ("torchvision_resnet_wrapped", "checkpoint.pth.tar", "resnet_v1_12.torchvision", "torchvision"),
    ("torchvision_alexnet_legacy", "model.pth", "alexnet.owt", "torchvision"),
    ("timm_resnetv2_zip", "model.pth", "resnet_v2_14.timm", "timm"),
    ("hugging_face_folder", "", "resnet_v1_17.torchvision", "hugging_face"),
    ("keras2_v1", "whole.h5", "resnet_v1_17.keras_file", "keras_graph"),
    ("keras2_v1_named", "weights.h5", "resnet_v1_17.keras", "keras"),
    ("keras2_v2", "whole.h5", "resnet_v2_20.keras_file", "keras_graph"),
    ("keras2_v2", "whole.keras", "resnet_v2_20.keras_file", "keras_graph"),
    ("keras2_signs_frozen", "whole.h5", "resnet_v1_17.keras_file", "keras_graph"),
    ("keras3_v1", "whole.h5", "resnet_v1_17.keras_file", "keras_graph"),
    ("keras3_v1", "whole.keras", "resnet_v1_17.keras_file", "keras_graph"),
    ("keras3_v2", "whole.keras", "resnet_v2_20.keras_file", "keras_graph"),
    ("keras3_v2", "w.weights.h5", "resnet_v2_20.keras", "keras"),
    ("alexnet_caffe", "net.caffemodel", "alexnet.caffe", "caffe"),
    ("alexnet_caffe", "net.npy", "alexnet.caffe", "npy"),
    ("alexnet_caffenet", "net.caffemodel", "alexnet.caffenet", "caffe"),
    ("caffe_resnet_50", "net.caffemodel", "resnet_v1_23.original", "caffe"),
    ("caffe_resnet_101", "net.caffemodel", "resnet_v1_35.original", "caffe"),
]


@pytest.mark.parametrize(("case", "file", "model", "scheme"), FILES, ids=[f"{one[0]}-{one[1]}" for one in FILES])
def test_the_answers_are_the_frameworks(written: Path, to: Path, case: str, file: str, model: str, scheme: str) -> None:
    found = import_weights(written / case / file, to)
    assert (found.model, found.scheme, found.left, found.missing) == (model, scheme, (), ())
    assert apart(written / case, to) < SAME


@pytest.mark.parametrize("case", ["slim_v1_saved_v1", "slim_v2_saved_v2"])
def test_moving_averages_are_taken_when_asked_for(written: Path, to: Path, case: str) -> None:
    import_weights(written / case / "model.ckpt", to, ImportOptions(average="ema"))
    assert apart(written / case, to, "ema") < SAME
    assert apart(written / case, to, "raw") > 0.01


def test_a_model_that_is_asked_for_is_taken(written: Path, to: Path) -> None:
    """Arrays alone do not tell AlexNet from CaffeNet: a doubt, and the option that decides."""
    file = written / "alexnet_caffenet" / "net.npy"
    found = import_weights(file, to)
    assert apart(file.parent, to) > 0.01
    assert any("--model alexnet.caffenet" in one for one in found.warnings)
    found = import_weights(file, to, ImportOptions(model="alexnet.caffenet"), overwrite=True)
    assert apart(file.parent, to) < SAME
    assert not any("--model" in one for one in found.warnings)


def test_a_model_asked_for_by_whole_names_of_keras(written: Path, to: Path) -> None:
    with pytest.raises(ModelFileError, match=r"not resnet_v2_50.keras by any names"):
        import_weights(written / "keras2_v1" / "whole.h5", to, ImportOptions(model="resnet_v2_50.keras"))


def test_the_model_file_tells_where_it_comes_from(written: Path, to: Path) -> None:
    import_weights(written / "torchvision_resnet_zip" / "model.pth", to, ImportOptions(labels=list("abcdefg")))
    bundle = load_bundle(to)
    assert bundle.labels == tuple("abcdefg")
    assert bundle.preprocessing.mean == (0.485, 0.456, 0.406)
    assert (bundle.provenance["file"], bundle.provenance["format"]) == ("model.pth", "torch")
    assert len(bundle.provenance["sha256"]) == 64


def test_labels_are_imagenets(written: Path) -> None:
    assert len(set(default_labels(1000))) >= 998  # crane and maillot are two classes each
    assert default_labels(1000)[0] == "tench"
    assert default_labels(1001)[:2] == ("background", "tench")
    assert default_labels(1000) == tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    assert default_labels(3) == ("0", "1", "2")


def _rewritten(written: Path, case: str, file: Path, old: str = "", new: str = "") -> Path:
    """The caffemodel of a case with the settings of its prototxt, as Caffe itself writes it."""
    text = (written / case / "deploy.prototxt").read_text()
    assert old in text
    described = file.with_suffix(".prototxt")
    described.write_text(text.replace(old, new))
    source = read_caffe(written / case / "net.caffemodel")
    arrays = {name: array.read() for name, array in source.arrays.items()}
    blobs = {layer.name: layer.arrays for layer in source.layers}
    net = prototxt.read(described)
    layers = [dataclasses.replace(layer, arrays=blobs.get(layer.name, ())) for layer in net.layers]
    caffe_writer.write(file, arrays, layers, name="net")
    return file


def test_settings_in_the_caffemodel_count(written: Path, to: Path, tmp_path: Path) -> None:
    case = "alexnet_caffe"
    import_weights(_rewritten(written, case, tmp_path / "same.caffemodel"), to)
    assert apart(written / case, to) < SAME
    assert load_bundle(to).spec == find_spec("alexnet.caffe").replaced(
        {name: getattr(load_bundle(to).spec, name) for name in ("convs", "hidden", "num_classes")}
    )
    import_weights(
        _rewritten(written, case, tmp_path / "k.caffemodel", "beta: 0.75", "beta: 0.5 k: 2"), to, overwrite=True
    )
    spec = load_bundle(to).spec
    assert isinstance(spec, AlexNetSpec)
    assert (spec.norm.beta, spec.norm.k, spec.norm.size, spec.norm.alpha) == (0.5, 2.0, 5, 1e-4)


def test_matrices_of_old_caffe_are_taken(written: Path, to: Path, tmp_path: Path) -> None:
    """Before 2015 a matrix was (1, 1, out, in) and a vector (1, 1, 1, n)."""
    case = "alexnet_caffe"
    source = read_caffe(written / case / "net.caffemodel")
    arrays = {}
    for name, array in source.arrays.items():
        value = array.read()
        arrays[name] = value.reshape((1,) * (4 - value.ndim) + value.shape)
    file = tmp_path / "old.caffemodel"
    caffe_writer.write(file, arrays, source.layers, name="net")
    import_weights(file, to)
    assert apart(written / case, to) < SAME
