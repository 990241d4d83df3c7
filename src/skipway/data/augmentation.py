"""What training adds to pictures. Each draw is a function of (seed, epoch, sample index).

Cropping changes which pixels are decoded and works on one picture in a worker; everything else works on whole batches
of floating counts (0-255) on the training device.
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
from skipway.data.preprocessing import Picture, Preprocessing, to_tensor
from skipway.data.resizing import resized
from skipway.errors import RecipeError
from skipway.values import floated

_CROP, _BATCH, _OPERATIONS = 11, 12, 13  # streams of draws, kept apart


@dataclass(frozen=True)
class Augmentation:
    """All off by default.

    `crop`: `random` cuts the network's size from a picture whose resize rule ends at `crop_from` pixels (AlexNet,
    section 4.1: 256); `random_resized` cuts `crop_scale` of the area at an aspect of `crop_ratio` and resizes it;
    `padded` adds `crop_padding` black pixels on every side first (He et al. 2015, section 4.2).
    `mirror` is a probability. `rotate` and `shear` are largest angles in degrees, `zoom` and `shift` largest shares
    of the side, `brightness`, `contrast`, `saturation` largest relative changes. `lighting` is the deviation of the
    AlexNet paper's PCA colour. `randaugment` is a number of operations of strength `randaugment_magnitude` (of 31).
    `erasing` is the probability that a rectangle turns grey. `mixup` and `cutmix` are the alphas of their beta law;
    with both, each batch draws one of them.
    """

    crop: Literal["none", "random", "random_resized", "padded"] = "none"
    crop_from: int = 256
    crop_padding: int = 4
    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    mirror: float = 0.0
    rotate: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    lighting: float = 0.0
    randaugment: int = 0
    randaugment_magnitude: int = 9
    erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        floated(self)
        for name in ("mirror", "erasing", "zoom", "shift", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"augmentation: {name} is {getattr(self, name)}; give a share from 0 to 1")
        for name in ("rotate", "shear", "lighting", "randaugment", "mixup", "cutmix", "crop_padding"):
            if getattr(self, name) < 0:
                raise RecipeError(f"augmentation: {name} is {getattr(self, name)}; give 0 or more")
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise RecipeError(f"augmentation: crop_scale is {self.crop_scale}; give 0 < low <= high <= 1")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise RecipeError(f"augmentation: crop_ratio is {self.crop_ratio}; give 0 < low <= high")
        if not 0 <= self.randaugment_magnitude <= 30:
            raise RecipeError(f"augmentation: randaugment_magnitude is {self.randaugment_magnitude}; give 0 to 30")


def crop_draws(seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """What `cropped` draws for these samples: float64 (len(indices), 4)."""
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
    """One training picture as counts (C, size, size), uint8 or float32 as `Preprocessing.pixels` gives them.

    For the crops `none` and `padded` a tensor is what `Preprocessing.pixels` gave for the picture. `draws` is its row
    of `crop_draws`, where that is at hand.
    """
    sample = np.array([index])
    draws = crop_draws(seed, epoch, sample)[0] if draws is None else draws
    if augmentation.crop == "random_resized" and not isinstance(picture, Tensor):
        pixels = random_resized(picture, preprocessing, augmentation.crop_scale, augmentation.crop_ratio, draws)
    else:
        picture = picture.decoded() if isinstance(picture, Encoded) else picture
        pixels = _cut(picture, preprocessing, augmentation, draws)
    if augmentation.randaugment:
        pixels = _randaugmented(pixels, augmentation, int(hashed(seed, epoch, sample, _OPERATIONS, 1)[0, 0] >> 1))
    return pixels


def _cut(
    picture: Picture | Tensor, preprocessing: Preprocessing, augmentation: Augmentation, draws: np.ndarray
) -> Tensor:
    if augmentation.crop == "random" and not isinstance(picture, Tensor):
        return _random(preprocessing.coloured(picture), preprocessing, augmentation.crop_from, draws)
    pixels = picture if isinstance(picture, Tensor) else preprocessing.pixels(picture)
    return _padded(pixels, augmentation.crop_padding, draws) if augmentation.crop == "padded" else pixels


def _padded(pixels: Tensor, padding: int, draws: np.ndarray) -> Tensor:
    side = pixels.shape[-1]
    top, left = (int(draw * (2 * padding + 1)) for draw in draws[:2])
    return F.pad(pixels, (padding,) * 4)[:, top : top + side, left : left + side]


def _random(image: Image.Image, preprocessing: Preprocessing, crop_from: int, draws: np.ndarray) -> Tensor:
    size = preprocessing.size
    target = max(crop_from, size)
    image = image if preprocessing.resize == "squash" else trimmed(image, target)
    width, height = preprocessing.scaled(image.size, target)
    left, top = int(draws[0] * (width - size + 1)), int(draws[1] * (height - size + 1))
    counts = resized(image, (width, height), preprocessing.kernel)
    return to_tensor(counts[top : top + size, left : left + size])


def _randaugmented(pixels: Tensor, augmentation: Augmentation, seed: int) -> Tensor:
    """torchvision's RandAugment, its draws taken from this sample's own seed."""
    from torchvision.transforms import v2

    transform = v2.RandAugment(augmentation.randaugment, augmentation.randaugment_magnitude)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # torchvision takes floating pictures for values from 0 to 1.
        return transform(pixels.round().to(torch.uint8)).to(pixels.dtype)


def principal_colours(split: Split, preprocessing: Preprocessing, limit: int = 1000) -> Tensor:
    """Columns are the principal axes of RGB values, each times its eigenvalue, in counts: (3, 3), for grey (1, 1).

    Section 4.1 of the AlexNet paper adds [p1 p2 p3][a1 l1, a2 l2, a3 l3] to a picture. Eigenvalues are taken on values
    scaled to 0-1, the reading under which a deviation of 0.1 is a slight change of light.
    """
    step = max(len(split) // limit, 1)
    samples = [preprocessing.pixels(split.pictures[i]).flatten(1) for i in range(0, len(split), step)]
    values = torch.cat([one[:, :: max(one.shape[1] // 1024, 1)] for one in samples], dim=1).double() / 255
    eigenvalues, axes = torch.linalg.eigh(torch.cov(values).reshape(len(values), len(values)))
    colours: Tensor = (axes * eigenvalues * 255).float()
    return colours


class BatchAugmentation:
    """Geometry and colour for whole batches; see Augmentation."""

    def __init__(self, augmentation: Augmentation, seed: int, colours: Tensor | None = None) -> None:
        self.augmentation = augmentation
        self.seed = seed
        self.colours = colours
        one = augmentation
        self._warps = any((one.mirror, one.rotate, one.zoom, one.shift, one.shear))
        self._shades = any((one.brightness, one.contrast, one.saturation, one.lighting))

    def __call__(self, counts: Tensor, epoch: int, indices: np.ndarray) -> Tensor:
        """Counts 0-255 (N, C, H, W) of these samples, changed as this epoch changes them; uint8 ones stay so as long as
        they are only mirrored."""
        one = self.augmentation
        if not (self._warps or self._shades or one.erasing):
            return counts
        table = torch.from_numpy(uniform(self.seed, epoch, indices, _BATCH, 18).astype(np.float32))
        draws = table.to(counts.device, non_blocking=True)
        if self._warps:
            counts = self._warped(counts, draws)
        if self._shades or one.erasing:
            counts = counts.float()
        if self._shades:
            counts = self._shaded(counts, draws).clamp_(0, 255)
        return self._erased(counts, draws) if one.erasing else counts

    def _warped(self, counts: Tensor, draws: Tensor) -> Tensor:
        one = self.augmentation
        flip = 1 - 2 * (draws[:, 0] < one.mirror).float()
        if not any((one.rotate, one.zoom, one.shift, one.shear)):
            return torch.where(flip[:, None, None, None] < 0, counts.flip(3), counts)
        counts = counts.float()
        swing = 2 * draws - 1
        angle = swing[:, 1] * math.radians(one.rotate)
        scale = 1 + swing[:, 2] * one.zoom
        slant = (swing[:, 5] * math.radians(one.shear)).tan()
        cos, sin = angle.cos() / scale, angle.sin() / scale
        # affine_grid maps output to input, both from -1 to 1: a shift by a share of the side is twice that share.
        first = torch.stack((cos * flip, slant - sin, swing[:, 3] * 2 * one.shift), 1)
        second = torch.stack((sin * flip, cos, swing[:, 4] * 2 * one.shift), 1)
        grid = F.affine_grid(torch.stack((first, second), 1), list(counts.shape), align_corners=False)
        return F.grid_sample(counts, grid, padding_mode="border", align_corners=False)

    def _shaded(self, counts: Tensor, draws: Tensor) -> Tensor:
        one = self.augmentation
        swing = (2 * draws - 1)[:, :, None, None, None]
        counts = counts * (1 + swing[:, 6] * one.brightness)
        if one.contrast:
            mean = counts.mean((1, 2, 3), keepdim=True)
            counts = mean + (counts - mean) * (1 + swing[:, 7] * one.contrast)
        if one.saturation and counts.shape[1] == 3:
            grey = counts.mean(1, keepdim=True)
            counts = grey + (counts - grey) * (1 + swing[:, 8] * one.saturation)
        if one.lighting and self.colours is not None:
            # Uniform to normal by the inverse distribution; the clamp keeps a draw of 0 finite.
            alphas = one.lighting * torch.special.ndtri(draws[:, 9 : 9 + len(self.colours)].clamp(1e-6, 1 - 1e-6))
            counts = counts + (alphas @ self.colours.to(counts.device).T)[:, :, None, None]
        return counts

    def _erased(self, counts: Tensor, draws: Tensor) -> Tensor:
        """A rectangle of 2 to 33 % of the area, aspect 0.3 to 3.3, turned mid-grey (Zhong et al. 2017)."""
        side = counts.shape[-1]
        area = (0.02 + draws[:, 13] * 0.31).sqrt() * side
        aspect = torch.exp((2 * draws[:, 14] - 1) * math.log(3.3)).sqrt()
        chosen = draws[:, 12] < self.augmentation.erasing
        at = torch.arange(side, device=counts.device)
        inside = []
        for length, draw in ((area * aspect, draws[:, 15]), (area / aspect, draws[:, 16])):
            start = draw * (side - length).clamp_min(0)
            inside.append((at >= start[:, None]) & (at < (start + length)[:, None]))
        box = inside[0][:, None, :, None] & inside[1][:, None, None, :] & chosen[:, None, None, None]
        return torch.where(box, torch.full_like(counts, 127.5), counts)


@dataclass(frozen=True)
class Mixed:
    """A batch whose pictures are `share` themselves and the rest their partner's."""

    inputs: Tensor
    partners: Tensor
    share: float


