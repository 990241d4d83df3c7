"""Plain nets: the residual networks' columns without shortcuts, and fully connected ones of any depth."""

from __future__ import annotations

from skipway.models.blocks import Stem
from skipway.models.mlp import PlainMLPSpec
from skipway.models.plain import PlainSpec
from skipway.models.rows.depths import CIFAR_STEM, cifar_blocks, imagenet_blocks
from skipway.models.rows.entry import CatalogEntry
from skipway.models.rows.highway import PAPER as HIGHWAY_PAPER
from skipway.models.rows.resnet_v1 import PAPER, PIXEL_MEAN

_IMAGENET = {
    18: (11_515_688, "27.94 % top-1 error, ten crops (table 2)"),
    34: (21_623_848, "28.54 % top-1 and 10.02 % top-5 error, ten crops (tables 2 and 3)"),
}


def _imagenet(depth: int) -> CatalogEntry:
    """The row of a network for ImageNet."""
    parameters, reported = _IMAGENET[depth]
    return CatalogEntry(
        PlainSpec(
            name=f"plain_{depth}",
            preprocessing="caffe_resnet",
            weight_decay=1e-4,
            year=2015,
            paper=PAPER,
            source="the paper, table 1 without shortcuts",
            stem=Stem(pool="ceil"),
            blocks=imagenet_blocks(depth),
        ),
        section="3.3, figure 3; 4.1",
        parameters=parameters,
        counted_by="by hand from table 1",
        reported=reported,
        deviations=("the max pool is that of the authors' Caffe models; the paper does not say how it pads",),
    )


_CIFAR = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}


def _cifar(depth: int) -> CatalogEntry:
    """The row of a network for CIFAR-10."""
    return CatalogEntry(
        PlainSpec(
            name=f"plain_{depth}.cifar",
            num_classes=10,
            input_size=32,
            preprocessing="cifar",
            weight_decay=1e-4,
            year=2015,
            paper=PAPER,
            source="the paper, section 4.2",
            stem=CIFAR_STEM,
            blocks=cifar_blocks(depth),
        ),
        section="4.2, figure 6",
        parameters=_CIFAR[depth],
        counted_by="by hand from section 4.2: that of the residual network with option A",
        reported="a curve only (figure 6)",
        deviations=(PIXEL_MEAN,),
    )


def plain_mlp(layers: int) -> CatalogEntry:
    """The plain net of the highway networks' section 3.1, with any number of layers before its classifier."""
    first = 784 * 71 + 71
    unit = 71 * 71 + 71
    classifier = 71 * 10 + 10
    return CatalogEntry(
        PlainMLPSpec(
            name=f"plain_mlp_{layers}",
            num_classes=10,
            in_channels=1,
            input_size=28,
            preprocessing="unit",
            year=2015,
            paper=HIGHWAY_PAPER,
            source="the paper, section 3.1 (MNIST)",
            layers=layers,
        ),
        section="3.1, figure 1",
        parameters=first + (layers - 1) * unit + classifier,
        counted_by="by hand from section 3.1",
        reported="a curve of the training loss only (figure 1)",
        deviations=(
            "the paper searched the activation (ReLU or tanh) at random and does not print what won; ours is ReLU",
        ),
    )


ENTRIES = (
    *(_imagenet(depth) for depth in _IMAGENET),
    *(_cifar(depth) for depth in _CIFAR),
    *(plain_mlp(layers) for layers in (10, 20, 50, 100)),
)
