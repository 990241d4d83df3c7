"""The part of Caffe's schema that trained classification networks use: src/caffe/proto/caffe.proto of BVLC/caffe.

Each message maps field numbers to names and kinds. A kind is `int`, `bool`, `float`, `text`, one of ENUMERATIONS or one
of MESSAGES. The numbers of a blob, which stay in the file, are of the kinds `float32s`, `float64s` and `raw`. A star
marks repeated fields. A field that is not here is skipped in a binary file and kept as it stands in a text.
"""

from __future__ import annotations

from typing import NamedTuple

ENUMERATIONS: dict[str, dict[int, str]] = {
    "Phase": {0: "TRAIN", 1: "TEST"},
    "PoolMethod": {0: "MAX", 1: "AVE", 2: "STOCHASTIC"},
    "EltwiseOp": {0: "PROD", 1: "SUM", 2: "MAX"},
    "NormRegion": {0: "ACROSS_CHANNELS", 1: "WITHIN_CHANNEL"},
    "LayerType": {
        0: "NONE", 1: "ACCURACY", 2: "BNLL", 3: "CONCAT", 4: "CONVOLUTION", 5: "DATA", 6: "DROPOUT",
        7: "EUCLIDEAN_LOSS", 8: "FLATTEN", 9: "HDF5_DATA", 10: "HDF5_OUTPUT", 11: "IM2COL", 12: "IMAGE_DATA",
        13: "INFOGAIN_LOSS", 14: "INNER_PRODUCT", 15: "LRN", 16: "MULTINOMIAL_LOGISTIC_LOSS", 17: "POOLING",
        18: "RELU", 19: "SIGMOID", 20: "SOFTMAX", 21: "SOFTMAX_LOSS", 22: "SPLIT", 23: "TANH", 24: "WINDOW_DATA",
        25: "ELTWISE", 26: "POWER", 27: "SIGMOID_CROSS_ENTROPY_LOSS", 28: "HINGE_LOSS", 29: "MEMORY_DATA",
        30: "ARGMAX", 31: "THRESHOLD", 32: "DUMMY_DATA", 33: "SLICE", 34: "MVN", 35: "ABSVAL", 36: "SILENCE",
        37: "CONTRASTIVE_LOSS", 38: "EXP", 39: "DECONVOLUTION",
    },
}  # fmt: skip


class SchemaField(NamedTuple):
    """A field of a message: its name, its kind, and whether it may have several values."""

    name: str
    kind: str
    repeated: bool


def _entries(*lines: str) -> dict[int, SchemaField]:
    """The fields of a message by their numbers, from lines like `4 kernel_size int*`."""
    entries = {}
    for line in lines:
        number, name, kind = line.split()
        repeated = kind.endswith("*")
        entries[int(number)] = SchemaField(name, kind.rstrip("*"), repeated)
    return entries


_DATA = ("1 source text", "2 scale float", "3 mean_file text", "4 batch_size int", "5 crop_size int", "6 mirror bool")

