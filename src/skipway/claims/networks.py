"""Small AlexNets for pictures of 32 pixels, on which its claims run.

The paper tells little of its CIFAR-10 networks: four layers (caption of figure 1; section 3.3). Ours has three 5x5
convolutions of 32, 32 and 64 maps, each followed by a max pool, and a classifier, as the author's own CIFAR-10 networks
do (cuda-convnet, example-layers/layers-18pct.cfg, where the later pools average). The deeper one has AlexNet's eight
layers and the places of its pools.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from skipway.claims.arm import Budget
from skipway.models.alexnet import After, AlexNetSpec, Conv, Pool, ResponseNorm

PAPER = 'Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional neural networks"'
# The paper's k = 2, n = 5, alpha = 1e-4, beta = 0.75 (section 3.3); its alpha is not divided by the window, ours is.
PAPER_NORM = ResponseNorm(size=5, alpha=5e-4, beta=0.75, k=2.0)


def pace(budget: Budget) -> dict[str, Any]:
    """Batch size and rate at which the network of four layers learns: cuda-convnet's own, and what serves small data
    (docs/log.md has the search).
    """
    if budget == "quick":
        return {"batch_size": 32, "learning_rate": 2e-4}
    return {"batch_size": 128, "learning_rate": 1e-3}


def four_layers(after: tuple[After, ...] = ("pool",)) -> AlexNetSpec:
    """Three convolutions and the classifier; `after` follows the first two, a pool the third."""
    return AlexNetSpec(
        name="alexnet_4.cifar",
        num_classes=10,
        input_size=32,
        preprocessing="cifar_mean",
        initialization="cuda_convnet",
        year=2012,
        paper=PAPER,
        source="section 3.3 and figure 1, after cuda-convnet's layers-18pct.cfg",
        convs=(
            Conv(32, 5, padding=2, after=after),
            Conv(32, 5, padding=2, after=after),
            Conv(64, 5, padding=2, after=("pool",)),
        ),
        hidden=(),
        pool=Pool(3, 2, "same"),
        norm=PAPER_NORM,
        fc_dropout="none",
    )


def eight_layers(widths: tuple[int, int, int, int, int] = (32, 64, 64, 64, 64)) -> AlexNetSpec:
    """Five convolutions of these widths, normalization and pools where AlexNet has them, two hidden layers, the
    classifier.
    """
    first, second, third, fourth, fifth = widths
    return AlexNetSpec(
        name="alexnet_8.cifar",
        num_classes=10,
        input_size=32,
        preprocessing="cifar",
        initialization="glorot_uniform",
        year=2012,
        paper=PAPER,
        source="section 3.5, scaled to pictures of 32 pixels",
        convs=(
            Conv(first, 5, padding=2, after=("norm", "pool")),
            Conv(second, 3, padding=1, after=("norm", "pool")),
            Conv(third, 3, padding=1),
            Conv(fourth, 3, padding=1),
            Conv(fifth, 3, padding=1, after=("pool",)),
        ),
        hidden=(256, 256),
        pool=Pool(3, 2, "same"),
        norm=PAPER_NORM,
    )


def without_conv(spec: AlexNetSpec, number: int) -> AlexNetSpec:
    """The network without its convolution `number` (from 1), in which every map keeps its size.

    What followed the convolution moves to the next one that has nothing after it, or to the one before where there is
    none.
    """
    rows = list(spec.convs)
    removed = rows.pop(number - 1)
    if removed.after:
        later = range(number - 1, len(rows))
        earlier = reversed(range(number - 1))
        free = [place for place in (*later, *earlier) if not rows[place].after]
        rows[free[0]] = dataclasses.replace(rows[free[0]], after=removed.after)
    return spec.replaced({"name": f"{spec.name}-without-conv{number}", "convs": tuple(rows)})
