"""Weight files that once were imported wrongly without a word: the answers are the source's, or the import refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from skipway.errors import ModelFileError
from skipway.interchange.importing import import_weights
from skipway.weights.bundle import load_bundle


@pytest.fixture
def cases(real_data: Path) -> Path:
    folder = real_data / "cases" / "weights"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def test_a_cifar_network_under_imagenet_names_answers_as_its_source(cases: Path, tmp_path: Path) -> None:
    """A 3x3 stem of 16 channels and three stages: stride 1 and no pool, whatever its layers are called."""
    import_weights(cases / "min_fc_downsample_8.pth", tmp_path / "m.safetensors")
    reference = torch.load(cases / "min_fc_downsample_8.ref", weights_only=True)
    bundle = load_bundle(tmp_path / "m.safetensors")
    with torch.no_grad():
        logits = bundle.network()(reference["x"])
    assert bundle.spec.input_size == 32
    assert torch.allclose(logits, reference["y"], rtol=0, atol=1e-5 * float(reference["y"].abs().max()))


def test_a_pre_activation_network_is_not_taken_for_another(cases: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"pre-activation network \(ResNet v2\)"):
        import_weights(cases / "bearpaw_preresnet20.pth", tmp_path / "m.safetensors")
