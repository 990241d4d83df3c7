"""Public weights that somebody else trained (akamaster/pytorch_resnet_cifar10) in our ResNet-20 with option A."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipway.models.catalog import create_model

# 91.73 %, the accuracy that their authors publish.
RIGHT = 9_173
_SIDE, _ACROSS = 32, 50  # the test pictures lie in mosaics of 50 x 50


def _our_key(key: str) -> str:
    """module.layer2.0.bn1.weight -> stage2.unit1.norm1.weight."""
    key = key.removeprefix("module.")
    key = re.sub(r"^layer(\d)\.(\d+)", lambda found: f"stage{found[1]}.unit{int(found[2]) + 1}", key)
    key = re.sub(r"^(conv|bn)1\.", r"stem.\1.", key)
    return key.replace("bn", "norm").replace("linear.", "logits.")


@pytest.fixture(scope="module")
def pictures(real_data: Path) -> torch.Tensor:
    """The 10,000 test pictures, (N, 3, 32, 32), less their channels' means over their deviations."""
    mosaics = [np.asarray(Image.open(file).convert("RGB")) for file in sorted((real_data / "cifar10").glob("test-*"))]
    tiles = np.stack(mosaics).reshape(len(mosaics), _ACROSS, _SIDE, _ACROSS, _SIDE, 3)
    maps = torch.from_numpy(tiles.transpose(0, 1, 3, 5, 2, 4).reshape(-1, 3, _SIDE, _SIDE)).float() / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (maps - mean[:, None, None]) / deviation[:, None, None]


@pytest.fixture(scope="module")
def state(real_data: Path) -> dict[str, torch.Tensor]:
    """Their weights under our keys."""
    file = real_data / "checkpoints" / "resnet20-12fca82f.th"
    theirs = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    ours = {_our_key(key): value for key, value in theirs.items()}
    assert len(ours) == len(theirs)
    return ours


def _right(network: torch.nn.Module, pictures: torch.Tensor, labels: np.ndarray) -> int:
    with torch.inference_mode():
        answers = torch.cat([network(batch).argmax(1) for batch in pictures.split(500)])
    return int((answers.numpy() == labels).sum())


@pytest.mark.slow
def test_public_weights_answer_as_published(
    real_data: Path, pictures: torch.Tensor, state: dict[str, torch.Tensor]
) -> None:
    network = create_model("resnet_v1_20.cifar").eval()
    counters = {key for key in network.state_dict() if key.endswith("num_batches_tracked")}
    report = network.load_state_dict(state, strict=False)
    assert report.unexpected_keys == []
    assert set(report.missing_keys) <= counters
    with np.load(real_data / "cifar10" / "labels.npz") as labels:
        assert _right(network, pictures, labels["test"]) == RIGHT
