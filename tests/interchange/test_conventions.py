"""Mean files of Caffe, and what an imported network's pictures are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from skipway.data.preprocessing import preset
from skipway.errors import ModelFileError
from skipway.interchange.importing import import_weights
from skipway.interchange.preparation.conventions import prepared, with_mean
from skipway.models.catalog import find_spec
from skipway.weights.bundle import load_bundle

RULE = preset("caffe", 16)  # squashed to 18


def mean(side: int, depth: int = 3) -> np.ndarray:
    return np.random.default_rng(side).uniform(90, 140, (depth, side, side)).astype(np.float32)


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + varint(value // 128)


def binaryproto(values: np.ndarray) -> bytes:
    """A BlobProto as Caffe's compute_image_mean writes it: num, channels, height, width, and packed data."""
    sides = b"".join(bytes([8 * field]) + varint(side) for field, side in enumerate((1, *values.shape), 1))
    data = values.astype("<f4").tobytes()
    return sides + bytes([5 * 8 + 2]) + varint(len(data)) + data


@pytest.mark.parametrize("side", [16, 18])
def test_a_mean_image_is_read_alike_from_both_kinds_of_file(side: int, tmp_path: Path) -> None:
    values = mean(side)
    (tmp_path / "mean.binaryproto").write_bytes(binaryproto(values))
    np.save(tmp_path / "mean.npy", values.astype(np.float64))  # as pycaffe's ilsvrc_2012_mean.npy
    rules = [with_mean(RULE, tmp_path / name) for name in ("mean.binaryproto", "mean.npy")]
    assert rules[0] == rules[1]
    assert rules[0].mean_values is not None
    assert np.array_equal(rules[0].mean_values.numpy(), values)
    np.testing.assert_allclose(rules[0].mean, values.mean((1, 2)), rtol=1e-6)
    picture = np.random.default_rng(0).integers(0, 256, (18, 18, 3), np.uint8)
    cut = (side - 16) // 2
    expected = picture[1:17, 1:17, ::-1].transpose(2, 0, 1) - values[:, cut : cut + 16, cut : cut + 16]
    assert np.array_equal(rules[0].tensor(picture)[0].numpy(), expected)


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 3, 1, 1)])
def test_one_pixel_is_the_mean_of_every_pixel(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.array([104.0, 117.0, 123.0]).reshape(shape))
    assert with_mean(RULE, tmp_path / "mean.npy") == replace(RULE, mean=(104.0, 117.0, 123.0))


def test_a_grey_mean(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", mean(18, 1)[0])
    rule = with_mean(preset("caffe", 16, grey=True), tmp_path / "mean.npy")
    assert rule.mean_image is not None
    assert rule.mean_image.shape == (1, 18, 18)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (mean(17), "3 channels of 17 x 17, pictures have 3 channels of 16 x 16 or 3 channels of 18 x 18; give"),
        (mean(18, 1), "1 channel of 18 x 18, pictures have 3 channels"),
        (mean(18).transpose(1, 2, 0), "18 channels of 18 x 3, pictures have"),
        (np.zeros(4), "4 channels of 1 x 1, pictures have"),
        (np.zeros((2, 3, 18, 18)), r"the shape \(2, 3, 18, 18\); give a mean image \(C, H, W\)"),
        (np.full((3, 18, 18), np.inf), "not finite"),
        (np.array([1.0, np.nan, 1.0]), "not finite"),
    ],
)
def test_means_of_other_pictures_are_refused(values: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", values)
    with pytest.raises(ModelFileError, match=message) as caught:
        with_mean(RULE, tmp_path / "mean.npy")
    assert "mean.npy" in str(caught.value)


def test_files_that_are_no_mean_are_refused(tmp_path: Path) -> None:
    (tmp_path / "page.npy").write_bytes(b"<!DOCTYPE html><html>" + b" " * 100)
    with pytest.raises(ModelFileError, match=r"page\.npy .*binaryproto"):
        with_mean(RULE, tmp_path / "page.npy")
    np.savez(tmp_path / "two.npz", a=mean(18), b=mean(18))
    with pytest.raises(ModelFileError, match="2 arrays; give the mean alone"):
        with_mean(RULE, tmp_path / "two.npz")
    (tmp_path / "short.binaryproto").write_bytes(binaryproto(mean(18))[:-40])
    with pytest.raises(ModelFileError, match=r"short\.binaryproto"):
        with_mean(RULE, tmp_path / "short.binaryproto")


@pytest.mark.parametrize("name", ["torch", "unit", "slim_v1"])
def test_a_mean_of_caffe_wants_its_convention(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", mean(16))
    with pytest.raises(ModelFileError, match=r"order BGR, and the pictures are RGB.*; give --preprocessing caffe"):
        with_mean(preset(name, 16), tmp_path / "mean.npy")


def test_slims_second_residual_networks_are_given_299_pixels() -> None:
    spec, rule = prepared(find_spec("resnet_v2_50.slim"), "slim_v2")
    assert (spec.input_size, rule.size, rule.central) == (299, 299, 0.875)
    own = find_spec("resnet_v2_50.slim").replaced({"num_classes": 10})
    assert prepared(own, "slim_v2")[0] == own
    assert prepared(find_spec("resnet_v2_50.slim"), "torch")[1].size == 224
    assert prepared(find_spec("resnet_v1_50.slim"), "slim_v1")[1] == preset("slim_v1", 224)


@pytest.mark.parametrize("case", ["alexnet_caffe", "caffe_resnet_50"])
def test_an_import_takes_a_mean_file(case: str, written: Path, tmp_path: Path, to: Path) -> None:
    (model,) = (written / case).glob("*.caffemodel")
    import_weights(model, to)
    rule = load_bundle(to).preprocessing
    side = rule.resize_to if rule.resize == "squash" else rule.size
    (tmp_path / "mean.binaryproto").write_bytes(binaryproto(mean(side)))
    import_weights(model, to, overwrite=True, mean=tmp_path / "mean.binaryproto")
    found = load_bundle(to).preprocessing
    assert found.mean_values is not None
    assert torch.equal(found.mean_values, torch.from_numpy(mean(side)))
    assert replace(found, mean=rule.mean, mean_image=None) == rule
