"""The judge of weight files: what is right passes, and every mistake that is planted fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights
from torchvision.models.resnet import Bottleneck

from tests.interchange.fixtures.importing.torches import _bottlenecks
from tests.parity.files import torches
from tests.parity.files.judge import SCRIPTS, judge
from tests.parity.files.pair import Pair
from tests.parity.files.write import LOGITS
from tests.parity.formula import uniform
from tests.parity.line import Line

if TYPE_CHECKING:
    from torch import nn

PAIR = Pair("torches", "narrow", "torchvision, a narrow ResNet", "own", ("zip.pth", "legacy.pth"))
TRANSFORM = ResNet50_Weights.IMAGENET1K_V1.transforms()


@dataclasses.dataclass
class Written:
    """A folder with a network's files, the network, and the photos to show it."""

    folder: Path
    network: nn.Module
    photos: list[Path]

    def judged(self, transform: Callable[[Any], torch.Tensor] = TRANSFORM) -> Line:
        """The line, the network being asked as it is now."""
        np.save(self.folder / LOGITS, torches.answers(self.network, transform, self.photos))
        return judge(PAIR, self.folder, self.photos)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Coarse coloured noise of 256 pixels a side."""
    photos, folder = [], tmp_path / "written"
    folder.mkdir()
    for number, side in enumerate((16, 24, 32)):
        noise = np.floor(256 * uniform(f"photo {number}", (side, side, 3))).astype(np.uint8)
        photos.append(tmp_path / f"{number}.png")
        Image.fromarray(noise).resize((256, 256)).save(photos[-1])
    network = _bottlenecks()
    torches.fill(network)
    torches.save(network, PAIR.files, folder)
    return Written(folder, network, photos)


def test_equal_files_pass_and_are_removed(written: Written) -> None:
    line = written.judged()
    assert line.failed == ()
    assert (line.ours, line.cases) == ("resnet_v1_17.torchvision", 2)
    assert line.arrays == 2 * len(written.network.state_dict())
    assert 0 < line.worst <= PAIR.tolerance
    assert [one.name for one in written.folder.iterdir()] == [LOGITS]


def _stride_in_the_first_convolution(network: nn.Module) -> None:
    for unit in network.modules():
        if isinstance(unit, Bottleneck):
            unit.conv1.stride, unit.conv2.stride = unit.conv2.stride, unit.conv1.stride


def _epsilon(network: nn.Module) -> None:
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.eps = 1e-3


def _no_statistics(network: nn.Module) -> None:
    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.reset_running_stats()


def _rows_of_the_classifier(network: nn.Module) -> None:
    network.fc.weight.data = network.fc.weight.data.flip(0)


@pytest.mark.parametrize("plant", [_stride_in_the_first_convolution, _epsilon, _no_statistics, _rows_of_the_classifier])
def test_another_network_fails(written: Written, plant: Callable[[nn.Module], None]) -> None:
    plant(written.network)
    line = written.judged()
    assert len(line.failed) == 2
    assert all("logits differ" in one for one in line.failed)
    assert line.worst > 10 * PAIR.tolerance


def _blue_first(picture: Image.Image) -> torch.Tensor:
    return TRANSFORM(Image.merge("RGB", picture.split()[::-1]))


def _a_pixel_aside(picture: Image.Image) -> torch.Tensor:
    return TRANSFORM(picture.crop((1, 0, 257, 256)))


@pytest.mark.parametrize("transform", [_blue_first, _a_pixel_aside, lambda picture: TRANSFORM(picture) * 1.01])
def test_pictures_prepared_otherwise_fail(written: Written, transform: Callable[[Any], torch.Tensor]) -> None:
    line = written.judged(transform)
    assert len(line.failed) == 2
    assert line.worst > 10 * PAIR.tolerance


def test_photos_that_all_look_alike_fail(written: Written) -> None:
    """A network that answers the same whatever it sees is equal to anything that ignores its pictures."""
    for photo in written.photos:
        Image.new("RGB", (256, 256)).save(photo)
    (told,) = written.judged().failed
    assert "alike" in told


def test_a_file_that_cannot_be_imported_fails_and_the_next_is_judged(written: Written) -> None:
    file = written.folder / PAIR.files[0]
    file.write_bytes(file.read_bytes()[:1_000])
    line = written.judged()
    (told,) = line.failed
    assert told.startswith("torchvision, a narrow ResNet, zip.pth: ")
    assert (line.cases, line.arrays) == (2, len(written.network.state_dict()))


def test_every_script_is_judged() -> None:
    here = {file.stem for file in Path(__file__).parent.glob("*.py")}
    assert here == {*SCRIPTS, "__init__", "judge", "pair", "write", Path(__file__).stem}