MESSAGES: dict[str, dict[int, SchemaField]] = {
    "NetParameter": _entries(
        "1 name text", "2 layers V1LayerParameter*", "3 input text*", "4 input_dim int*", "8 input_shape BlobShape*",
        "100 layer LayerParameter*",
    ),
    "LayerParameter": _entries(
        "1 name text", "2 type text", "3 bottom text*", "4 top text*", "6 param ParamSpec*", "7 blobs BlobProto*",
        "8 include NetStateRule*", "9 exclude NetStateRule*", "10 phase Phase",
        "100 transform_param TransformationParameter", "104 concat_param ConcatParameter",
        "106 convolution_param ConvolutionParameter", "107 data_param DataParameter",
        "108 dropout_param DropoutParameter", "110 eltwise_param EltwiseParameter",
        "115 image_data_param DataParameter", "117 inner_product_param InnerProductParameter",
        "118 lrn_param LRNParameter", "119 memory_data_param MemoryDataParameter",
        "121 pooling_param PoolingParameter", "122 power_param PowerParameter", "123 relu_param ReLUParameter",
        "125 softmax_param SoftmaxParameter", "135 flatten_param FlattenParameter",
        "139 batch_norm_param BatchNormParameter", "141 bias_param BiasParameter", "142 scale_param ScaleParameter",
        "143 input_param InputParameter",
    ),
    "V1LayerParameter": _entries(
        "1 layer V0LayerParameter", "2 bottom text*", "3 top text*", "4 name text", "5 type LayerType",
        "6 blobs BlobProto*", "7 blobs_lr float*", "8 weight_decay float*", "9 concat_param ConcatParameter",
        "10 convolution_param ConvolutionParameter", "11 data_param DataParameter",
        "12 dropout_param DropoutParameter", "15 image_data_param DataParameter",
        "17 inner_product_param InnerProductParameter", "18 lrn_param LRNParameter",
        "19 pooling_param PoolingParameter", "21 power_param PowerParameter",
        "22 memory_data_param MemoryDataParameter", "24 eltwise_param EltwiseParameter", "30 relu_param ReLUParameter",
        "32 include NetStateRule*", "33 exclude NetStateRule*", "36 transform_param TransformationParameter",
        "39 softmax_param SoftmaxParameter", "1001 param text*",
    ),
    "V0LayerParameter": _entries(
        "1 name text", "2 type text", "3 num_output int", "4 biasterm bool", "7 pad int", "8 kernelsize int",
        "9 group int", "10 stride int", "11 pool PoolMethod", "12 dropout_ratio float", "13 local_size int",
        "14 alpha float", "15 beta float", "16 source text", "17 scale float", "18 meanfile text", "19 batchsize int",
        "20 cropsize int", "21 mirror bool", "22 k float", "50 blobs BlobProto*", "51 blobs_lr float*",
        "52 weight_decay float*", "65 concat_dim int",
    ),
    # 10 and 12: numbers in half precision, of OpenCV's shrinkCaffeModel.
    "BlobProto": _entries(
        "1 num int", "2 channels int", "3 height int", "4 width int", "5 data float32s*", "6 diff float32s*",
        "7 shape BlobShape", "8 double_data float64s*", "9 double_diff float64s*", "10 raw_data_type int",
        "12 raw_data raw",
    ),
    "BlobShape": _entries("1 dim int*"),
    "ParamSpec": _entries("1 name text", "3 lr_mult float", "4 decay_mult float"),
    "NetStateRule": _entries("1 phase Phase", "2 min_level int", "3 max_level int", "4 stage text*",
                             "5 not_stage text*"),
    "TransformationParameter": _entries("1 scale float", "2 mirror bool", "3 crop_size int", "4 mean_file text",
                                        "5 mean_value float*"),
    "ConcatParameter": _entries("1 concat_dim int", "2 axis int"),
    "ConvolutionParameter": _entries(
        "1 num_output int", "2 bias_term bool", "3 pad int*", "4 kernel_size int*", "5 group int", "6 stride int*",
        "9 pad_h int", "10 pad_w int", "11 kernel_h int", "12 kernel_w int", "13 stride_h int", "14 stride_w int",
        "16 axis int", "18 dilation int*",
    ),
    "DataParameter": _entries(*_DATA),
    "DropoutParameter": _entries("1 dropout_ratio float"),
    "EltwiseParameter": _entries("1 operation EltwiseOp", "2 coeff float*"),
    "InnerProductParameter": _entries("1 num_output int", "2 bias_term bool", "5 axis int", "6 transpose bool"),
    "LRNParameter": _entries("1 local_size int", "2 alpha float", "3 beta float", "4 norm_region NormRegion",
                             "5 k float"),
    "MemoryDataParameter": _entries("1 batch_size int", "2 channels int", "3 height int", "4 width int"),
    # 13 is left out: round_mode in BVLC's Caffe, whose 1 is floor, and ceil_mode in OpenCV's, whose 1 is ceil.
    "PoolingParameter": _entries(
        "1 pool PoolMethod", "2 kernel_size int", "3 stride int", "4 pad int", "5 kernel_h int", "6 kernel_w int",
        "7 stride_h int", "8 stride_w int", "9 pad_h int", "10 pad_w int", "12 global_pooling bool",
    ),
    "PowerParameter": _entries("1 power float", "2 scale float", "3 shift float"),
    "ReLUParameter": _entries("1 negative_slope float"),
    "SoftmaxParameter": _entries("2 axis int"),
    "FlattenParameter": _entries("1 axis int", "2 end_axis int"),
    "BatchNormParameter": _entries("1 use_global_stats bool", "2 moving_average_fraction float", "3 eps float"),
    "BiasParameter": _entries("1 axis int", "2 num_axes int"),
    "ScaleParameter": _entries("1 axis int", "2 num_axes int", "4 bias_term bool"),
    "InputParameter": _entries("1 shape BlobShape*"),
}  # fmt: skip

# The same by name, for texts and for writing.
NUMBERS: dict[str, dict[str, tuple[int, SchemaField]]] = {
    message: {entry.name: (number, entry) for number, entry in entries.items()} for message, entries in MESSAGES.items()
}
