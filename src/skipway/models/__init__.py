"""Networks: pure torch.nn, no files. The names here are public, so that a network can be composed of their parts."""

from skipway.models.alexnet import AlexNetSpec, Conv, Pool, ResponseNorm
from skipway.models.blocks import Block, Norm, Row, Stem, stage
from skipway.models.catalog import create_model, find_spec, list_models
from skipway.models.highway import Gates, HighwayMLPSpec, HighwaySpec, HighwayStage, conv_unit, dense_unit
from skipway.models.layers import LocalResponseNorm, MaxPool2d, conv2d_same, subsample
from skipway.models.mlp import PlainMLPSpec
from skipway.models.network import Network, Spec
from skipway.models.plain import PlainSpec
from skipway.models.resnet_v1 import BasicV1, BottleneckV1, ResNetV1Spec, UnitsV1, convolutional_block, identity_block
from skipway.models.resnet_v2 import BasicV2, BottleneckV2, ResNetV2Spec, UnitsV2

__all__ = [
    "AlexNetSpec",
    "BasicV1",
    "BasicV2",
    "Block",
    "BottleneckV1",
    "BottleneckV2",
    "Conv",
    "Gates",
    "HighwayMLPSpec",
    "HighwaySpec",
    "HighwayStage",
    "LocalResponseNorm",
    "MaxPool2d",
    "Network",
    "Norm",
    "PlainMLPSpec",
    "PlainSpec",
    "Pool",
    "ResNetV1Spec",
    "ResNetV2Spec",
    "ResponseNorm",
    "Row",
    "Spec",
    "Stem",
    "UnitsV1",
    "UnitsV2",
    "conv2d_same",
    "conv_unit",
    "convolutional_block",
    "create_model",
    "dense_unit",
    "find_spec",
    "identity_block",
    "list_models",
    "stage",
    "subsample",
]
