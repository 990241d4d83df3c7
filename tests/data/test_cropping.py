"""Random resized crops from files: the same as from decoded pictures, in less time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from picture_kinds import MAKERS, encoded, photo
from picture_kinds import PLAIN_JPEGS as PLAIN
from PIL import Image

from skipway.data.augmentation import Augmentation, cropped
from skipway.data.cropping import chosen_box, random_resized
from skipway.data.encoded import Encoded
from skipway.data.pictures import open_picture
from skipway.data.preprocessing import preset
from skipway.errors import PictureError

EVERYTHING = ((1.0, 1.0), (1.0, 1.0))
USUAL = ((0.08, 1.0), (3 / 4, 4 / 3))


@pytest.mark.parametrize("crop", ["none", "random", "random_resized", "padded"])
@pytest.mark.parametrize("grey", [False, True])
def test_files_give_what_their_pictures_give(crop: str, grey: bool) -> None:
    one, preprocessing = Augmentation(crop=crop), preset("unit", 40, grey=grey)  # type: ignore[arg-type]
    files = PLAIN | {name: make().data for name, make in MAKERS.items()}
    for index, (name, data) in enumerate(files.items()):
        found = cropped(Encoded(data, name), preprocessing, one, 1, 0, index)
        assert torch.equal(found, cropped(open_picture(data), preprocessing, one, 1, 0, index)), name


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic", "tf1_bilinear"])
def test_a_crop_is_its_box_resized_as_pillow_would(kernel: str) -> None:
    preprocessing = replace(preset("unit", 24), kernel=kernel)
    image = photo(90, 70)
    for draws in np.random.default_rng(0).random((40, 4)):
        box = chosen_box(image.size, *USUAL, draws)
        squashed = replace(preprocessing, resize="squash").pixels(image.crop(box))
        difference = random_resized(image, preprocessing, *USUAL, draws).double() - squashed.double()
        assert difference.abs().max() <= (1 if kernel == "bilinear" else 0)


def test_a_large_box_is_read_at_a_fraction_and_looks_the_same() -> None:
    data = encoded(photo(900, 700), "JPEG", quality=92)
    preprocessing = preset("unit", 48)
    for draws in np.random.default_rng(1).random((12, 4)):
        scale = (0.3, 1.0)
        quick = random_resized(Encoded(data, "x"), preprocessing, scale, USUAL[1], draws).float()
        exact = random_resized(open_picture(data), preprocessing, scale, USUAL[1], draws).float()
        assert not torch.equal(quick, exact)  # it was read at a fraction
        assert (quick - exact).abs().mean() < 1.5
        assert (quick - exact).abs().mean() < 0.06 * (exact - exact.mean()).abs().mean()


def test_evaluation_never_reads_at_a_fraction() -> None:
    data = encoded(photo(900, 700), "JPEG")
    preprocessing = preset("torch", 48)
    found = cropped(Encoded(data, "x"), preprocessing, Augmentation(), 1, 0, 0)
    assert torch.equal(found, preprocessing.pixels(open_picture(data)))


def test_boxes_keep_to_scale_and_ratio() -> None:
    draws = np.random.default_rng(0).random((2000, 4))
    boxes = np.array([chosen_box((1000, 1000), (0.2, 0.5), (0.8, 1.25), one) for one in draws])
    left, top, right, bottom = boxes.T
    shares, ratios = (right - left) * (bottom - top) / 1e6, (right - left) / (bottom - top)
    assert 0.199 < shares.min() < 0.202
    assert 0.498 < shares.max() < 0.501
    assert 0.798 < ratios.min() < 0.803
    assert 1.245 < ratios.max() < 1.253
    assert (left.min(), top.min()) >= (0, 0)
    assert max(right.max(), bottom.max()) <= 1000
    # Every place is as likely as any other: the centres of what may move lie in the middle.
    free = (1000 - (right - left)) / 2
    assert abs((left - free).mean()) < 15
    assert chosen_box((1, 1), *USUAL, np.full(4, 0.999)) == (0, 0, 1, 1)
    assert chosen_box((500, 2), *EVERYTHING, np.zeros(4)) == (0, 0, 32, 2)


def test_a_damaged_file_is_named() -> None:
    cut = PLAIN["420"][: len(PLAIN["420"]) // 2]
    with pytest.raises(PictureError, match=r"a\.jpg: is damaged"):
        cropped(Encoded(cut, "a.jpg"), preset("unit", 8), Augmentation(crop="random_resized"), 1, 0, 0)


def test_arrays_are_cropped_too() -> None:
    array = np.asarray(photo(40, 40))
    found = random_resized(array, preset("unit", 16), *EVERYTHING, np.zeros(4))
    assert torch.equal(found, random_resized(Image.fromarray(array), preset("unit", 16), *EVERYTHING, np.zeros(4)))
