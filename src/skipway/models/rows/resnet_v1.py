"""ResNet v1: four layouts for ImageNet, one for CIFAR, one for the hand signs."""

from __future__ import annotations

from skipway.models.blocks import Norm, Stem
from skipway.models.resnet_v1 import ResNetV1Spec, ShortcutV1
from skipway.models.rows.depths import CIFAR_STEM, cifar_blocks, imagenet_blocks
from skipway.models.rows.entry import CatalogEntry, Published

PIXEL_MEAN = "pictures standardized by channel; the paper subtracts a mean picture"
PAPER = 'He, Zhang, Ren, Sun 2015, "Deep residual learning for image recognition"'

# ImageNet, ten crops, top-1 and top-5 error in percent (tables 2 and 3; ResNet-18 has no top-5 there).
_REPORTED = {
    18: "27.88 % top-1 error, ten crops (table 2)",
    34: "25.03 % top-1 and 7.76 % top-5 error, ten crops, option A (table 3)",
    50: "22.85 % top-1 and 6.71 % top-5 error, ten crops (table 3)",
    101: "21.75 % top-1 and 6.05 % top-5 error, ten crops (table 3)",
    152: "21.43 % top-1 and 5.71 % top-5 error, ten crops (table 3)",
}

# The authors' Caffe models, one central crop; 18 and 34 were never released.
_CAFFE_PARAMETERS = {18: 11_515_688, 34: 21_623_848, 50: 25_557_096, 101: 44_549_160, 152: 60_192_808}
_CAFFE_ACCURACY = {50: (0.753, 0.922), 101: (0.764, 0.929), 152: (0.770, 0.933)}


_BASIC_DEVIATIONS = (
    "the padded zeros lie half on either side of the channels; the paper does not say where",
    "the max pool is that of the authors' Caffe models, which they released for 50 layers and more",
)
_CAFFE_DEVIATIONS = (
    "Caffe's BatchNorm and Scale are one layer here",
    'the post\'s TensorFlow class pads its stem otherwise: Stem(padding="same", pool="same")',
)


def _original(depth: int) -> CatalogEntry:
    """The row of the paper's own network: 18 and 34 layers from its text, more from the released prototxts."""
    shortcut: ShortcutV1 = "pad"
    source = "the paper, table 1, option A"
    counted_by = "by hand from table 1"
    published: tuple[Published, ...] = ()
    deviations = _BASIC_DEVIATIONS
    if depth >= 50:
        shortcut = "projection"
        source = f"KaimingHe/deep-residual-networks, prototxt/ResNet-{depth}-deploy.prototxt"
        counted_by = "by hand from the prototxt's blobs"
        top1, top5 = _CAFFE_ACCURACY[depth]
        file = f"ResNet-{depth}-model.caffemodel"
        published = (Published(file, top1, top5, "KaimingHe/deep-residual-networks"),)
        deviations = _CAFFE_DEVIATIONS
    return CatalogEntry(
        ResNetV1Spec(
            name=f"resnet_v1_{depth}.original",
            preprocessing="caffe_resnet",
            weight_decay=1e-4,
            year=2015,
            paper=PAPER,
            source=source,
            # Of the three released prototxts only that of 50 layers leaves the first convolution its bias.
            stem=Stem(pool="ceil", bias=depth == 50),
            shortcut=shortcut,
            blocks=imagenet_blocks(depth),
        ),
        section="3.3, table 1; 4.1",
        parameters=_CAFFE_PARAMETERS[depth],
        counted_by=counted_by,
        published=published,
        reported=_REPORTED[depth],
        deviations=(
            *deviations,
            "running statistics are moving averages; the authors averaged over a large batch after training",
        ),
    )


def _weights(file: str, top1: float, top5: float, recipe: str) -> Published:
    """Weights of torchvision."""
    return Published(file, top1, top5, f"torchvision, {recipe}")


