"""The random changes that training makes to pictures. Each draw is a function of (seed, epoch, sample index).

Cropping decides which pixels are decoded and works on single pictures in a worker. Everything else works on whole
batches of floating counts (0-255) on the training device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from skipway.data.cropping import random_resized
from skipway.data.dataset import Split
from skipway.data.draws import hashed, uniform
from skipway.data.encoded import Encoded
from skipway.data.geometry import trimmed
from skipway.data.picture_arrays import to_tensor
from skipway.data.preprocessing import Picture, Preprocessing
from skipway.data.resizing import resized
from skipway.errors import RecipeError
from skipway.values import floated

_CROP, _BATCH, _OPERATIONS = 11, 12, 13  # streams of draws, a different one for each use
_SHARES = ("mirror", "erasing", "zoom", "shift", "brightness", "contrast", "saturation")  # fields from 0 to 1
_NOT_NEGATIVE = ("rotate", "shear", "lighting", "randaugment", "mixup", "cutmix", "crop_padding")
_MOST_MAGNITUDE = 30  # of RandAugment


@dataclass(frozen=True)
class Augmentation:
    """The options of augmentation. All of them are off by default. Raises RecipeError for values out of range."""

    # `random` cuts the network's size from a picture whose resize rule ends at `crop_from` pixels (AlexNet, section
    # 4.1). `random_resized` cuts a box of random area and aspect and resizes it. `padded` adds black pixels on every
    # side and cuts the network's size (He et al. 2015, section 4.2).
    crop: Literal["none", "random", "random_resized", "padded"] = "none"
    crop_from: int = 256  # pixels, of `random`
    crop_padding: int = 4  # pixels on each side, of `padded`
    crop_scale: tuple[float, float] = (0.08, 1.0)  # least and largest share of the area, of `random_resized`
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)  # least and largest width over height, of `random_resized`
    mirror: float = 0.0  # probability
    rotate: float = 0.0  # largest angle in degrees
    zoom: float = 0.0  # largest relative change of the size
    shift: float = 0.0  # largest share of the side
    shear: float = 0.0  # largest angle in degrees
    brightness: float = 0.0  # largest relative change
    contrast: float = 0.0  # largest relative change
    saturation: float = 0.0  # largest relative change
    lighting: float = 0.0  # standard deviation of the AlexNet paper's PCA colours (section 4.1)
    randaugment: int = 0  # number of operations
    randaugment_magnitude: int = 9  # strength of the operations, 0 to 30
    erasing: float = 0.0  # probability that a rectangle becomes grey
    # The alphas of the beta distributions of mixup and CutMix. With both, each batch draws one of them.
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        """Check the fields."""
        floated(self)
        for name in _SHARES:
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise RecipeError(f"augmentation: {name} is {value}; give a share from 0 to 1")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if value < 0:
                raise RecipeError(f"augmentation: {name} is {value}; give 0 or more")
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise RecipeError(f"augmentation: crop_scale is {self.crop_scale}; give 0 < low <= high <= 1")
        low, high = self.crop_ratio
        if not 0 < low <= high:
            raise RecipeError(f"augmentation: crop_ratio is {self.crop_ratio}; give 0 < low <= high")
        magnitude = self.randaugment_magnitude
        if not 0 <= magnitude <= _MOST_MAGNITUDE:
            raise RecipeError(f"augmentation: randaugment_magnitude is {magnitude}; give 0 to {_MOST_MAGNITUDE}")


def crop_draws(seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """The random numbers of `cropped` for these samples, float64 (len(indices), 4)."""
    return uniform(seed, epoch, indices, _CROP, 4)


def cropped(
    picture: Picture | Encoded | Tensor,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    seed: int,
    epoch: int,
    index: int,
    draws: np.ndarray | None = None,
) -> Tensor:
    """A training picture, cropped, and changed by RandAugment.

    Arguments:
        picture: the picture. For the crops `none` and `padded` it can be what `Preprocessing.pixels` gave for it.
        preprocessing, augmentation: what becomes of it.
        seed, epoch, index: what all its draws depend on. `index` is its position in the split.
        draws: its row of `crop_draws`, where the caller has it.

    Returns counts (C, size, size), uint8 or float32 as `Preprocessing.pixels` gives them. Raises PictureError for an
    encoded picture that cannot be decoded.
    """
    sample = np.array([index])
    if draws is None:
        draws = crop_draws(seed, epoch, sample)[0]
    if isinstance(picture, Tensor):
        pixels = _padded_crop(picture, augmentation, draws)
    elif augmentation.crop == "random_resized":
        pixels = random_resized(picture, preprocessing, augmentation.crop_scale, augmentation.crop_ratio, draws)
    else:
        decoded = picture.decoded() if isinstance(picture, Encoded) else picture
        if augmentation.crop == "random":
            image = preprocessing.coloured(decoded)
            pixels = _random_crop(image, preprocessing, augmentation.crop_from, draws)
        else:
            pixels = _padded_crop(preprocessing.pixels(decoded), augmentation, draws)
    if augmentation.randaugment:
        bits = hashed(seed, epoch, sample, _OPERATIONS, 1)[0, 0]
        pixels = _randaugmented(pixels, augmentation, int(bits >> 1))
    return pixels


def _padded_crop(pixels: Tensor, augmentation: Augmentation, draws: np.ndarray) -> Tensor:
    """Pixels (C, size, size), shifted by cropping after padding, where the crop is `padded`; else as they are."""
    if augmentation.crop != "padded":
        return pixels
    padding = augmentation.crop_padding
    side = pixels.shape[-1]
    places = 2 * padding + 1
    top = int(draws[0] * places)
    left = int(draws[1] * places)
    padded = F.pad(pixels, (padding, padding, padding, padding))
    return padded[:, top : top + side, left : left + side]


def _random_crop(image: Image.Image, preprocessing: Preprocessing, crop_from: int, draws: np.ndarray) -> Tensor:
    """A random square of the network's size from a picture that is resized to `crop_from` pixels: (C, size, size)."""
    size = preprocessing.size
    target = max(crop_from, size)
    if preprocessing.resize != "squash":
        image = trimmed(image, target)
    width, height = preprocessing.scaled(image.size, target)
    left = int(draws[0] * (width - size + 1))
    top = int(draws[1] * (height - size + 1))
    counts = resized(image, (width, height), preprocessing.kernel)
    return to_tensor(counts[top : top + size, left : left + size])


