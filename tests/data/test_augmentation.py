"""What training adds to pictures: each draw a function of (seed, epoch, sample), each strength what its name says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from skipway.data.augmentation import Augmentation, BatchAugmentation, cropped, mixed, principal_colours
from skipway.data.dataset import ArrayPictures, Split
from skipway.data.preprocessing import Preprocessing, preset
from skipway.errors import RecipeError

COLOURS = torch.tensor([[3.0, 20.0, 50.0], [-5.0, 10.0, 50.0], [2.0, -30.0, 50.0]])
EVERYTHING = Augmentation(
    mirror=0.5, rotate=20, zoom=0.2, shift=0.1, shear=10, brightness=0.3, contrast=0.3, saturation=0.3,
    lighting=0.1, erasing=0.5,
)  # fmt: skip
SINGLY = {
    "mirror": Augmentation(mirror=0.5),
    "rotate": Augmentation(rotate=20),
    "zoom": Augmentation(zoom=0.2),
    "shift": Augmentation(shift=0.1),
    "shear": Augmentation(shear=10),
    "brightness": Augmentation(brightness=0.3),
    "contrast": Augmentation(contrast=0.3),
    "saturation": Augmentation(saturation=0.3),
    "lighting": Augmentation(lighting=0.1),
    "erasing": Augmentation(erasing=0.5),
    "everything": EVERYTHING,
}


def noise(count: int, side: int = 12, channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, channels, side, side)).float()


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))


def numbers(*indices: int) -> np.ndarray:
    return np.array(indices)


def test_off_changes_nothing() -> None:
    counts = noise(3)
    assert BatchAugmentation(Augmentation(), seed=1)(counts, 0, numbers(0, 1, 2)) is counts
    image, preprocessing = photo(30, 20), preset("unit", 16)
    assert torch.equal(cropped(image, preprocessing, Augmentation(), 1, 2, 3), preprocessing.pixels(image))
    assert mixed(counts, torch.arange(3), Augmentation(), 1, 2) is None


@pytest.mark.parametrize("name", SINGLY)
def test_a_picture_changes_alike_in_any_batch(name: str) -> None:
    change = BatchAugmentation(SINGLY[name], seed=4, colours=COLOURS)
    counts = noise(40)
    indices = np.arange(100, 140)
    whole = change(counts, 2, indices)
    assert whole.shape == counts.shape
    assert not torch.equal(whole, counts)
    for chosen in (numbers(7), numbers(31, 7, 0), np.arange(39, -1, -1)):
        part = change(counts[chosen], 2, indices[chosen])
        # The draws are the same; sums over other batch sizes may round differently.
        torch.testing.assert_close(part, whole[chosen], rtol=1e-5, atol=1e-3)
    assert torch.equal(change(counts, 2, indices), whole)
    for other in (change(counts, 3, indices), change(counts, 2, indices + 40)):
        assert not torch.allclose(other, whole, atol=1)
    reseeded = BatchAugmentation(SINGLY[name], seed=5, colours=COLOURS)
    assert not torch.allclose(reseeded(counts, 2, indices), whole, atol=1)


def test_mirror() -> None:
    counts = noise(400, side=4)
    indices = np.arange(400)
    assert torch.equal(BatchAugmentation(Augmentation(mirror=1.0), 1)(counts, 0, indices), counts.flip(3))
    half = BatchAugmentation(Augmentation(mirror=0.5), 1)(counts, 0, indices)
    flipped = (half == counts.flip(3)).flatten(1).all(1)
    kept = (half == counts).flatten(1).all(1)
    assert (flipped ^ kept).all()
    assert 160 < flipped.sum() < 240  # 200, sd 10


def test_mirror_by_resampling_is_a_flip_too() -> None:
    counts = noise(6)
    change = BatchAugmentation(Augmentation(mirror=1.0, rotate=1e-6), 1)
    torch.testing.assert_close(change(counts, 0, np.arange(6)), counts.flip(3), rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", ["rotate", "zoom", "shift", "shear"])
def test_warping_by_nothing_is_the_identity(name: str) -> None:
    change = BatchAugmentation(Augmentation(**{name: 1e-9}), 1)
    counts = noise(6)
    torch.testing.assert_close(change(counts, 0, np.arange(6)), counts, rtol=0, atol=1e-3)


def linear_parts(augmentation: Augmentation, side: int = 64, count: int = 200) -> np.ndarray:
    """What the warp does to the coordinates: (count, 2, 3), pixels from the centre in and out, and the shift."""
    axis = torch.arange(side).float() - (side - 1) / 2
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    counts = torch.stack((columns, rows)).expand(count, -1, -1, -1)
    warped = BatchAugmentation(augmentation, 3)(counts, 0, np.arange(count))
    inner = slice(side // 2 - 8, side // 2 + 8)  # the border is repeated: only the middle is linear
    at = torch.stack((columns, rows, torch.ones_like(rows)), 2)[inner, inner].reshape(-1, 3)
    values = warped[:, :, inner, inner].reshape(2 * count, -1).T
    return torch.linalg.lstsq(at, values).solution.T.reshape(count, 2, 3).numpy()


def spread_over(values: np.ndarray, limit: float) -> None:
    assert np.abs(values).max() <= limit * 1.001
    assert values.max() > 0.9 * limit
    assert values.min() < -0.9 * limit


def test_rotation_is_in_degrees_and_rigid() -> None:
    found = linear_parts(Augmentation(rotate=30))
    matrices = found[:, :, :2]
    np.testing.assert_allclose(matrices @ matrices.swapaxes(1, 2), np.broadcast_to(np.eye(2), (200, 2, 2)), atol=1e-3)
    np.testing.assert_allclose(found[:, :, 2], 0, atol=1e-2)
    spread_over(np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])), 30)


def test_zoom_scales_both_sides_alike() -> None:
    found = linear_parts(Augmentation(zoom=0.25))
    scale = 1 / found[:, 0, 0]
    np.testing.assert_allclose(found[:, 0, 0], found[:, 1, 1], rtol=1e-3)
    np.testing.assert_allclose(found[:, [0, 1], [1, 0]], 0, atol=1e-3)
    spread_over(scale - 1, 0.25)


def test_shift_is_a_share_of_the_side() -> None:
    found = linear_parts(Augmentation(shift=0.2))
    np.testing.assert_allclose(found[:, :, :2], np.broadcast_to(np.eye(2), (200, 2, 2)), atol=1e-3)
    for axis in (0, 1):
        spread_over(found[:, axis, 2], 0.2 * 64)


def test_shear_slants_the_rows() -> None:
    found = linear_parts(Augmentation(shear=20))
    np.testing.assert_allclose(found[:, 0, 0], 1, atol=1e-3)
    np.testing.assert_allclose(found[:, 1, :2], np.broadcast_to([0.0, 1.0], (200, 2)), atol=1e-3)
    spread_over(np.degrees(np.arctan(found[:, 0, 1])), 20)


def test_brightness_multiplies_and_stays_in_range() -> None:
    counts = torch.full((300, 3, 2, 2), 100.0)
    bright = BatchAugmentation(Augmentation(brightness=0.4), 1)(counts, 0, np.arange(300))
    assert torch.equal(bright, bright[:, :1, :1, :1].expand_as(bright))
    spread_over(bright[:, 0, 0, 0].numpy() / 100 - 1, 0.4)
    counts = torch.full((300, 3, 2, 2), 250.0)
    assert BatchAugmentation(Augmentation(brightness=0.4), 1)(counts, 0, np.arange(300)).max() == 255


def test_contrast_keeps_the_mean() -> None:
    counts = noise(100) * 0.2 + 100  # far from the limits
    changed = BatchAugmentation(Augmentation(contrast=0.5), 1)(counts, 0, np.arange(100))
    torch.testing.assert_close(changed.mean((1, 2, 3)), counts.mean((1, 2, 3)))
    spread_over((changed.std((1, 2, 3)) / counts.std((1, 2, 3)) - 1).numpy(), 0.5)


def test_saturation_spares_greys() -> None:
    change = BatchAugmentation(Augmentation(saturation=0.5), 1)
    greys = noise(20, channels=1).expand(-1, 3, -1, -1)
    torch.testing.assert_close(change(greys, 0, np.arange(20)), greys, rtol=0, atol=1e-3)
    assert torch.equal(change(greys[:, :1], 0, np.arange(20)), greys[:, :1])
    colours = noise(20) * 0.2 + 100
    changed = change(colours, 0, np.arange(20))
    torch.testing.assert_close(changed.mean(1), colours.mean(1))
    assert not torch.allclose(changed, colours, atol=1)


def test_lighting_adds_a_normal_amount_along_each_axis() -> None:
    counts = torch.full((4000, 3, 2, 2), 128.0)
    changed = BatchAugmentation(Augmentation(lighting=0.1), 1, COLOURS)(counts, 0, np.arange(4000))
    added = changed[:, :, 0, 0] - 128
    assert torch.equal(changed, changed[:, :, :1, :1].expand_as(changed))
    alphas = torch.linalg.solve(COLOURS, added.T).T  # added = COLOURS @ alphas
    np.testing.assert_allclose(alphas.std(0).numpy(), 0.1, rtol=0.06)  # 5 standard errors
    np.testing.assert_allclose(alphas.mean(0).numpy(), 0, atol=0.008)


def test_lighting_needs_colours() -> None:
    counts = noise(5)
    assert torch.equal(BatchAugmentation(Augmentation(lighting=0.1), 1)(counts, 0, np.arange(5)), counts)


def test_principal_colours_of_pictures_that_vary_in_red_alone() -> None:
    array = np.full((10, 8, 8, 3), 90, np.uint8)
    array[::2, :, :, 0], array[1::2, :, :, 0] = 0, 255
    colours = principal_colours(Split(ArrayPictures(array, "test"), np.zeros(10, np.int64)), preset("torch", 8))
    assert colours.shape == (3, 3)
    # Red is 0 or 1, half each: a variance of 1/4 of 255 counts, along red.
    np.testing.assert_allclose(colours.abs()[:, 2].numpy(), [255 / 4, 0, 0], rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(colours[:, :2].numpy(), 0, atol=1e-3)


def test_lighting_works_on_grey() -> None:
    array = np.random.default_rng(0).integers(0, 256, (10, 8, 8), np.uint8)
    colours = principal_colours(Split(ArrayPictures(array, "test"), np.zeros(10)), preset("unit", 8, grey=True))
    assert colours.shape == (1, 1)
    assert colours.item() == pytest.approx((array / 255).var(ddof=1) * 255, rel=1e-3)
    counts = noise(5, channels=1)
    changed = BatchAugmentation(Augmentation(lighting=0.5), 1, colours)(counts, 0, np.arange(5))
    assert changed.shape == counts.shape
    assert not torch.equal(changed, counts)


def test_erasing_paints_one_rectangle() -> None:
    counts = torch.zeros(200, 3, 40, 40)
    change = BatchAugmentation(Augmentation(erasing=1.0), 1)
    for picture in change(counts, 0, np.arange(200)):
        painted = picture[0] == 127.5
        assert torch.equal(picture, painted.float().expand(3, -1, -1) * 127.5)
        rows, columns = painted.any(1), painted.any(0)
        assert torch.equal(painted, rows[:, None] & columns[None, :])
        assert 0.01 < painted.float().mean() < 0.36  # 2 to 33 %, whole pixels
        for side in (rows, columns):
            first, last = side.nonzero()[0].item(), side.nonzero()[-1].item()
            assert side[int(first) : int(last) + 1].all()
    some = BatchAugmentation(Augmentation(erasing=0.3), 1)(counts, 0, np.arange(200))
    assert 35 < (some.flatten(1) > 0).any(1).sum() < 85  # 60, sd 6.5


CROPS = {
    "random": Augmentation(crop="random", crop_from=24),
    "random_resized": Augmentation(crop="random_resized"),
    "padded": Augmentation(crop="padded", crop_padding=4),
}


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (16, 16), (5, 7), (1, 1), (300, 2), (3, 200)], ids=str)
@pytest.mark.parametrize("name", CROPS)
def test_crops_have_the_networks_size(name: str, size: tuple[int, int]) -> None:
    for epoch in range(10):
        for channels, preprocessing in ((3, preset("torch", 16)), (1, preset("unit", 16, grey=True))):
            pixels = cropped(photo(*size), preprocessing, CROPS[name], 1, epoch, 5)
            assert pixels.shape == (channels, 16, 16)
            assert pixels.dtype == torch.uint8


@pytest.mark.parametrize("name", CROPS)
def test_crops_differ_between_epochs_and_pictures_and_repeat(name: str) -> None:
    image, preprocessing = photo(60, 60), preset("unit", 16)
    base = cropped(image, preprocessing, CROPS[name], 1, 0, 5)
    assert torch.equal(cropped(image, preprocessing, CROPS[name], 1, 0, 5), base)
    coordinates = [(1, epoch, 5) for epoch in range(1, 6)] + [(1, 0, index) for index in range(6, 11)] + [(2, 0, 5)]
    others = [cropped(image, preprocessing, CROPS[name], *one) for one in coordinates]
    assert sum(torch.equal(one, base) for one in others) <= 1  # a crop has few places and may recur


def test_a_padded_crop_is_a_window_of_the_padded_picture() -> None:
    array = np.random.default_rng(0).integers(1, 256, (8, 8), np.uint8)
    preprocessing = preset("unit", 8, grey=True)
    padded = torch.nn.functional.pad(torch.from_numpy(array), (2, 2, 2, 2))
    windows = {(top, left): padded[top : top + 8, left : left + 8] for top in range(5) for left in range(5)}
    seen = set()
    for epoch in range(300):
        pixels = cropped(array, preprocessing, Augmentation(crop="padded", crop_padding=2), 1, epoch, 0)
        (place,) = (at for at, window in windows.items() if torch.equal(pixels[0], window))
        seen.add(place)
    assert seen == set(windows)  # every place occurs, the corners too
    assert torch.equal(
        cropped(array, preprocessing, Augmentation(crop="padded", crop_padding=0), 1, 0, 0)[0], windows[2, 2]
    )


def test_a_random_crop_is_a_window_of_the_resized_picture() -> None:
    columns, rows = np.meshgrid(np.arange(12), np.arange(10))
    image = Image.fromarray(np.stack((columns, rows, rows), 2).astype(np.uint8))
    seen = set()
    for epoch in range(200):
        pixels = cropped(image, Preprocessing(8), Augmentation(crop="random", crop_from=10), 1, epoch, 0)
        left, top = int(pixels[0, 0, 0]), int(pixels[1, 0, 0])
        assert pixels[0, 3].tolist() == list(range(left, left + 8))
        assert pixels[1, :, 3].tolist() == list(range(top, top + 8))
        seen.add((left, top))
    assert seen == {(left, top) for left in range(5) for top in range(3)}


def test_a_random_crop_of_a_squashed_picture_and_of_a_strip() -> None:
    random = Augmentation(crop="random", crop_from=32)
    assert cropped(photo(80, 20), preset("caffe", 24), random, 1, 0, 0).shape == (3, 24, 24)
    assert cropped(Image.new("L", (60_000, 1)), preset("unit", 24), random, 1, 0, 0).shape == (3, 24, 24)


def test_a_random_resized_crop_of_everything_is_the_resized_picture() -> None:
    image = photo(40, 40)
    whole = Augmentation(crop="random_resized", crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    for kernel in ("bicubic", "lanczos", "nearest", "tf1_bilinear", "opencv_bilinear"):
        exact = replace(preset("unit", 16), kernel=kernel)
        assert torch.equal(cropped(image, exact, whole, 1, 0, 0), exact.pixels(image))
    near = cropped(image, preset("unit", 16), whole, 1, 0, 0).int() - preset("unit", 16).pixels(image).int()
    assert near.abs().max() <= 1


@pytest.mark.parametrize("grey", [False, True])
def test_randaugment_has_its_own_randomness(grey: bool) -> None:
    image, preprocessing = photo(24, 24), preset("unit", 24, grey=grey)
    strong = Augmentation(randaugment=2, randaugment_magnitude=15)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    outcomes = [cropped(image, preprocessing, strong, 1, epoch, 0) for epoch in range(20)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)  # nor does it listen to the global generator
    assert all(torch.equal(cropped(image, preprocessing, strong, 1, e, 0), one) for e, one in enumerate(outcomes))
    assert {(one.shape, one.dtype) for one in outcomes} == {((preprocessing.depth, 24, 24), torch.uint8)}
    assert len({one.numpy().tobytes() for one in outcomes}) > 10


def mixing_batch() -> tuple[Tensor, Tensor]:
    """Pictures that are filled with their own target."""
    targets = torch.arange(16)
    return targets.float()[:, None, None, None].expand(-1, 3, 20, 20).contiguous(), targets


def test_mixup_blends_by_its_share() -> None:
    inputs, targets = mixing_batch()
    shares = []
    for step in range(50):
        result = mixed(inputs, targets, Augmentation(mixup=1.0), 1, step)
        assert result is not None
        assert 0 <= result.share <= 1
        assert torch.equal(result.partners.sort().values, targets)
        blend = result.share * targets + (1 - result.share) * result.partners
        torch.testing.assert_close(result.inputs, blend[:, None, None, None].expand_as(inputs), rtol=0, atol=1e-4)
        shares.append(result.share)
    assert min(shares) < 0.2
    assert max(shares) > 0.8  # beta(1, 1) is uniform
    assert torch.equal(inputs, mixing_batch()[0])


def test_cutmix_pastes_a_rectangle_of_its_share() -> None:
    inputs, targets = mixing_batch()
    shares = []
    for step in range(50):
        result = mixed(inputs, targets, Augmentation(cutmix=1.0), 1, step)
        assert result is not None
        pasted = result.inputs != inputs
        other = (result.partners != targets)[:, None, None, None]
        expected = torch.where(pasted, result.partners[:, None, None, None].float(), inputs)
        assert torch.equal(result.inputs, expected)
        pairs = pasted[other.flatten()]
        assert torch.equal(pairs, pairs[:1, :1].expand_as(pairs))  # the same place in all
        assert pairs[0, 0].float().mean().item() == pytest.approx(1 - result.share, abs=1e-6)
        shares.append(result.share)
    assert min(shares) < 0.2
    assert max(shares) > 0.8
    assert torch.equal(inputs, mixing_batch()[0])  # the batch itself is left as it was


def test_mixing_draws_either_and_depends_on_seed_and_step_alone() -> None:
    inputs, targets = mixing_batch()
    both = Augmentation(mixup=1.0, cutmix=1.0)
    results = [mixed(inputs, targets, both, 1, step) for step in range(40)]
    # CutMix leaves only whole numbers in a picture.
    cut = sum(bool((one.inputs == one.inputs.round()).all()) for one in results if one is not None)
    assert 8 < cut < 32
    torch.manual_seed(77)
    again, other = mixed(inputs, targets, both, 1, 5), mixed(inputs, targets, both, 2, 5)
    assert again is not None
    assert other is not None
    assert results[5] is not None
    assert torch.equal(again.inputs, results[5].inputs)
    assert again.share == results[5].share
    assert again.share != other.share


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mirror": 1.5}, "mirror is 1.5; give a share from 0 to 1"),
        ({"erasing": -0.1}, "erasing is -0.1"),
        ({"brightness": float("nan")}, "brightness is nan"),
        ({"rotate": -5.0}, "rotate is -5.0; give 0 or more"),
        ({"mixup": -1.0}, "mixup is -1.0"),
        ({"randaugment": -1}, "randaugment is -1"),
        ({"randaugment_magnitude": 31}, "randaugment_magnitude is 31; give 0 to 30"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.9, 0.5)}, "crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio"),
        ({"crop_padding": -1}, "crop_padding is -1"),
    ],
)
def test_strengths_out_of_range_are_recipe_errors(fields: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Augmentation(**fields)  # type: ignore[arg-type]
