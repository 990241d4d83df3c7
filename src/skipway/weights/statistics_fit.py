"""How well a network's own statistics fit what it is given: a witness of how it was built and what it was trained on.

A batch normalization stores the mean and the variance that its input had in training, channel by channel. Fed with
pictures as in training, prepared as in training, through the network as it was, its input has them again; where a
shortcut puts its channels elsewhere, a stride is another or the counts are scaled otherwise, it has not.

What is compared, at each normalization: N(m, v) of the batch with N(m', v') as stored, by the divergence of the first
from the second, (v / v' + (m - m')^2 / v' - 1 - ln(v / v')) / 2, with the layer's epsilon in both variances. The mean
over the channels is the layer's figure, the median over the layers the network's: 0 is a perfect fit. Pictures other
than those of the training raise it, to some hundredths for natural photographs and a network of CIFAR-10. What changes
no mean and no variance leaves it alone: docs/weights.md says what it sees and what it does not.
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
POOR = 0.15  # from here on a figure speaks for nothing: the right ones had 0.015 to 0.07
# As for preparations: other means and deviations were 0.8 to 1.5 times as bad, other scales and centres 3.5 and more.
CLOSE = 2.0

CONVENTIONS = ("unit", "counts", "keras_tf", "imagenet_statistics", "cifar", "cifar_mean", "keras_caffe")

_PIXELS_AT_ONCE = 2**18  # in a pass: five pictures of 224 pixels, so that large networks take little memory
_WORST = 100.0  # of one channel: a dead one, stored with a variance near 0, would outweigh all others

# Multiplications that one candidate may take, and between how many pictures that is; twice as many where networks are
# compared. Three draws of 32 crops gave the same decisions as three of 96, with figures up to 40 % higher; with 16, the
# figures of one network varied twofold, in all its candidates alike.
_WORK = 5e9
_LEAST_PICTURES, _MOST_PICTURES = 8, 32
_SMALL = 96  # pixels a side; the sources of networks for larger pictures have conventions, by their names
_PASSES = 500  # multiplications that a number of a map is worth, for it is also normalized, rectified and measured


@dataclass(frozen=True)
class Fit:
    """`figure`, the median of `layers`, each a normalization's name and its figure; from how many `pictures`."""

    figure: float
    layers: tuple[tuple[str, float], ...]
    pictures: int


@dataclass
class _Moments:
    """Mean and mean square of each channel over all that has been seen, float64."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    square: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, x: Tensor) -> None:
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        mean, variance = mean.double().cpu(), variance.double().cpu()
        number = x.shape[0] * x.shape[2] * x.shape[3]
        self.count += number
        self.total = self.total + number * mean
        self.square = self.square + number * (variance + mean * mean)

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        mean = self.total / self.count
        return mean, (self.square / self.count - mean * mean).clamp(min=0)


def statistics_fit(network: Network, preprocessing: Preprocessing, pictures: Sequence[Picture]) -> Fit | None:
    """The fit of a network in evaluation mode to some pictures, PIL images or uint8 arrays, prepared as stated.

    None where the network has no batch normalization. Raises DataError without pictures.
    """
    if not pictures:
        raise DataError("no picture to compare the network's statistics with; give one or more")
    counts = [preprocessing.pixels(picture) for picture in pictures]
    device = next(network.parameters()).device
    return fit_of_counts(network, preprocessing, torch.stack(counts).to(device))


def fit_of_counts(network: Network, preprocessing: Preprocessing, counts: Tensor) -> Fit | None:
    """As `statistics_fit`, of counts 0-255 (N, C, size, size) in RGB order that are cut to size already."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    if not norms:
        return None
    moments = {name: _Moments() for name in norms}
    hooks = [norm.register_forward_pre_hook(_watching(moments[name])) for name, norm in norms.items()]
    try:
        with torch.inference_mode():
            for part in torch.split(counts, max(_PIXELS_AT_ONCE // counts.shape[2] ** 2, 1)):
                network(preprocessing.standardized(part))
    finally:
        for hook in hooks:
            hook.remove()
    layers = tuple((name, _divergence(norm, moments[name])) for name, norm in norms.items() if moments[name].count)
    return Fit(median(figure for _, figure in layers), layers, len(counts))


def pictures_for(spec: Spec, *, compared: bool = False) -> int:
    """How many pictures are enough, and not too much work, for one candidate; `compared` with other networks."""
    more = 2 if compared else 1
    wanted = more * _WORK / max(_multiplications(spec), 1)
    return int(min(max(wanted, more * _LEAST_PICTURES), _MOST_PICTURES))


def is_quick(spec: Spec) -> bool:
    """Whether a candidate takes so little work that many can be tried."""
    return spec.input_size <= _SMALL and _multiplications(spec) * _LEAST_PICTURES <= 2 * _WORK


def _watching(moments: _Moments) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG001
        moments.add(inputs[0])

    return watch


def _divergence(norm: nn.BatchNorm2d, moments: _Moments) -> float:
    """The mean over the channels; one that is no number counts as the worst."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = moments.mean_and_variance()
    stored_mean, stored_variance = norm.running_mean.double().cpu(), norm.running_var.double().cpu() + norm.eps
    ratio = (variance + norm.eps) / stored_variance
    shift = (mean - stored_mean) ** 2 / stored_variance
    channels = (ratio + shift - 1 - torch.log(ratio)) / 2
    return float(channels.nan_to_num(_WORST, _WORST, _WORST).clamp(max=_WORST).mean())


@lru_cache(maxsize=64)
def _multiplications(spec: Spec) -> int:
    """What one picture takes in all convolutions, counted on a network without numbers."""
    done = [0]

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG001
        assert isinstance(module, nn.Conv2d)
        done[0] += (module.weight.numel() + _PASSES * module.out_channels) * output.shape[2] * output.shape[3]

    with torch.device("meta"):
        network = spec.build().eval()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        network(torch.empty(1, spec.in_channels, spec.input_size, spec.input_size))
    return done[0]
