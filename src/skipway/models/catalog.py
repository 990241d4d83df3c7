"""The one table of networks: a name, and the frozen spec behind it."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from skipway.errors import ModelFileError, SkipwayError, UnknownNameError
from skipway.models.alexnet import AlexNetSpec, Conv, Pool, ResponseNorm
from skipway.models.blocks import Norm, Stem, stage
from skipway.models.network import Network, Spec
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec
from skipway.values import from_plain

ALEXNET = 'Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional neural networks"'
RESNET_V1 = 'He, Zhang, Ren, Sun 2015, "Deep residual learning for image recognition"'
RESNET_V2 = 'He, Zhang, Ren, Sun 2016, "Identity mappings in deep residual networks"'

SPECS: tuple[Spec, ...] = (
    AlexNetSpec(
        name="alexnet.caffe",
        input_size=227,
        preprocessing="caffe",
        initialization="caffe_alexnet",
        year=2012,
        paper=ALEXNET,
        source="BVLC Caffe, models/bvlc_alexnet/deploy.prototxt",
        convs=(
            Conv(96, 11, stride=4, after=("norm", "pool")),
            Conv(256, 5, padding=2, groups=2, after=("norm", "pool")),
            Conv(384, 3, padding=1),
            Conv(384, 3, padding=1, groups=2),
            Conv(256, 3, padding=1, groups=2, after=("pool",)),
        ),
        pool=Pool(3, 2, "ceil"),
    ),
    AlexNetSpec(
        name="alexnet.mnist",
        num_classes=10,
        in_channels=1,
        input_size=28,
        preprocessing="unit",
        initialization="normal_1",
        year=2015,
        paper=ALEXNET,
        source="the MNIST AlexNet of the TensorFlow-Examples tutorials",
        convs=tuple(Conv(depth, 3, padding=1, after=("pool", "norm", "dropout")) for depth in (64, 128, 256)),
        hidden=(1024, 1024),
        pool=Pool(2, 2, "same"),
        # depth_radius 4 is a window of 9; TensorFlow's alpha 0.001 / 9 is not divided by it, ours is.
        norm=ResponseNorm(size=9, alpha=0.001, beta=0.75, k=1.0),
        dropout=0.2,
        fc_dropout="none",
    ),
    ResNetV1Spec(
        name="resnet_v1_18.torchvision",
        preprocessing="torch",
        initialization="torchvision",
        year=2015,
        paper=RESNET_V1,
        source="torchvision/models/resnet.py, resnet18",
        stride_in="middle",
        blocks=(
            stage("stage1", "basic", 64, 2, stride=1),
            stage("stage2", "basic", 128, 2, stride=2),
            stage("stage3", "basic", 256, 2, stride=2),
            stage("stage4", "basic", 512, 2, stride=2),
        ),
    ),
    ResNetV1Spec(
        name="resnet_v1_20.cifar",
        num_classes=10,
        input_size=32,
        preprocessing="cifar",
        year=2015,
        paper=RESNET_V1,
        source="the paper, section 4.2",
        shortcut="pad",
        stem=Stem(kernel=3, stride=1, width=16, pool=None),
        blocks=(
            stage("stage1", "basic", 16, 3, stride=1),
            stage("stage2", "basic", 32, 3, stride=2),
            stage("stage3", "basic", 64, 3, stride=2),
        ),
    ),
    ResNetV1Spec(
        name="resnet_v1_50.signs",
        num_classes=6,
        input_size=64,
        preprocessing="unit",
        initialization="keras_signs",
        year=2017,
        paper=RESNET_V1,
        source="deeplearning.ai's hand-signs ResNet50 in Keras (identity_block, convolutional_block)",
        conv_bias=True,
        norm=Norm(eps=1e-3, momentum=0.01),
        stem=Stem(pool="valid"),
        head="average_2_flatten",
        blocks=(
            stage("stage1", "bottleneck", 64, 3, stride=1),
            stage("stage2", "bottleneck", 128, 4, stride=2),
            stage("stage3", "bottleneck", 256, 6, stride=2),
            stage("stage4", "bottleneck", 512, 3, stride=2),
        ),
    ),
    ResNetV2Spec(
        name="resnet_v2_50.slim",
        preprocessing="slim_v2",
        initialization="slim",
        year=2016,
        paper=RESNET_V2,
        source="TF-Slim, nets/resnet_v2.py, resnet_v2_50",
        norm=Norm(eps=1e-5, momentum=0.003),
        stem=Stem(pool="same", bias=True),
        blocks=(
            stage("stage1", "bottleneck", 64, 3, stride=2, stride_in="last"),
            stage("stage2", "bottleneck", 128, 4, stride=2, stride_in="last"),
            stage("stage3", "bottleneck", 256, 6, stride=2, stride_in="last"),
            stage("stage4", "bottleneck", 512, 3, stride=1, stride_in="last"),
        ),
    ),
)

# A bare architecture means its default layout.
ALIASES = {
    "alexnet": "alexnet.caffe",
    "resnet_v1_18": "resnet_v1_18.torchvision",
    "resnet_v1_20": "resnet_v1_20.cifar",
    "resnet_v1_50": "resnet_v1_50.signs",
    "resnet_v2_50": "resnet_v2_50.slim",
}

CATALOG: dict[str, Spec] = {spec.name: spec for spec in SPECS}
if len(CATALOG) != len(SPECS):
    raise RuntimeError("two rows of the catalog share a name")

ARCHITECTURES: dict[str, type[Spec]] = {kind.architecture: kind for kind in (AlexNetSpec, ResNetV1Spec, ResNetV2Spec)}


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, sorted: `list_models("resnet_v1_*")`."""
    return sorted(fnmatch.filter(CATALOG, pattern))


def find_spec(name: str) -> Spec:
    """The row of that name, or of the default layout of a bare architecture. Raises UnknownNameError."""
    row = CATALOG.get(ALIASES.get(name, name))
    if row is None:
        raise UnknownNameError("model", name, [*CATALOG, *ALIASES], hint="`skipway models` lists all")
    return row


def create_model(name: str, **fields: Any) -> Network:
    """The named network with freshly drawn weights; `fields` change fields of its spec (`num_classes=6`).

    Raises UnknownNameError for an unknown name or field and SpecError for a network that cannot exist.
    """
    return find_spec(name).replaced(fields).build()


def spec_from_dict(plain: Mapping[str, Any]) -> Spec:
    """The inverse of `Spec.to_dict`, for headers of model files. Raises ModelFileError."""
    fields = dict(plain)
    architecture = fields.pop("architecture", None)
    if architecture not in ARCHITECTURES:
        raise ModelFileError(f"architecture '{architecture}' is not one that this version of skipway knows; update it")
    try:
        return from_plain(ARCHITECTURES[architecture], fields, f"the spec of {architecture}")
    except SkipwayError as error:
        raise ModelFileError(str(error)) from None
