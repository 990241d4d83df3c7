"""Keras files of a network within another one, and those of TensorFlow that number what they keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.interchange.test_exporting import assert_equal, bundle_of, model_file, narrow

from skipway.errors import ModelFileError
from skipway.interchange.exporting import export_weights
from skipway.interchange.importing import import_weights, read_weights
from skipway.interchange.keras import write_h5 as keras_h5_writer
from skipway.interchange.reading import read_any
from skipway.interchange.tensorflow import checkpoint as tf_checkpoint
from skipway.weights.bundle import load_bundle


@pytest.mark.parametrize("row", ["resnet_v1_50.keras", "resnet_v2_50.keras"])
def test_a_nested_network_is_found_by_its_names(row: str, tmp_path: Path) -> None:
    """As Keras 2 saves Sequential([ResNet50(include_top=False), GlobalAveragePooling2D(), Dense(7)]), but that it keeps
    all of the inner network's weights in one group."""
    spec = narrow(row)
    export_weights(model_file(tmp_path, spec), tmp_path / "plain.h5")
    arrays = {}
    for name, array in read_any(tmp_path / "plain.h5").arrays.items():
        head = name.startswith("predictions/")
        arrays[name.replace("predictions", "dense") if head else f"resnet50/{name}"] = array.read()
    keras_h5_writer.write(tmp_path / "nested.h5", arrays)
    found = import_weights(tmp_path / "nested.h5", tmp_path / "again.safetensors")
    assert (found.scheme, found.left, found.missing) == ("keras", (), ())
    assert_equal(bundle_of(spec).tensors, load_bundle(tmp_path / "again.safetensors").tensors)


@pytest.mark.parametrize(
    ("prefix", "beside", "told"),
    [("ckpt", "", "is an object checkpoint of Keras"), ("variables/variables", "saved_model.pb", "of a SavedModel")],
)
def test_an_object_checkpoint_says_what_to_save_instead(prefix: str, beside: str, told: str, tmp_path: Path) -> None:
    (tmp_path / prefix).parent.mkdir(exist_ok=True)
    names = ("layer_with_weights-0/kernel", "layer_with_weights-0/bias", "optimizer/iter")
    arrays = {f"{name}/.ATTRIBUTES/VARIABLE_VALUE": np.ones((1, 1, 3, 4), np.float32) for name in names}
    tf_checkpoint.write(tmp_path / prefix, arrays)
    if beside:
        (tmp_path / beside).write_bytes(b"\x08\x01\x12\x00")
    for path in (tmp_path / prefix, tmp_path):
        with pytest.raises(ModelFileError, match=rf"{told}.*FILE\.keras"):
            read_weights(path)


def test_the_graph_of_a_saved_model_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x00")
    with pytest.raises(ModelFileError, match=r"is a SavedModel.*save the model again as \.h5 or \.keras"):
        read_weights(tmp_path / "saved_model.pb")
