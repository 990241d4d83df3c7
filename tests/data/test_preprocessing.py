"""Picture -> tensor, against numbers worked out by hand."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import picture_kinds as kinds
import pytest
import torch
from PIL import Image

from skipway.data.dataset import FilePictures, Split
from skipway.data.loading import evaluation_batches
from skipway.data.mean_image import MeanImage
from skipway.data.pictures import open_picture
from skipway.data.preprocessing import Preprocessing, preset
from skipway.data.resizing import PILLOW
from skipway.errors import DataError, SkipwayError, UnknownNameError
from skipway.values import from_plain

PRESETS = ("unit", "torch", "cifar", "caffe", "slim_v1", "slim_v2")


def gradient(width: int, height: int) -> Image.Image:
    """RGB whose red counts the column and whose green the row."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    return Image.fromarray(np.stack((columns, rows, np.full_like(rows, 7)), 2).astype(np.uint8))


@pytest.fixture(scope="module")
def all_kinds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("kinds")
    files = []
    for number, make in enumerate(kinds.MAKERS.values()):
        kind = make()
        files.append(folder / f"{number}{kind.suffix}")
        files[-1].write_bytes(kind.data)
    return files


@pytest.mark.parametrize("workers", [0, 2])
def test_training_and_prediction_see_the_same_tensor_bit_for_bit(all_kinds: list[Path], workers: int) -> None:
    """Evaluation batches in a run, and one picture at a time in a classifier, for every kind of file."""
    split = Split(FilePictures(all_kinds), np.zeros(len(all_kinds), np.int64))
    names = [(name, grey) for name in PRESETS for grey in (False, True)]
    # With workers one pass is enough to see that a process boundary changes nothing.
    for name, grey in names if workers == 0 else [("torch", False)]:
        preprocessing = preset(name, 8, grey=grey)
        batches = evaluation_batches(split, preprocessing, batch_size=7, workers=workers, pin=False)
        inputs = torch.cat([preprocessing.standardized(batch.pixels) for batch in batches])
        assert inputs.shape == (len(all_kinds), preprocessing.depth, 8, 8)
        for row, file in zip(inputs, all_kinds, strict=True):
            assert torch.equal(row, preprocessing.tensor(open_picture(file))[0]), (name, grey, file)


@pytest.mark.parametrize("name", kinds.MAKERS)
def test_a_pillow_image_gives_what_its_file_gives(name: str, tmp_path: Path) -> None:
    """Whoever opens the file with Pillow and hands over the image gets no other prediction."""
    kind = kinds.MAKERS[name]()
    (tmp_path / "picture").write_bytes(kind.data)
    preprocessing = preset("unit", 4)
    with Image.open(tmp_path / "picture") as image:
        image.load()
        assert torch.equal(preprocessing.tensor(image), preprocessing.tensor(open_picture(kind.data)))


def test_an_array_gives_what_its_picture_gives() -> None:
    image = gradient(40, 30)
    for preprocessing in (preset("torch", 16), preset("caffe", 16), preset("unit", 16, grey=True)):
        assert torch.equal(preprocessing.tensor(np.asarray(image)), preprocessing.tensor(image))
    grey = np.asarray(image)[:, :, 0]
    for array in (grey, grey[:, :, None]):
        assert torch.equal(preset("unit", 16).tensor(array), preset("unit", 16).tensor(Image.fromarray(grey)))


def test_short_side_keeps_the_aspect_and_cuts_the_middle() -> None:
    pixels = Preprocessing(10, resize_to=20, kernel="nearest").pixels(gradient(40, 20))
    assert pixels.shape == (3, 10, 10)
    assert pixels.dtype == torch.uint8
    assert pixels[0, 0].tolist() == list(range(15, 25))  # columns 15..24 of 40
    assert pixels[1, :, 0].tolist() == list(range(5, 15))  # rows 5..14 of 20


def test_short_side_scales_the_shorter_side_of_tall_pictures() -> None:
    pixels = Preprocessing(10, kernel="nearest").pixels(gradient(20, 60))
    assert pixels[0, 0].tolist() == list(range(1, 20, 2))  # all 20 columns, halved
    assert pixels[1, :, 0].tolist() == list(range(21, 40, 2))  # the middle 20 of 60 rows, halved


