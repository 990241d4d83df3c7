"""Pictures scaled as TensorFlow 1, OpenCV, torchvision, timm and Keras scale them, against what these recorded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipway.data.augmentation import Augmentation, cropped
from skipway.data.dataset import FilePictures, Split
from skipway.data.geometry import central_part, short_side_scaled
from skipway.data.loading import Plan, evaluation_batches, training_batches
from skipway.data.pictures import open_picture
from skipway.data.preprocessing import Preprocessing, preset
from skipway.data.resizing import PILLOW, opencv_bilinear, resized, tf1_bilinear

RECORDED = dict(np.load(Path(__file__).parent / "fixtures" / "resizing" / "resizing.npz"))
CASES = sorted({name.split(".")[0] for name in RECORDED if name.startswith("case")})
PICTURES = sorted({name.split(".")[0] for name in RECORDED if name.startswith("slim")})
PHOTOS = sorted({name.split(".")[0] for name in RECORDED if name.startswith("photo")})
MEANS = np.array([123.68, 116.78, 103.94], np.float32)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kernel", ["tf1_bilinear", "opencv_bilinear"])
def test_kernels_are_their_librarys_bit_for_bit(kernel: str, case: str) -> None:
    expected = RECORDED[f"{case}.{kernel}"]
    height, width = expected.shape[:2]
    ours = {"tf1_bilinear": tf1_bilinear, "opencv_bilinear": opencv_bilinear}[kernel](
        RECORDED[f"{case}.picture"], (width, height)
    )
    assert ours.dtype == (np.float32 if kernel == "tf1_bilinear" else np.uint8)
    np.testing.assert_array_equal(ours, expected)


def test_the_libraries_differ() -> None:
    """Or the tests above could not tell one kernel from another."""
    image = noise(64, 48)
    scaled = [resized(image, (20, 24), kernel) for kernel in ("bilinear", "tf1_bilinear", "opencv_bilinear")]  # type: ignore[arg-type]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(scaled[one].astype(float) - scaled[other]).mean() > 10


def test_an_enlarged_ramp_by_hand() -> None:
    """Twice as wide: TensorFlow 1 starts at the first pixel's centre and repeats the last one, OpenCV centres."""
    ramp = np.array([[[0], [100], [200]]], np.uint8)
    assert tf1_bilinear(ramp, (6, 1)).ravel().tolist() == [0, 50, 100, 150, 200, 200]
    assert opencv_bilinear(ramp, (6, 1)).ravel().tolist() == [0, 25, 75, 125, 175, 200]


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", ["slim_v1", "slim_v2"])
def test_slims_pictures_are_tensorflows(name: str, picture: str) -> None:
    ours = preset(name, 14).tensor(RECORDED[f"{picture}.picture"])[0].permute(1, 2, 0).numpy()
    expected = RECORDED[f"{picture}.{name}"]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("photo", PHOTOS)
def test_photos_are_tensorflows_and_opencvs_bit_for_bit(photo: str, real_data: Path) -> None:
    picture = np.asarray(open_picture(real_data / "photos" / str(RECORDED[f"{photo}.name"])))
    if digest(picture) != str(RECORDED[f"{photo}.picture"]):
        pytest.skip("this Pillow decodes JPEG otherwise than the one that recorded")
    for name, size in (("slim_v1", 224), ("slim_v2", 299), ("caffe", 227)):
        pixels = preset(name, size).pixels(picture).permute(1, 2, 0).numpy()
        assert digest(pixels) == str(RECORDED[f"{photo}.{name}"]), name


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_the_central_share_loses_as_much_on_both_sides() -> None:
    assert central_part(noise(100, 80), 0.875).size == (88, 70)  # 6.25 -> 6 and 5 on either side
    assert central_part(noise(15, 16), 0.875).size == (15, 14)
    image = noise(33, 40)
    assert np.array_equal(np.asarray(central_part(image, 0.875)), np.asarray(image)[2:38, 2:31])


def test_slims_short_side_is_rounded_to_the_nearest_and_torchvisions_down() -> None:
    assert short_side_scaled((500, 375), 256, "tf1_bilinear") == (341, 256)
    assert short_side_scaled((333, 500), 256, "tf1_bilinear") == (256, 384)  # 384.38
    assert short_side_scaled((375, 501), 256, "tf1_bilinear") == (256, 342)  # 342.02
    assert short_side_scaled((300, 401), 256, "tf1_bilinear") == (256, 342)  # 342.19
    assert short_side_scaled((300, 404), 256, "tf1_bilinear") == (256, 345)  # 344.75
    assert short_side_scaled((300, 404), 256, "bilinear") == (256, 344)


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (404, 300), (343, 256), (256, 257), (37, 37), (97, 1003)])
def test_geometry_is_torchvisions(size: tuple[int, int]) -> None:
    from torchvision.transforms import v2

    theirs = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])(noise(*size))
    assert torch.equal(preset("torch", 224).pixels(noise(*size)), theirs)


