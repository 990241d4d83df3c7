"""Files of others import with the convention for pictures under which they were published."""

from __future__ import annotations

from pathlib import Path

import pytest

from skipway.data.preprocessing import preset
from skipway.interchange.importing import import_weights
from skipway.weights.bundle import load_bundle


@pytest.mark.parametrize(
    ("file", "model", "convention"),
    [
        ("resnet20-12fca82f.th", "resnet_v1_20.cifar", "imagenet_statistics"),
        ("cifar10_ResNet20v1_model.h5", "resnet_v1_20.keras_file", "unit"),
        ("pretrainedResnet.h5", "resnet_v1_8.keras_file", "counts"),
    ],
)
def test_the_convention_is_found(real_data: Path, tmp_path: Path, file: str, model: str, convention: str) -> None:
    found = import_weights(real_data / "checkpoints" / file, tmp_path / "model.safetensors")
    assert (found.model, found.left, found.missing) == (model, (), ())
    assert load_bundle(tmp_path / "model.safetensors").preprocessing == preset(convention, 32)
    assert any("--preprocessing" in warning for warning in found.warnings)  # and the user can choose another