def mixed(inputs: Tensor, targets: Tensor, augmentation: Augmentation, seed: int, step: int) -> Mixed | None:
    """Mixup (Zhang et al. 2017) or CutMix (Yun et al. 2019) of a standardized batch, or None when both are off."""
    alphas = [alpha for alpha in (augmentation.mixup, augmentation.cutmix) if alpha > 0]
    if not alphas:
        return None
    draw = np.random.default_rng([seed, 2, step])
    pick = int(draw.integers(len(alphas)))
    share = float(draw.beta(alphas[pick], alphas[pick]))
    order = torch.from_numpy(draw.permutation(len(inputs))).to(inputs.device)
    cut = augmentation.cutmix > 0 and pick == len(alphas) - 1
    if not cut:
        return Mixed(inputs.lerp(inputs[order], 1 - share), targets[order], share)
    height, width = inputs.shape[2:]
    rows, columns = (round(side * math.sqrt(1 - share)) for side in (height, width))
    top, left = (int(draw.integers(side - length + 1)) for side, length in ((height, rows), (width, columns)))
    inputs = inputs.clone()
    region = (slice(None), slice(None), slice(top, top + rows), slice(left, left + columns))
    inputs[region] = inputs[order][region]
    return Mixed(inputs, targets[order], 1 - rows * columns / (height * width))
