"""A network's own statistics tell how it was built and fed: planted mistakes are seen, or said not to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.interchange.seen import model, small

from skipway.data.preprocessing import preset
from skipway.errors import DataError
from skipway.interchange.preparation.natural_pictures import crops, natural_pictures
from skipway.models import create_model
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.weights.bundle import Bundle
from skipway.weights.statistics_fit import CLOSE, POOR, is_quick, pictures_for, statistics_fit


@pytest.fixture(scope="module")
def padded() -> Bundle:
    """A ResNet-8 that appends its zeros and was given standardized pictures."""
    return model(small(pad="after"))


def figure(bundle: Bundle, convention: str = "cifar") -> float:
    rule = preset(convention, bundle.spec.input_size)
    found = statistics_fit(bundle.network(), rule, crops(natural_pictures(), 32, rule.size))
    assert found is not None
    return found.figure


def test_the_right_network_fits_natural_pictures(padded: Bundle) -> None:
    assert figure(padded) < POOR / 3


@pytest.mark.parametrize("convention", ["unit", "counts", "keras_tf", "keras_caffe"])
def test_other_scales_and_centres_do_not_fit(padded: Bundle, convention: str) -> None:
    assert figure(padded, convention) > CLOSE * figure(padded)


def test_layers_behind_other_zeros_do_not_fit(padded: Bundle) -> None:
    cuts = crops(natural_pictures(), 32, 32)
    found = {}
    for pad in ("after", "both", "before"):
        network = replace(padded, spec=padded.spec.replaced({"pad": pad})).network()
        fit = statistics_fit(network, padded.preprocessing, cuts)
        assert fit is not None
        found[pad] = dict(fit.layers)
    for pad in ("both", "before"):
        assert found[pad]["stem.norm"] == found["after"]["stem.norm"]  # zeros are not there yet
        assert found[pad]["stage3.unit1.norm1"] > 3 * found["after"]["stage3.unit1.norm1"]


def test_a_dead_channel_does_not_outweigh_the_others(padded: Bundle) -> None:
    tensors = dict(padded.tensors)
    for name, value in (("conv1.weight", 0.0), ("norm1.running_mean", 1.0), ("norm1.running_var", 2e-22)):
        kept = tensors[f"stage1.unit1.{name}"].clone()
        kept[0] = value
        tensors[f"stage1.unit1.{name}"] = kept
    assert figure(replace(padded, tensors=tensors)) < POOR


def test_statistics_that_are_no_numbers_are_the_worst_fit(padded: Bundle) -> None:
    broken = {name: tensor * float("nan") if name.endswith("running_var") else tensor
              for name, tensor in padded.tensors.items()}  # fmt: skip
    assert figure(replace(padded, tensors=broken)) == 100.0


def test_no_normalization_no_figure() -> None:
    network = create_model("alexnet.mnist").eval()
    assert statistics_fit(network, preset("unit", 28, grey=True), [Image.new("L", (28, 28))]) is None
    with pytest.raises(DataError, match="no picture"):
        statistics_fit(network, preset("unit", 28, grey=True), [])


def test_the_network_is_left_as_it_was(padded: Bundle) -> None:
    network = padded.network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    statistics_fit(network, padded.preprocessing, crops(natural_pictures(), 4, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_crops_are_the_same_for_the_same_seed_and_within_their_picture() -> None:
    pictures = natural_pictures()
    assert len(pictures) == 3
    one, again, other = (crops(pictures, 7, 32, seed) for seed in (0, 0, 1))
    assert [cut.tobytes() for cut in one] == [cut.tobytes() for cut in again]
    assert [cut.tobytes() for cut in one] != [cut.tobytes() for cut in other]
    assert all(32 <= cut.width == cut.height for cut in one)
    assert crops([Image.new("RGB", (9, 5))], 3, 32)[0].size == (5, 5)


def test_photographs_of_a_folder(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    assert [picture.size for picture in natural_pictures(tmp_path)] == [(40, 30)]
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"no picture in .* can be read; give a folder"):
        natural_pictures(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        natural_pictures(tmp_path / "absent")


def test_large_networks_are_asked_with_fewer_pictures() -> None:
    large, little = create_model("resnet_v1_18.torchvision").spec, create_model("resnet_v1_20.cifar").spec
    assert pictures_for(large) < pictures_for(large, compared=True) < pictures_for(little) <= 32
    assert is_quick(little)
    assert not is_quick(large)
    assert isinstance(little, ResNetV1Spec)