_TORCHVISION = {
    18: (11_689_512, (_weights("resnet18-f37072fd.pth", 0.69758, 0.89078, "IMAGENET1K_V1"),)),
    34: (21_797_672, (_weights("resnet34-b627a593.pth", 0.73314, 0.91420, "IMAGENET1K_V1"),)),
    50: (
        25_557_032,
        (
            _weights("resnet50-0676ba61.pth", 0.76130, 0.92862, "IMAGENET1K_V1"),
            _weights("resnet50-11ad3fa6.pth", 0.80858, 0.95434, "IMAGENET1K_V2"),
        ),
    ),
    101: (
        44_549_160,
        (
            _weights("resnet101-63fe2227.pth", 0.77374, 0.93546, "IMAGENET1K_V1"),
            _weights("resnet101-cd907fc2.pth", 0.81886, 0.95780, "IMAGENET1K_V2"),
        ),
    ),
    152: (
        60_192_808,
        (
            _weights("resnet152-394f9c45.pth", 0.78312, 0.94046, "IMAGENET1K_V1"),
            _weights("resnet152-f82ba261.pth", 0.82284, 0.96002, "IMAGENET1K_V2"),
        ),
    ),
}
# With projections 34 layers are the paper's option B; 18 layers it reports with option A only.
_TORCHVISION_REPORTED = {
    **_REPORTED,
    18: "",
    34: "24.52 % top-1 and 7.46 % top-5 error, ten crops, option B (table 3)",
}


def _torchvision(depth: int) -> CatalogEntry:
    """The row of torchvision's network."""
    parameters, published = _TORCHVISION[depth]
    deviations = ["projections (option B), where the paper's table 2 pads (option A)"]
    if depth >= 50:
        deviations = ['the stride sits in the 3x3 ("v1.5"), the paper\'s in the first 1x1']
    deviations.append("max pool with one pixel of padding on every side")
    if depth >= 50:
        deviations.append("the accuracies of IMAGENET1K_V2 are those of 224 pixels cut from 232")
    return CatalogEntry(
        ResNetV1Spec(
            name=f"resnet_v1_{depth}.torchvision",
            preprocessing="torch",
            initialization="torchvision",
            weight_decay=1e-4,
            year=2015,
            paper=PAPER,
            source=f"torchvision/models/resnet.py, resnet{depth}",
            stride_in="middle",
            blocks=imagenet_blocks(depth),
        ),
        section="3.3, table 1",
        parameters=parameters,
        counted_by=f"torchvision, num_params of ResNet{depth}_Weights",
        published=published,
        reported=_TORCHVISION_REPORTED[depth],
        deviations=tuple(deviations),
    )


_KERAS = {
    50: (25_583_592, 0.749, 0.921),
    101: (44_601_832, 0.764, 0.928),
    152: (60_268_520, 0.766, 0.931),
}


def _keras(depth: int) -> CatalogEntry:
    """The row of Keras's network."""
    parameters, top1, top5 = _KERAS[depth]
    file = f"resnet{depth}_weights_tf_dim_ordering_tf_kernels.h5"
    return CatalogEntry(
        ResNetV1Spec(
            name=f"resnet_v1_{depth}.keras",
            preprocessing="keras_caffe",
            initialization="glorot_uniform",
            year=2015,
            paper=PAPER,
            source=f"keras/applications/resnet.py, ResNet{depth}",
            conv_bias=True,
            norm=Norm(eps=1.001e-5, momentum=0.01),
            stem=Stem(bias=True),
            blocks=imagenet_blocks(depth),
        ),
        section="3.3, table 1",
        parameters=parameters,
        counted_by=f"Keras 2.15, trainable weights of ResNet{depth}",
        published=(Published(file, top1, top5, "Keras applications"),),
        reported=_REPORTED[depth],
        deviations=(
            "biases before every normalization",
            "epsilon of 1.001e-5, decay of 0.99",
            "max pool with one pixel of padding on every side",
        ),
    )


_SLIM = {
    50: (25_557_032, 0.752, 0.922),
    101: (44_549_160, 0.764, 0.929),
    152: (60_192_808, 0.768, 0.932),
    200: (64_673_832, None, None),
}