def test_squash_sees_the_whole_picture() -> None:
    pixels = Preprocessing(10, resize="squash", kernel="nearest").pixels(gradient(40, 20))
    assert pixels[0, 0].tolist() == list(range(2, 40, 4))
    assert pixels[1, :, 0].tolist() == list(range(1, 20, 2))


def test_geometry_is_pillows_resize_and_torchvisions_centre_crop() -> None:
    from torchvision.transforms import v2

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 75, 3), np.uint8))
    ours = preset("torch", 28).pixels(image)
    theirs = v2.Compose([v2.Resize(32), v2.CenterCrop(28), v2.PILToTensor()])(image)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kernel", PILLOW)
def test_kernels_are_pillows(kernel: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8))
    ours = Preprocessing(4, kernel=kernel).pixels(image)  # type: ignore[arg-type]
    theirs = np.asarray(image.resize((4, 4), PILLOW[kernel]))
    np.testing.assert_array_equal(ours.permute(1, 2, 0).numpy(), theirs)


def test_a_strip_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """60,000 x 1 pixels is a small file; scaled by its short side to 224 it would be 3 billion pixels."""
    sizes: list[tuple[int, int]] = []
    resize = Image.Image.resize

    def watched(self: Image.Image, size: tuple[int, int], *rest: object, **named: object) -> Image.Image:
        sizes.append(size)
        return resize(self, size, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", watched)
    for size in ((60_000, 1), (1, 60_000)):
        strip = Image.new("L", size)
        strip.putpixel((size[0] // 2, size[1] // 2), 255)
        pixels = preset("unit", 24).pixels(strip)
        assert pixels.shape == (3, 24, 24)
        assert pixels.max() > 200  # the middle is what is left
    assert max(width * height for width, height in sizes) < 1_000_000


PURPLE = np.array([[[200, 100, 50]]], np.uint8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unit", (200 / 255, 100 / 255, 50 / 255)),
        ("torch", ((200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225)),
        ("cifar", ((200 - 125.307) / 62.993, (100 - 122.950) / 62.089, (50 - 113.865) / 66.705)),
        ("caffe", (50 - 104.00699, 100 - 116.66877, 200 - 122.67892)),  # blue first
        ("caffe_resnet", (50 - 103.0626, 100 - 115.9029, 200 - 123.1516)),  # blue first
        ("keras_caffe", (50 - 103.939, 100 - 116.779, 200 - 123.68)),  # blue first
        ("keras_tf", (200 / 127.5 - 1, 100 / 127.5 - 1, 50 / 127.5 - 1)),
        ("signs", (200 / 255, 100 / 255, 50 / 255)),
        ("counts", (200, 100, 50)),
        ("slim_v1", (200 - 123.68, 100 - 116.78, 50 - 103.94)),
        ("slim_v2", (200 / 127.5 - 1, 100 / 127.5 - 1, 50 / 127.5 - 1)),
    ],
)
def test_values_of_the_presets(name: str, expected: tuple[float, float, float]) -> None:
    values = preset(name, 1).tensor(PURPLE)
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values[0, :, 0, 0].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_grey_presets_average_the_colours() -> None:
    grey = np.full((1, 1), 60, np.uint8)
    torch_mean, torch_std = (0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3
    assert preset("torch", 1, grey=True).tensor(grey).item() == pytest.approx((60 / 255 - torch_mean) / torch_std)
    assert preset("caffe", 1, grey=True).tensor(grey).item() == pytest.approx(
        60 - (104.00699 + 116.66877 + 122.67892) / 3
    )
    assert preset("unit", 1, grey=True).tensor(PURPLE).item() == pytest.approx(124 / 255)  # .299 R + .587 G + .114 B


@pytest.mark.parametrize(
    ("name", "size", "resize_to"),
    [
        ("torch", 224, 256),
        ("caffe", 227, 256),
        ("caffe_resnet", 224, 256),
        ("slim_v1", 224, 256),
        ("slim_v2", 299, 299),
        ("keras_tf", 224, 224),
        ("unit", 64, 64),
        ("signs", 64, 64),
        ("cifar", 32, 32),
    ],
)
def test_sizes_of_the_presets(name: str, size: int, resize_to: int) -> None:
    assert (preset(name, size).size, preset(name, size).resize_to) == (size, resize_to)


def test_floating_counts_are_standardized_like_whole_ones() -> None:
    preprocessing = preset("caffe", 4)
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(preprocessing.standardized(pixels), preprocessing.standardized(pixels.float()))


def test_many_at_once_are_each_alone() -> None:
    draw = np.random.default_rng(0)
    for shape, grey in (((5, 8, 8, 3), False), ((5, 8, 8), True), ((5, 8, 8, 1), True)):
        array = draw.integers(0, 256, shape, np.uint8)
        preprocessing = preset("unit", 8, grey=grey)
        whole = preprocessing.pixels_of(array)
        assert whole is not None
        assert torch.equal(whole, torch.stack([preprocessing.pixels(one) for one in array]))
        assert preset("unit", 9, grey=grey).pixels_of(array) is None
        assert preset("unit", 8, grey=not grey).pixels_of(array) is None


def test_pixels_are_a_copy() -> None:
    array = np.zeros((4, 4), np.uint8)
    pixels = preset("unit", 4, grey=True).pixels(array)
    array[:] = 9
    assert not pixels.any()
    array.setflags(write=False)  # as idx files give them: torch would warn about sharing such memory
    assert preset("unit", 4, grey=True).pixels(array).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32; give uint8"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\); give \(H, W\)"),
        (np.zeros(4, np.uint8), r"\(4,\); give"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\); give"),
    ],
)
def test_arrays_that_are_no_pictures(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        preset("unit", 4).pixels(array)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "1 <= size <= resize_to"),
        ({"size": 10, "resize_to": 8}, "1 <= size <= resize_to"),
        ({"size": 10, "resize_to": 1_000_000}, "1 <= size <= resize_to"),
        ({"size": 4, "mean": (0.5,)}, "3 means"),
        ({"size": 4, "std": (1.0, 0.0, 1.0)}, "other than 0"),
        ({"size": 4, "channels": "L"}, "needs 1 mean and"),
        ({"size": 4, "central": 0.0}, "a share from"),
        ({"size": 4, "central": 1.1}, "a share from"),
        ({"size": 4, "central": float("nan")}, "a share from"),
    ],
)
def test_impossible_values_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SkipwayError, match=message):
        Preprocessing(**fields)  # type: ignore[arg-type]


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown preprocessing 'cafe'; the nearest: caffe"):
        preset("cafe", 8)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("name", PRESETS)
