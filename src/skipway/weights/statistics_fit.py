"""How well a network's own statistics fit its input: evidence of how it was built and what it was trained on.

A batch normalization stores the mean and the variance that its input had in training, for each channel. The input has
them again where the pictures, their preparation and the network are those of the training. It does not where a shortcut
puts its channels elsewhere, a stride is another, or the counts are scaled in another way.

At each normalization the distribution N(m, v) of the batch is compared with the stored N(m', v'), by the divergence of
the first from the second, (v / v' + (m - m')^2 / v' - 1 - ln(v / v')) / 2, with the layer's epsilon in both variances.
The mean over the channels is the layer's figure, and the median over the layers is the network's: 0 is a perfect fit.
Other pictures than those of the training raise it, to some hundredths for natural photographs and a network of
CIFAR-10. What changes no mean and no variance does not change the figure: docs/weights.md says what it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import median

import torch
from torch import Tensor, nn

from skipway.data.preprocessing import Picture, Preprocessing
from skipway.errors import DataError
from skipway.models.network import Network, Spec

# Measured on every checkpoint at hand and on networks trained for it (docs/weights.md, docs/log.md).
POOR = 0.15  # a figure from here on is no evidence: the right networks had 0.015 to 0.07
# Two preparations are too close to decide where one figure is less than this many times the other. Other means and
# deviations were 0.8 to 1.5 times as bad as the right ones, other scales and centres 3.5 times and more.
CLOSE = 2.0

CONVENTIONS = ("unit", "counts", "keras_tf", "imagenet_statistics", "cifar", "cifar_mean", "keras_caffe")

_PIXELS_AT_ONCE = 2**18  # in a pass: five pictures of 224 pixels, so that large networks take little memory
_WORST = 100.0  # of one channel: a dead one, stored with a variance near 0, would outweigh all others

# The work limit for one candidate, in multiplications: it decides how many pictures are measured, from 8 to 32. The
# limit is twice as high where networks are compared. Three draws of 32 crops gave the same decisions as three of 96,
# with figures up to 40 % higher; with 16, the figures of one network varied twofold, in all its candidates alike.
_WORK = 5e9
_LEAST_PICTURES, _MOST_PICTURES = 8, 32
_SMALL = 96  # pixels a side; the sources of networks for larger pictures have conventions, by their names
_PASSES = 500  # multiplications that a number of a map is worth, for it is also normalized, rectified and measured


@dataclass(frozen=True)
class Fit:
    """How well the statistics of a network fit some pictures."""

    figure: float  # the median of the layers' figures, 0 for a perfect fit
    layers: tuple[tuple[str, float], ...]  # each normalization's name and its figure
    pictures: int  # how many were measured


@dataclass
class _Moments:
    """Mean and mean square of each channel over all that has been seen, float64."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    square: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, x: Tensor) -> None:
        """Count the values of a batch (N, C, H, W) in."""
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        mean, variance = mean.double().cpu(), variance.double().cpu()
        number = x.shape[0] * x.shape[2] * x.shape[3]
        self.count += number
        self.total = self.total + number * mean
        self.square = self.square + number * (variance + mean * mean)

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Both for each channel, float64 (C,)."""
        mean = self.total / self.count
        mean_square = self.square / self.count
        variance = (mean_square - mean * mean).clamp(min=0)
        return mean, variance


def statistics_fit(network: Network, preprocessing: Preprocessing, pictures: Sequence[Picture]) -> Fit | None:
    """The fit of a network in evaluation mode to some pictures, PIL images or uint8 arrays, after `preprocessing`.

    None where the network has no batch normalization. Raises DataError where no picture is given.
    """
    if not pictures:
        raise DataError("no picture to compare the network's statistics with; give one or more")
    counts = torch.stack([preprocessing.pixels(picture) for picture in pictures])
    device = next(network.parameters()).device
    return fit_of_counts(network, preprocessing, counts.to(device))


def fit_of_counts(network: Network, preprocessing: Preprocessing, counts: Tensor) -> Fit | None:
    """As `statistics_fit`, of counts 0-255 (N, C, size, size) in RGB order that are cut to size already."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    if not norms:
        return None
    moments: dict[str, _Moments] = {}
    hooks = []
    for name, norm in norms.items():
        moments[name] = _Moments()
        hooks.append(norm.register_forward_pre_hook(_watching(moments[name])))
    pixels = counts.shape[2] ** 2
    pictures_at_once = max(_PIXELS_AT_ONCE // pixels, 1)
    try:
        with torch.inference_mode():
            for part in torch.split(counts, pictures_at_once):
                network(preprocessing.standardized(part))
    finally:
        for hook in hooks:
            hook.remove()
    layers: list[tuple[str, float]] = []
    for name, norm in norms.items():
        if moments[name].count:  # others are not part of the forward pass
            layers.append((name, _divergence(norm, moments[name])))
    figure = median(layer_figure for _, layer_figure in layers)
    return Fit(figure, tuple(layers), len(counts))


def pictures_for(spec: Spec, *, compared: bool = False) -> int:
    """How many pictures are enough, and not too much work, for one candidate; twice as many for `compared` networks."""
    factor = 2 if compared else 1
    affordable = factor * _WORK / max(_multiplications(spec), 1)
    wanted = max(affordable, factor * _LEAST_PICTURES)
    return int(min(wanted, _MOST_PICTURES))


def is_quick(spec: Spec) -> bool:
    """Whether a candidate takes so little work that many can be tried."""
    if spec.input_size > _SMALL:
        return False
    least_work = _multiplications(spec) * _LEAST_PICTURES
    return least_work <= 2 * _WORK


def _watching(moments: _Moments) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """A hook that counts a layer's input in."""

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG001
        moments.add(inputs[0])

    return watch


def _divergence(norm: nn.BatchNorm2d, moments: _Moments) -> float:
    """The mean of the channels' divergences. A channel whose divergence is no number counts as the worst."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = moments.mean_and_variance()
    stored_mean = norm.running_mean.double().cpu()
    stored_variance = norm.running_var.double().cpu() + norm.eps
    ratio = (variance + norm.eps) / stored_variance
    shift = (mean - stored_mean) ** 2 / stored_variance
    channels = (ratio + shift - 1 - torch.log(ratio)) / 2
    bounded = channels.nan_to_num(_WORST, _WORST, _WORST).clamp(max=_WORST)
    return float(bounded.mean())


@lru_cache(maxsize=64)
def _multiplications(spec: Spec) -> int:
    """The multiplications that one picture takes in all convolutions, counted on a network without values."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001
        assert isinstance(module, nn.Conv2d)
        positions = output.shape[2] * output.shape[3]
        work_per_position = module.weight.numel() + _PASSES * module.out_channels
        counts.append(work_per_position * positions)

    with torch.device("meta"):
        network = spec.build().eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        network(torch.empty(1, spec.in_channels, spec.input_size, spec.input_size))
    return sum(counts)
