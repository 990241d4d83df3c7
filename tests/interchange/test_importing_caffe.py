"""What files of Caffe leave open: settings that a prototxt beside them states, classifiers under other names."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from tests.interchange.imported import SAME, apart
from tests.interchange.test_exporting import assert_equal, bundle_of, model_file, narrow

from skipway.errors import ModelFileError
from skipway.interchange.caffe import write as caffe_writer
from skipway.interchange.exporting import export_weights
from skipway.interchange.importing import import_weights
from skipway.interchange.numpy import write as npy_write
from skipway.interchange.options import ImportOptions
from skipway.interchange.reading import read_any
from skipway.models.alexnet import AlexNetSpec
from skipway.weights.bundle import load_bundle


def silent(written: Path, case: str, to: Path) -> Path:
    """A caffemodel that says of its layers kind and name alone."""
    source = read_any(written / case / "net.caffemodel")
    layers = [dataclasses.replace(layer, fields={}) for layer in source.layers if layer.arrays]
    caffe_writer.write(to, {name: array.read() for name, array in source.arrays.items()}, layers, name="net")
    return to


def changed(file: Path, to: Path, old: str, new: str) -> Path:
    text = file.read_text()
    assert old in text
    to.write_text(text.replace(old, new))
    return to


@pytest.mark.parametrize("option", [True, False])
def test_a_prototxt_says_what_the_caffemodel_does_not(written: Path, to: Path, tmp_path: Path, option: bool) -> None:
    """CaffeNet pools before it normalizes, which its arrays do not tell."""
    case = written / "alexnet_caffenet"
    file = silent(written, case.name, tmp_path / "net.caffemodel")
    assert import_weights(file, to).model == "alexnet.caffe"
    assert apart(case, to) > 0.01
    if option:
        found = import_weights(file, to, ImportOptions(prototxt=case / "deploy.prototxt"), overwrite=True)
    else:
        shutil.copy(case / "deploy.prototxt", file.with_suffix(".prototxt"))
        found = import_weights(file, to, overwrite=True)
    assert found.model == "alexnet.caffenet"
    assert not any("--model" in one for one in found.warnings)
    assert apart(case, to) < SAME


def test_a_prototxt_describes_a_npy_too(written: Path, to: Path) -> None:
    case = written / "alexnet_caffenet"
    found = import_weights(case / "net.npy", to, ImportOptions(prototxt=case / "deploy.prototxt"))
    assert found.model == "alexnet.caffenet"
    assert apart(case, to) < SAME


def test_settings_of_the_prototxt_count(written: Path, to: Path, tmp_path: Path) -> None:
    file = silent(written, "alexnet_caffe", tmp_path / "net.caffemodel")
    text = changed(written / "alexnet_caffe" / "deploy.prototxt", tmp_path / "d.prototxt", "beta: 0.75", "beta: 0.5")
    import_weights(file, to, ImportOptions(prototxt=text))
    spec = load_bundle(to).spec
    assert isinstance(spec, AlexNetSpec)
    assert spec.norm.beta == 0.5


def test_a_prototxt_of_another_network_is_one_line(written: Path, to: Path, tmp_path: Path) -> None:
    case = written / "alexnet_caffe"
    file = silent(written, case.name, tmp_path / "net.caffemodel")
    wrong = changed(case / "deploy.prototxt", tmp_path / "wrong.prototxt", 'name: "fc8"', 'name: "fc9"')
    with pytest.raises(ModelFileError, match=r"wrong\.prototxt describes another .*: fc8: the prototxt has no such"):
        import_weights(file, to, ImportOptions(prototxt=wrong))
    with pytest.raises(ModelFileError, match=r"has weights for: fc8: the prototxt has no such layer \(and 1 more\)"):
        import_weights(case / "net.npy", to, ImportOptions(prototxt=wrong), overwrite=True)
    assert not to.exists()
    wrong.rename(tmp_path / "net.prototxt")  # nobody asked for this one
    found = import_weights(file, to, overwrite=True)
    assert any("net.prototxt beside it is not used: " in one for one in found.warnings)
    with pytest.raises(ModelFileError, match=r"is no file of Caffe, .*; leave --prototxt out"):
        import_weights(
            written / "torchvision_resnet_zip" / "model.pth",
            to,
            ImportOptions(prototxt=case / "deploy.prototxt"),
            overwrite=True,
        )


def test_groups_that_a_prototxt_leaves_out_are_told(written: Path, to: Path, tmp_path: Path) -> None:
    """Some published ones of AlexNet do; the weights have 48 channels where 96 come in."""
    case = written / "alexnet_caffe"
    text = changed(case / "deploy.prototxt", tmp_path / "d.prototxt", "group: 2", "")
    found = import_weights(silent(written, case.name, tmp_path / "net.caffemodel"), to, ImportOptions(prototxt=text))
    assert any("d.prototxt leaves out groups, which the weights have: conv2: group is 1" in w for w in found.warnings)
    assert apart(case, to) < SAME


def test_a_prototxt_alone_has_no_weights(written: Path, to: Path) -> None:
    with pytest.raises(ModelFileError, match=r"a prototxt, which describes a network and has no weights; give its"):
        import_weights(written / "alexnet_caffe" / "deploy.prototxt", to)


@pytest.mark.parametrize(
    ("row", "file", "old", "new"),
    [
        ("alexnet.caffe", "w.caffemodel", "fc8", "fc8_flickr"),
        ("alexnet.caffenet", "w.caffemodel", "fc8", "fc8_oxford_102"),
        ("alexnet.caffe", "w.npy", "fc8", "score"),
        ("resnet_v1_50.original", "w.caffemodel", "fc20", "classifier"),
    ],
)
def test_a_classifier_may_have_any_name(row: str, file: str, old: str, new: str, tmp_path: Path) -> None:
    """Who trains a published network for other classes renames its last layer, so that Caffe draws it anew."""
    spec = narrow(row).replaced({"num_classes": 20})
    export_weights(model_file(tmp_path, spec), tmp_path / file)
    _rename(tmp_path / file, old, new)
    import_weights(tmp_path / file, tmp_path / "again.safetensors")
    again = load_bundle(tmp_path / "again.safetensors")
    assert again.spec.num_classes == 20
    assert_equal(bundle_of(spec).tensors, again.tensors)


def _rename(file: Path, old: str, new: str) -> None:
    source = read_any(file)

    def name(text: str) -> str:
        return new + text.removeprefix(old) if text == old or text.startswith(f"{old}/") else text

    arrays = {name(key): array.read() for key, array in source.arrays.items()}
    assert arrays.keys() != source.arrays.keys()
    if file.suffix == ".npy":
        npy_write.write_npy(file, arrays)
        return
    layers = [
        dataclasses.replace(
            layer,
            name=name(layer.name),
            arrays=tuple(map(name, layer.arrays)),
            inputs=tuple(map(name, layer.inputs)),
            outputs=tuple(map(name, layer.outputs)),
        )
        for layer in source.layers
    ]
    file.with_suffix(".prototxt").unlink()
    caffe_writer.write(file, arrays, layers, name="net")
