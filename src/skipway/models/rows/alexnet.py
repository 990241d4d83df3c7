"""AlexNet five ways."""

from __future__ import annotations

from skipway.models.alexnet import After, AlexNetSpec, Conv, Pool, ResponseNorm
from skipway.models.rows.entry import CatalogEntry, Published

PAPER = 'Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional neural networks"'
ONE_WEIRD_TRICK = 'Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks"'


def _two_towers(first: After, second: After) -> tuple[Conv, ...]:
    """The paper's five convolutions; where its two GPUs did not talk, groups of 2."""
    return (
        Conv(96, 11, stride=4, after=(first, second)),
        Conv(256, 5, padding=2, groups=2, after=(first, second)),
        Conv(384, 3, padding=1),
        Conv(384, 3, padding=1, groups=2),
        Conv(256, 3, padding=1, groups=2, after=("pool",)),
    )


_REPORTED = "37.5 % top-1 and 17.0 % top-5 error on the test pictures of ILSVRC 2010 (abstract)"
_CAFFE_DEVIATIONS = (
    "the paper normalizes with k = 2 and an alpha of 1e-4 that is not divided by the window of 5; Caffe with k = 1 and "
    "a divided one",
    "the paper says 224 pixels; its first convolution fits 227",
)

ENTRIES = (
    CatalogEntry(
        AlexNetSpec(
            name="alexnet.caffe",
            input_size=227,
            preprocessing="caffe",
            initialization="caffe_alexnet",
            weight_decay=5e-4,
            year=2012,
            paper=PAPER,
            source="BVLC Caffe, models/bvlc_alexnet/deploy.prototxt",
            convs=_two_towers("norm", "pool"),
            pool=Pool(3, 2, "ceil"),
        ),
        section="3.5, figure 2",
        parameters=60_965_224,
        counted_by="by hand from the prototxt's blobs",
        reported=_REPORTED,
        published=(Published("bvlc_alexnet.caffemodel", 0.571, 0.802, "BVLC model zoo"),),
        deviations=_CAFFE_DEVIATIONS,
    ),
    CatalogEntry(
        AlexNetSpec(
            name="alexnet.caffenet",
            input_size=227,
            preprocessing="caffe",
            initialization="caffenet",
            weight_decay=5e-4,
            year=2012,
            paper=PAPER,
            source="BVLC Caffe, models/bvlc_reference_caffenet/deploy.prototxt",
            convs=_two_towers("pool", "norm"),
            pool=Pool(3, 2, "ceil"),
        ),
        section="3.5, figure 2",
        parameters=60_965_224,
        counted_by="by hand from the prototxt's blobs",
        reported=_REPORTED,
        published=(Published("bvlc_reference_caffenet.caffemodel", 0.574, 0.804, "BVLC model zoo"),),
        deviations=("pools before it normalizes, the paper after", *_CAFFE_DEVIATIONS),
    ),
    CatalogEntry(
        AlexNetSpec(
            name="alexnet.tflearn",
            num_classes=17,
            input_size=227,
            preprocessing="unit",
            initialization="tflearn",
            year=2016,
            paper=PAPER,
            source="tflearn, examples/images/alexnet.py (Oxford flowers)",
            convs=(
                Conv(96, 11, stride=4, padding="same", after=("pool", "norm")),
                Conv(256, 5, padding="same", after=("pool", "norm")),
                Conv(384, 3, padding="same"),
                Conv(384, 3, padding="same"),
                Conv(256, 3, padding="same", after=("pool", "norm")),
            ),
            pool=Pool(3, 2, "same"),
            # depth_radius 5 is a window of 11; TensorFlow's alpha of 1e-4 is not divided by it, ours is.
            norm=ResponseNorm(size=11, alpha=11e-4, beta=0.75, k=1.0),
            activation="tanh",
        ),
        section="3.5, figure 2",
        parameters=87_711_121,
        counted_by="by hand from the code's shapes",
        deviations=(
            "one tower instead of two groups",
            "TensorFlow's SAME padding in every convolution and pool",
            "pools before it normalizes, over a window of 11 channels, and a third time after the last pool",
            "tanh in the hidden layers",
        ),
    ),
    CatalogEntry(
        AlexNetSpec(
            name="alexnet.mnist",
            num_classes=10,
            in_channels=1,
            input_size=28,
            preprocessing="unit",
            initialization="normal_1",
            year=2015,
            paper=PAPER,
            source="the MNIST AlexNet of the TensorFlow-Examples tutorials",
            convs=tuple(Conv(depth, 3, padding=1, after=("pool", "norm", "dropout")) for depth in (64, 128, 256)),
            hidden=(1024, 1024),
            pool=Pool(2, 2, "same"),
            # depth_radius 4 is a window of 9; TensorFlow's alpha 0.001 / 9 is not divided by it, ours is.
            norm=ResponseNorm(size=9, alpha=0.001, beta=0.75, k=1.0),
            dropout=0.2,
            fc_dropout="none",
        ),
        section="none; the code takes the name",
        parameters=5_624_842,
        counted_by="by hand from the code's shapes",
        deviations=(
            "three convolutions of 3x3 for 28 pixels",
            "dropout after each of them and not in the hidden layers",
        ),
    ),
    CatalogEntry(
        AlexNetSpec(
            name="alexnet.owt",
            preprocessing="torch",
            initialization="torch",
            weight_decay=1e-4,
            year=2014,
            paper=ONE_WEIRD_TRICK,
            source="torchvision/models/alexnet.py",
            convs=(
                Conv(64, 11, stride=4, padding=2, after=("pool",)),
                Conv(192, 5, padding=2, after=("pool",)),
                Conv(384, 3, padding=1),
                Conv(256, 3, padding=1),
                Conv(256, 3, padding=1, after=("pool",)),
            ),
            fc_dropout="before",
            average_to=6,
        ),
        section="5",
        parameters=61_100_840,
        counted_by="torchvision, num_params of AlexNet_Weights",
        published=(Published("alexnet-owt-7be5be79.pth", 0.56522, 0.79066, "torchvision"),),
        deviations=(
            "one column of the paper's, without response normalization",
            "the fourth convolution has 256 channels; in TF-Slim's alexnet_v2, the same column otherwise, it has 384, "
            "the first is unpadded, and the classifier starts from a map of 5x5",
            "torchvision's training recipe instead of the paper's",
        ),
    ),
)