def _randaugmented(pixels: Tensor, augmentation: Augmentation, seed: int) -> Tensor:
    """Pixels after torchvision's RandAugment, which draws from a generator with this seed."""
    from torchvision.transforms import v2

    transform = v2.RandAugment(augmentation.randaugment, augmentation.randaugment_magnitude)
    # torchvision would take floating pictures for values from 0 to 1.
    counts = pixels.round().to(torch.uint8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = transform(counts)
    return changed.to(pixels.dtype)


def principal_colours(split: Split, preprocessing: Preprocessing, limit: int = 1000) -> Tensor:
    """The principal axes of the RGB values of a split, for the lighting of the AlexNet paper (section 4.1).

    The paper adds [p1 p2 p3][a1 l1, a2 l2, a3 l3] to a picture, with eigenvectors p, eigenvalues l and random a. The
    eigenvalues are those of values scaled to 0-1: then a deviation of 0.1 is a slight change of light.

    Arguments:
        split: the training pictures.
        preprocessing: gives their pixels.
        limit: about how many pictures to use.

    Returns (3, 3), or (1, 1) for grey: each column is an axis times its eigenvalue, in counts.
    """
    step = max(len(split) // limit, 1)
    samples = []
    for index in range(0, len(split), step):
        pixels = preprocessing.pixels(split.pictures[index]).flatten(1)
        every = max(pixels.shape[1] // 1024, 1)
        samples.append(pixels[:, ::every])
    values = torch.cat(samples, dim=1).double() / 255
    channels = len(values)
    covariance = torch.cov(values).reshape(channels, channels)
    eigenvalues, axes = torch.linalg.eigh(covariance)
    colours: Tensor = (axes * eigenvalues * 255).float()
    return colours


class BatchAugmentation:
    """The changes of geometry and colour for whole batches."""

    def __init__(self, augmentation: Augmentation, seed: int, colours: Tensor | None = None) -> None:
        """Changes by these options. `colours`, from `principal_colours`, are needed for lighting."""
        self.augmentation = augmentation
        self.seed = seed
        self.colours = colours
        options = augmentation
        self._bends = any((options.rotate, options.zoom, options.shift, options.shear))
        self._warps = bool(options.mirror) or self._bends
        self._shades = any((options.brightness, options.contrast, options.saturation, options.lighting))
        self._erases = bool(options.erasing)

    def __call__(self, counts: Tensor, epoch: int, indices: np.ndarray) -> Tensor:
        """The changed batch.

        Arguments:
            counts: 0-255, (N, C, H, W). uint8 counts stay uint8 where pictures are at most mirrored.
            epoch: the number of the epoch.
            indices: the positions of the pictures in the split, (N,).
        """
        if not self._warps and not self._shades and not self._erases:
            return counts
        table = torch.from_numpy(uniform(self.seed, epoch, indices, _BATCH, 18).astype(np.float32))
        draws = table.to(counts.device, non_blocking=True)
        if self._warps:
            counts = self._warped(counts, draws)
        if self._shades:
            counts = self._shaded(counts.float(), draws).clamp_(0, 255)
        if self._erases:
            counts = self._erased(counts.float(), draws)
        return counts

    def _warped(self, counts: Tensor, draws: Tensor) -> Tensor:
        """Mirrored, rotated, zoomed, shifted and sheared pictures, all in one step of interpolation."""
        options = self.augmentation
        flip = 1 - 2 * (draws[:, 0] < options.mirror).float()
        if not self._bends:
            is_mirrored = flip[:, None, None, None] < 0
            return torch.where(is_mirrored, counts.flip(3), counts)
        counts = counts.float()
        swing = 2 * draws - 1
        angle = swing[:, 1] * math.radians(options.rotate)
        scale = 1 + swing[:, 2] * options.zoom
        slant = (swing[:, 5] * math.radians(options.shear)).tan()
        cos = angle.cos() / scale
        sin = angle.sin() / scale
        # affine_grid maps places of the output to places of the input, both from -1 to 1. A shift by a share of the
        # side is twice that share.
        right = swing[:, 3] * 2 * options.shift
        down = swing[:, 4] * 2 * options.shift
        first_row = torch.stack((cos * flip, slant - sin, right), 1)
        second_row = torch.stack((sin * flip, cos, down), 1)
        matrices = torch.stack((first_row, second_row), 1)
        grid = F.affine_grid(matrices, list(counts.shape), align_corners=False)
        return F.grid_sample(counts, grid, padding_mode="border", align_corners=False)

    def _shaded(self, counts: Tensor, draws: Tensor) -> Tensor:
        """Pictures with another brightness, contrast, saturation and lighting."""
        options = self.augmentation
        swing = (2 * draws - 1)[:, :, None, None, None]
        counts = counts * (1 + swing[:, 6] * options.brightness)
        if options.contrast:
            mean = counts.mean((1, 2, 3), keepdim=True)
            counts = mean + (counts - mean) * (1 + swing[:, 7] * options.contrast)
        has_colour = counts.shape[1] == 3
        if options.saturation and has_colour:
            grey = counts.mean(1, keepdim=True)
            counts = grey + (counts - grey) * (1 + swing[:, 8] * options.saturation)
        if options.lighting and self.colours is not None:
            # The inverse of the normal distribution makes normal draws of uniform ones. The clamp keeps them finite.
            uniform_draws = draws[:, 9 : 9 + len(self.colours)].clamp(1e-6, 1 - 1e-6)
            alphas = options.lighting * torch.special.ndtri(uniform_draws)
            colours = self.colours.to(counts.device)
            counts = counts + (alphas @ colours.T)[:, :, None, None]
        return counts

    def _erased(self, counts: Tensor, draws: Tensor) -> Tensor:
        """Pictures in which a rectangle of 2 to 33 % of the area, aspect 0.3 to 3.3, is grey (Zhong et al. 2017)."""
        side = counts.shape[-1]
        length = (0.02 + draws[:, 13] * 0.31).sqrt() * side
        aspect = torch.exp((2 * draws[:, 14] - 1) * math.log(3.3)).sqrt()
        is_chosen = draws[:, 12] < self.augmentation.erasing
        in_rows = _in_range(length * aspect, draws[:, 15], side)
        in_columns = _in_range(length / aspect, draws[:, 16], side)
        box = in_rows[:, None, :, None] & in_columns[:, None, None, :] & is_chosen[:, None, None, None]
        return torch.where(box, torch.full_like(counts, 127.5), counts)


def _in_range(length: Tensor, draw: Tensor, side: int) -> Tensor:
    """Which pixels of a side lie in a range of each picture: bool (N, side).

    `length` (N,) is the length of each range in pixels, and `draw` (N,) places it.
    """
    start = draw * (side - length).clamp_min(0)
    end = start + length
    pixels = torch.arange(side, device=length.device)
    return (pixels >= start[:, None]) & (pixels < end[:, None])


@dataclass(frozen=True)
class Mixed:
    """A batch of which each picture is mixed with a partner of the same batch."""

    inputs: Tensor  # the mixed pictures (N, C, H, W)
    partners: Tensor  # the targets of the partners (N,)
    share: float  # of the picture itself; the rest is its partner's


def mixed(inputs: Tensor, targets: Tensor, augmentation: Augmentation, seed: int, step: int) -> Mixed | None:
    """A batch mixed by mixup (Zhang et al. 2017) or CutMix (Yun et al. 2019); None when both are off.

    Arguments:
        inputs: standardized pictures (N, C, H, W).
        targets: (N,).
        augmentation: the options.
        seed, step: what all draws depend on.
    """
    alphas = [alpha for alpha in (augmentation.mixup, augmentation.cutmix) if alpha > 0]
    if not alphas:
        return None
    draw = np.random.default_rng([seed, 2, step])
    pick = int(draw.integers(len(alphas)))
    share = float(draw.beta(alphas[pick], alphas[pick]))
    order = torch.from_numpy(draw.permutation(len(inputs))).to(inputs.device)
    is_last = pick == len(alphas) - 1
    is_cutmix = augmentation.cutmix > 0 and is_last
    if not is_cutmix:
        return Mixed(inputs.lerp(inputs[order], 1 - share), targets[order], share)
    height, width = inputs.shape[2:]
    rows = round(height * math.sqrt(1 - share))
    columns = round(width * math.sqrt(1 - share))
    top = int(draw.integers(height - rows + 1))
    left = int(draw.integers(width - columns + 1))
    region = (slice(None), slice(None), slice(top, top + rows), slice(left, left + columns))
    inputs = inputs.clone()
    inputs[region] = inputs[order][region]
    cut_share = rows * columns / (height * width)
    return Mixed(inputs, targets[order], 1 - cut_share)
