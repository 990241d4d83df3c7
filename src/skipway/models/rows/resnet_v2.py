"""ResNet v2: three layouts for ImageNet, one for CIFAR."""

from __future__ import annotations

from skipway.models.blocks import Norm, Pad, Shortcut, Stem
from skipway.models.network import Convention
from skipway.models.resnet_v2 import ResNetV2Spec
from skipway.models.rows.depths import CIFAR_STEM, cifar_blocks, imagenet_blocks
from skipway.models.rows.entry import CatalogEntry, Published

PAPER = 'He, Zhang, Ren, Sun 2016, "Identity mappings in deep residual networks"'

_REPORTED = {
    152: "21.1 % top-1 and 5.5 % top-5 error, one crop of 320 (table 5)",
    200: "20.7 % top-1 and 5.3 % top-5 error, one crop of 320 (table 5)",
}

_SLIM = {
    50: (25_570_409, 0.756, 0.928),
    101: (44_579_945, 0.770, 0.937),
    152: (60_238_953, 0.778, 0.941),
    200: (64_728_169, None, None),
}


def _slim(depth: int) -> CatalogEntry:
    """The row of TF-Slim's network; of 200 layers it has no public weights."""
    parameters, top1, top5 = _SLIM[depth]
    published: tuple[Published, ...] = ()
    if top1 is not None:
        file = f"resnet_v2_{depth}_2017_04_14.tar.gz"
        published = (Published(file, top1, top5, "TF-Slim, 299 pixels"),)
    return CatalogEntry(
        ResNetV2Spec(
            name=f"resnet_v2_{depth}.slim",
            num_classes=1001,  # class 0 is the background
            preprocessing="slim_v2",
            initialization="slim",
            weight_decay=1e-4,
            year=2016,
            paper=PAPER,
            source=f"TF-Slim, nets/resnet_v2.py, resnet_v2_{depth}",
            norm=Norm(eps=1e-5, momentum=0.003),
            stem=Stem(pool="same", bias=True),
            blocks=imagenet_blocks(depth, strided_unit="last"),
        ),
        section="2, figure 1b; 4",
        parameters=parameters,
        counted_by=f"tf_slim 1.1, trainable variables of resnet_v2_{depth} with 1,001 classes",
        published=published,
        reported=_REPORTED.get(depth, ""),
        deviations=(
            "the stride sits in the 3x3 of a stage's last unit",
            "the stem is not activated before the first unit splits",
            "biases in the stem, the projections and each unit's last convolution",
            "TensorFlow's SAME padding in the max pool",
            "decay of 0.997",
        ),
    )


_KERAS = {50: (25_568_360, 0.760, 0.930), 101: (44_577_896, 0.772, 0.938), 152: (60_236_904, 0.780, 0.942)}


def _keras(depth: int) -> CatalogEntry:
    """The row of Keras's network."""
    parameters, top1, top5 = _KERAS[depth]
    file = f"resnet{depth}v2_weights_tf_dim_ordering_tf_kernels.h5"
    return CatalogEntry(
        ResNetV2Spec(
            name=f"resnet_v2_{depth}.keras",
            preprocessing="keras_tf",
            initialization="glorot_uniform",
            year=2016,
            paper=PAPER,
            source=f"keras/applications/resnet_v2.py, ResNet{depth}V2",
            norm=Norm(eps=1.001e-5, momentum=0.01),
            stem=Stem(pool="zeros", bias=True),
            blocks=imagenet_blocks(depth, strided_unit="last"),
        ),
        section="2, figure 1b; 4",
        parameters=parameters,
        counted_by=f"Keras 2.15, trainable weights of ResNet{depth}V2",
        published=(Published(file, top1, top5, "Keras applications"),),
        reported=_REPORTED.get(depth, ""),
        deviations=(
            "the stride sits in the 3x3 of a stage's last unit",
            "the stem is not activated before the first unit splits, and padded with zeros before its max pool",
            "biases in the stem, the projections and each unit's last convolution",
            "epsilon of 1.001e-5, decay of 0.99",
        ),
    )


_TIMM: dict[int, tuple[int, str, float | None, float | None]] = {
    18: (11_687_720, "resnetv2_18.ra4_e3600_r224_in1k", None, None),
    34: (21_795_880, "resnetv2_34.ra4_e3600_r224_in1k", None, None),
    50: (25_549_352, "resnetv2_50.a1h_in1k", 0.81398, 0.95726),
    101: (44_541_480, "resnetv2_101.a1h_in1k", 0.83002, 0.96454),
    152: (60_185_128, "", None, None),
}


def _timm(depth: int) -> CatalogEntry:
    """The row of timm's network; of 152 layers it has no public weights."""
    parameters, file, top1, top5 = _TIMM[depth]
    published: tuple[Published, ...] = ()
    if file:
        published = (Published(file, top1, top5, "timm, 288 pixels"),)
    preprocessing: Convention = "timm_95"
    deviations = [
        "the stride sits in the 3x3 of a stage's first unit",
        "the stem is not activated before the first unit splits",
    ]
    if depth < 50:
        preprocessing = "timm_90"
        deviations.append("basic units, which the paper has for CIFAR only")
    return CatalogEntry(
        ResNetV2Spec(
            name=f"resnet_v2_{depth}.timm",
            preprocessing=preprocessing,
            initialization="timm",
            year=2016,
            paper=PAPER,
            source=f"timm/models/resnetv2.py, resnetv2_{depth}",
            open_bias=False,
            blocks=imagenet_blocks(depth),
        ),
        section="2, figure 1b",
        parameters=parameters,
        counted_by=f"timm 1.0.31, parameters of resnetv2_{depth}",
        published=published,
        reported=_REPORTED.get(depth, ""),
        deviations=tuple(deviations),
    )


_CIFAR = {
    20: (269_722, ""),
    56: (853_018, ""),
    110: (1_727_962, "6.37 % error (table 3)"),
    164: (1_703_258, "5.46 % error (table 3)"),
    1001: (10_327_706, "4.92 % error, 4.62 % with batches of 64 (tables 3 and 4)"),
}


def _cifar(depth: int) -> CatalogEntry:
    """The row of the authors' network for CIFAR-10: up to 110 layers of basic units, above of bottlenecks."""
    parameters, reported = _CIFAR[depth]
    source = "KaimingHe/resnet-1k-layers, resnet-pre-act.lua"
    shortcut: Shortcut = "projection"
    pad: Pad = "both"
    if depth < 164:
        source = "fb.resnet.torch, models/preresnet.lua, option A"
        shortcut = "pad"
        pad = "after"
    return CatalogEntry(
        ResNetV2Spec(
            name=f"resnet_v2_{depth}.cifar",
            num_classes=10,
            input_size=32,
            preprocessing="cifar",
            weight_decay=1e-4,
            year=2016,
            paper=PAPER,
            source=source,
            shortcut=shortcut,
            pad=pad,
            first_shortcut="shared",
            stride_in="first",
            open_bias=False,
            stem=CIFAR_STEM,
            blocks=cifar_blocks(depth),
        ),
        section="3, table 3; appendix",
        parameters=parameters,
        counted_by="by hand from the code's shapes",
        reported=reported,
        deviations=("He initialization by the fan-in, the code's by the fan-out",),
    )


ENTRIES = (
    *(_slim(depth) for depth in _SLIM),
    *(_keras(depth) for depth in _KERAS),
    *(_timm(depth) for depth in _TIMM),
    *(_cifar(depth) for depth in _CIFAR),
)