def _slim(depth: int) -> CatalogEntry:
    """The row of TF-Slim's network; of 200 layers it has no public weights."""
    parameters, top1, top5 = _SLIM[depth]
    published: tuple[Published, ...] = ()
    if top1 is not None:
        file = f"resnet_v1_{depth}_2016_08_28.tar.gz"
        published = (Published(file, top1, top5, "TF-Slim"),)
    return CatalogEntry(
        ResNetV1Spec(
            name=f"resnet_v1_{depth}.slim",
            preprocessing="slim_v1",
            initialization="slim",
            weight_decay=1e-4,
            year=2015,
            paper=PAPER,
            source=f"TF-Slim, nets/resnet_v1.py, resnet_v1_{depth}",
            stride_in="middle",
            norm=Norm(eps=1e-5, momentum=0.003),
            stem=Stem(pool="same"),
            blocks=imagenet_blocks(depth, strided_unit="last"),
        ),
        section="3.3, table 1",
        parameters=parameters,
        counted_by=f"tf_slim 1.1, trainable variables of resnet_v1_{depth}",
        published=published,
        reported=_REPORTED.get(depth, ""),
        deviations=(
            "the stride sits in the 3x3 of a stage's last unit, the paper's in the first 1x1 of the first",
            "TensorFlow's SAME padding in the max pool",
            "decay of 0.997",
        ),
    )


# CIFAR-10 test error in percent (table 6), and the accuracy of public weights in the same layout.
_CIFAR = {
    20: (269_722, "8.75 % error (table 6)", "resnet20-12fca82f.th", 0.9173),
    32: (464_154, "7.51 % error (table 6)", "resnet32-d509ac18.th", 0.9263),
    44: (658_586, "7.17 % error (table 6)", "resnet44-014dd654.th", 0.9310),
    56: (853_018, "6.97 % error (table 6)", "resnet56-4bfd9763.th", 0.9339),
    110: (1_727_962, "6.43 % error, 6.61 +- 0.16 over five runs (table 6)", "resnet110-1d1ed7c2.th", 0.9368),
}


def _cifar(depth: int) -> CatalogEntry:
    """The row of the paper's network for CIFAR-10."""
    parameters, reported, file, top1 = _CIFAR[depth]
    return CatalogEntry(
        ResNetV1Spec(
            name=f"resnet_v1_{depth}.cifar",
            num_classes=10,
            input_size=32,
            preprocessing="cifar",
            weight_decay=1e-4,
            year=2015,
            paper=PAPER,
            source="the paper, section 4.2, option A",
            shortcut="pad",
            stem=CIFAR_STEM,
            blocks=cifar_blocks(depth),
        ),
        section="4.2",
        parameters=parameters,
        counted_by="by hand from section 4.2; table 6 rounds it",
        published=(Published(file, top1, None, "akamaster/pytorch_resnet_cifar10"),),
        reported=reported,
        deviations=(
            "the padded zeros lie half on either side of the channels; the paper does not say where",
            PIXEL_MEAN,
            "the public weights were trained with means of .485 .456 .406 and deviations of .229 .224 .225",
        ),
    )


SIGNS = CatalogEntry(
    ResNetV1Spec(
        name="resnet_v1_50.signs",
        num_classes=6,
        input_size=64,
        preprocessing="signs",
        initialization="keras_signs",
        year=2017,
        paper=PAPER,
        source="deeplearning.ai's hand-signs ResNet50 in Keras (identity_block, convolutional_block)",
        conv_bias=True,
        norm=Norm(eps=1e-3, momentum=0.01),
        stem=Stem(pool="valid", bias=True),
        head="average_2_flatten",
        blocks=imagenet_blocks(50),
    ),
    section="3.3, table 1",
    parameters=23_546_886,
    counted_by="Keras, trainable weights of the code's model",
    deviations=(
        "biases before every normalization; epsilon of 1e-3, decay of 0.99",
        "max pool without padding; 2x2 average pool, then a dense layer on the flattened map",
        "the code gives every layer the seed 0, so that kernels of one shape start equal; ours are drawn one by one",
        "its blocks, but not its stem, normalize with batch statistics in evaluation, too, ours with running ones",
    ),
)

ENTRIES = (
    *(_original(depth) for depth in _CAFFE_PARAMETERS),
    *(_torchvision(depth) for depth in _TORCHVISION),
    *(_keras(depth) for depth in _KERAS),
    *(_slim(depth) for depth in _SLIM),
    *(_cifar(depth) for depth in _CIFAR),
    SIGNS,
)