def test_a_preprocessing_survives_json(name: str, grey: bool) -> None:
    before = preset(name, 100, grey=grey)
    assert from_plain(Preprocessing, json.loads(json.dumps(asdict(before))), "preprocessing") == before
    assert Preprocessing.from_dict(json.loads(json.dumps(before.to_dict()))) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "100"}, "size is '100'; it must be a whole number"),
        ({"size": True}, "size is True; it must be a whole number"),
        ({"scale": 10**400}, "it must be a number"),
        ({"kernel": "cubic"}, "it must be one of bilinear"),
        ({"kernel": "tf2_bilinear"}, "it must be one of bilinear"),
        ({"central": "0.9"}, "central is '0.9'; it must be a number"),
        ({"mean_image": [[[1.0]]]}, "mean_image is"),
        ({"mean": 0.5}, "mean is 0.5; it must be a list"),
        ({"mean": [0.5, "0.5", 0.5]}, r"mean\[1\] is '0.5'; it must be a number"),
        ({"sizes": 100}, "unknown key of preprocessing 'sizes'; the nearest: size"),
    ],
)
def test_a_foreign_header_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SkipwayError, match=message):
        from_plain(Preprocessing, {"size": 100} | change, "preprocessing")


def test_a_header_without_a_size_is_refused() -> None:
    with pytest.raises(SkipwayError, match="size"):
        from_plain(Preprocessing, {}, "preprocessing")
    with pytest.raises(SkipwayError, match="it must be a table"):
        from_plain(Preprocessing, [1], "preprocessing")


# ----------------------------------------------------------------------------------------------------- a mean image


def mean_of(side: int, depth: int = 3) -> np.ndarray:
    return np.random.default_rng(side).uniform(90, 140, (depth, side, side)).astype(np.float32)