@pytest.mark.parametrize(("name", "size", "resize_to"), [("timm_95", 224, 235), ("timm_90", 224, 248)])
def test_timms_sizes_are_rounded_down(name: str, size: int, resize_to: int) -> None:
    assert preset(name, size).resize_to == resize_to  # math.floor(224 / 0.95), math.floor(224 / 0.9)


@pytest.mark.parametrize("name", ["keras_caffe", "keras_tf"])
def test_keras_takes_the_nearest_pixels(name: str) -> None:
    """As load_img with target_size does, which calls Pillow's resize with NEAREST."""
    image = noise(60, 45)
    theirs = np.asarray(image.resize((24, 24), Image.Resampling.NEAREST))
    assert np.array_equal(preset(name, 24).pixels(image).permute(1, 2, 0).numpy(), theirs)


def test_caffes_picture_is_squashed_and_its_centre_cut() -> None:
    picture = np.asarray(noise(60, 45))
    expected = opencv_bilinear(picture, (32, 32))[2:30, 2:30]  # 28 * 256 / 227 = 31.6; 4 pixels to lose
    pixels = preset("caffe", 28).pixels(picture)
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), expected)


def test_the_size_that_a_picture_has_changes_nothing() -> None:
    image = noise(16, 16)
    for kernel in (*PILLOW, "opencv_bilinear", "tf1_bilinear"):
        assert np.array_equal(resized(image, (16, 16), kernel), np.asarray(image))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------- floating counts all the way through

FLOATING = preset("slim_v1", 14)


@pytest.fixture
def folder(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{number}.png" for number in range(6)]
    for number, file in enumerate(files):
        noise(20 + number, 30 - number).save(file)
    return files


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_keep_the_fractions(folder: list[Path], workers: int) -> None:
    split = Split(FilePictures(folder), np.zeros(len(folder), np.int64))
    (batch,) = evaluation_batches(split, FLOATING, batch_size=6, workers=workers, pin=False)
    assert batch.pixels.dtype == torch.float32
    assert (batch.pixels != batch.pixels.round()).any()
    for row, file in zip(FLOATING.standardized(batch.pixels), folder, strict=True):
        assert torch.equal(row, FLOATING.tensor(open_picture(file))[0])


def test_arrays_of_the_right_size_are_floating_too() -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 14, 14, 3), np.uint8)
    squashed = Preprocessing(14, resize="squash", kernel="tf1_bilinear")
    whole = squashed.pixels_of(array)
    assert whole is not None
    assert whole.dtype == torch.float32
    assert torch.equal(whole, torch.stack([squashed.pixels(one) for one in array]))
    assert np.array_equal(whole.permute(0, 2, 3, 1).numpy(), array)
    assert preset("slim_v2", 32).pixels_of(np.zeros((1, 32, 32, 3), np.uint8)) is None  # its centre is to be cut out


@pytest.mark.parametrize("crop", ["none", "random", "random_resized", "padded"])
@pytest.mark.parametrize("kernel", ["tf1_bilinear", "opencv_bilinear"])
def test_training_crops_are_of_the_same_kind(folder: list[Path], kernel: str, crop: str) -> None:
    rule = Preprocessing(12, resize_to=16, kernel=kernel)  # type: ignore[arg-type]
    split = Split(FilePictures(folder), np.zeros(len(folder), np.int64))
    strong = Augmentation(crop=crop, crop_from=18, randaugment=1)  # type: ignore[arg-type]
    batches = [
        next(training_batches(split, Plan(6, 6, 1), rule, strong, start=0, stop=1, workers=workers, pin=False))
        for workers in (0, 2)
    ]
    assert torch.equal(batches[0].pixels, batches[1].pixels)
    assert batches[0].pixels.shape == (6, 3, 12, 12)
    assert batches[0].pixels.dtype == (torch.float32 if rule.floating else torch.uint8)
    assert 0 <= batches[0].pixels.min() < 60 < 200 < batches[0].pixels.max() <= 255


def test_a_random_crop_of_floating_counts_is_a_window_of_the_scaled_picture() -> None:
    image, rule = noise(30, 20), Preprocessing(10, kernel="tf1_bilinear")
    whole = torch.from_numpy(tf1_bilinear(np.asarray(image), (18, 12))).permute(2, 0, 1)
    windows = whole.unfold(1, 10, 1).unfold(2, 10, 1).permute(1, 2, 0, 3, 4).reshape(-1, 3, 10, 10)
    for epoch in range(5):
        pixels = cropped(image, rule, Augmentation(crop="random", crop_from=12), 1, epoch, 0)
        assert any(torch.equal(pixels, window) for window in windows)
