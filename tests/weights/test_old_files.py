"""Model files of earlier versions give the very answers that they gave when they were written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec
from skipway.weights.bundle import load_bundle, save_bundle

FILES = Path(__file__).parent / "fixtures" / "old_files"
NAMES = ("v1", "v2", "alexnet")


def header(file: Path) -> dict[str, object]:
    with safe_open(file, framework="pt") as opened:
        return dict(json.loads(opened.metadata()["skipway"]))


@pytest.mark.parametrize("name", NAMES)
def test_an_old_file_answers_as_it_did(name: str, tmp_path: Path) -> None:
    """Every sum of these networks is exact (fixtures/old_files/make.py), so that the answers are equal everywhere."""
    bundle = load_bundle(FILES / f"{name}.safetensors")
    again = tmp_path / "again.safetensors"
    save_bundle(again, bundle)
    with np.load(FILES / "answers.npz") as answers:
        pictures, logits = answers[f"{name}.pictures"], answers[f"{name}.logits"]
    with torch.no_grad():
        for file in (FILES / f"{name}.safetensors", again):
            found = load_bundle(file).network()(torch.from_numpy(pictures.astype(np.float32)))
            assert np.array_equal(found.numpy(), logits)


@pytest.mark.parametrize("name", ["v1", "v2"])
@pytest.mark.parametrize("pad", ["after", "before"])
def test_the_answers_would_tell_another_place_of_the_zeros(name: str, pad: str) -> None:
    bundle = load_bundle(FILES / f"{name}.safetensors")
    assert isinstance(bundle.spec, ResNetV1Spec | ResNetV2Spec)
    assert "pad" not in header(FILES / f"{name}.safetensors")["spec"]  # type: ignore[operator]
    assert bundle.spec.pad == "both"
    network = bundle.spec.replaced({"pad": pad}).build().eval()
    network.load_state_dict(bundle.tensors)
    with np.load(FILES / "answers.npz") as answers, torch.no_grad():
        found = network(torch.from_numpy(answers[f"{name}.pictures"].astype(np.float32)))
        assert not np.array_equal(found.numpy(), answers[f"{name}.logits"])