def test_a_mean_image_is_subtracted_like_the_picture_is_cut() -> None:
    """Caffe's data layer: of a picture squashed to 20 the central 16, minus the same pixels of the mean, blue first."""
    mean = mean_of(20)
    rule = Preprocessing(16, "squash", 20, "opencv_bilinear", "BGR", 1.0, mean_image=MeanImage(mean))
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    expected = (picture[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) - mean)[:, 2:18, 2:18]
    assert np.array_equal(rule.tensor(picture)[0].numpy(), expected)


def test_a_mean_image_of_the_cut_is_subtracted_whole() -> None:
    """As He et al.'s ResNet_mean.binaryproto, for 224 pixels cut from a short side of 256."""
    mean = mean_of(14)
    rule = replace(preset("caffe_resnet", 14), mean_image=MeanImage(mean))
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    plain = preset("caffe_resnet", 14)
    pixels = plain.pixels(picture).flip(0).float()
    assert torch.equal(rule.tensor(picture)[0], pixels - torch.from_numpy(mean))
    std = replace(rule, std=(2.0, 4.0, 8.0)).tensor(picture)[0]
    np.testing.assert_allclose(std[2].numpy(), (pixels[2].numpy() - mean[2]) / 8, rtol=1e-6, atol=1e-5)


def test_a_mean_image_for_grey() -> None:
    rule = replace(preset("caffe", 8, grey=True), resize_to=8, mean_image=MeanImage(np.full((1, 8, 8), 50.0)))
    assert torch.equal(rule.tensor(np.full((8, 8), 60, np.uint8)), torch.full((1, 1, 8, 8), 10.0))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("caffe", (3, 17, 17), r"3 channels of 17 x 17, pictures have 3 channels of 16 x 16 or .*; give the mean of"),
        ("caffe", (1, 18, 18), "1 channel of 18 x 18, pictures have 3 channels"),
        ("caffe", (3, 18, 16), "3 channels of 18 x 16, pictures have"),
        ("torch", (3, 18, 18), "pictures have 3 channels of 16 x 16; give the mean of such pictures, or one pixel"),
    ],
)
def test_a_mean_image_of_another_size_is_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    rule = preset(name, 16)
    with pytest.raises(SkipwayError, match=message):
        replace(rule, mean_image=MeanImage(np.zeros(shape)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 2)), r"shape \(2, 2\); give one of \(C, H, W\)"),
        (np.zeros((3, 0, 2)), r"shape \(3, 0, 2\); give"),
        (np.full((1, 2, 2), np.nan), "not finite"),
    ],
)
def test_no_mean_images(values: np.ndarray, message: str) -> None:
    with pytest.raises(SkipwayError, match=message):
        MeanImage(values)


def test_mean_images_are_values() -> None:
    one, same, other = MeanImage(mean_of(8)), MeanImage(mean_of(8)), MeanImage(mean_of(8) + 1)
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != MeanImage(mean_of(8).reshape(3, 4, 16))
    rules = {replace(preset("caffe", 8), resize_to=8, mean_image=image) for image in (one, same, other)}
    assert len(rules) == 2
    array = mean_of(8)
    kept = MeanImage(array)
    array[:] = 0
    assert kept == one  # a copy: the value cannot change behind its hash


def test_a_mean_image_travels_beside_the_plain_values() -> None:
    rule = replace(preset("caffe", 8), resize_to=8, mean_image=MeanImage(mean_of(8)))
    plain = json.loads(json.dumps(rule.to_dict()))
    assert "mean_image" not in plain
    kept = io.BytesIO()
    torch.save({"preprocessing": rule.to_dict(), "mean_image": rule.mean_values}, kept)  # as checkpoints have them
    kept.seek(0)
    loaded = torch.load(kept, weights_only=True)
    assert Preprocessing.from_dict(loaded["preprocessing"], loaded["mean_image"]) == rule
    assert Preprocessing.from_dict(plain, rule.mean_values) == rule
    assert Preprocessing.from_dict(plain) == replace(rule, mean_image=None)


def test_standardizing_by_a_mean_image_can_be_exported() -> None:
    rule = replace(preset("caffe", 8), resize_to=9, mean_image=MeanImage(mean_of(9)))

    class Standardize(torch.nn.Module):
        def forward(self, counts: torch.Tensor) -> torch.Tensor:
            return rule.standardized(counts)

    counts = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    exported = torch.export.export(Standardize(), (counts,), strict=False).module()
    assert torch.equal(exported(counts.flip(0)), rule.standardized(counts.flip(0)))
