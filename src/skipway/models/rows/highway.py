"""Highway networks: fully connected ones of any depth, and two convolutional ones."""

from __future__ import annotations

from skipway.models.highway import HighwayMLPSpec, HighwaySpec, HighwayStage
from skipway.models.rows.entry import CatalogEntry

PAPER = 'Srivastava, Greff, Schmidhuber 2015, "Training very deep networks"'


def highway_mlp(layers: int) -> CatalogEntry:
    """The network of section 3.1 with any number of layers before its classifier."""
    # The deeper, the more a unit has to carry before it learns to transform.
    gate_bias = -3.0
    if layers <= 10:
        gate_bias = -1.0
    elif layers <= 20:
        gate_bias = -2.0
    first = 784 * 50 + 50
    unit = 2 * (50 * 50 + 50)
    classifier = 50 * 10 + 10
    return CatalogEntry(
        HighwayMLPSpec(
            name=f"highway_mlp_{layers}",
            num_classes=10,
            in_channels=1,
            input_size=28,
            preprocessing="unit",
            year=2015,
            paper=PAPER,
            source="the paper, section 3.1 (MNIST)",
            layers=layers,
            gate_bias=gate_bias,
        ),
        section="3.1, figure 1",
        parameters=first + (layers - 1) * unit + classifier,
        counted_by="by hand from section 3.1",
        reported="a curve of the training loss only (figure 1)",
        deviations=(
            "the paper searched the activation (ReLU or tanh) and the gate's bias (-1 to -10) at random and does not "
            "print what won; ours are ReLU and -1, -2 or -3 by depth",
        ),
    )


_SHARED_DEVIATIONS = (
    "He initialization in the first convolution, too, where the code's filler names a value that it ignores",
)

ENTRIES = (
    *(highway_mlp(layers) for layers in (10, 20, 50, 100)),
    CatalogEntry(
        HighwaySpec(
            name="highway_19.cifar",
            num_classes=10,
            input_size=32,
            preprocessing="cifar",
            weight_decay=1e-3,
            year=2015,
            paper=PAPER,
            source="flukeskywalker/highway-networks, cifar10_network.prototxt",
            stages=(HighwayStage(32, (3,) * 4), HighwayStage(80, (3,) * 5), HighwayStage(128, (3,) * 5)),
        ),
        section="3.3, table 3",
        parameters=2_256_838,
        counted_by="by hand from the prototxt's blobs; table 2 rounds it to 2.3M",
        reported="92.40 % accuracy, 92.31 +- 0.12 over five runs (table 3)",
        deviations=(
            *_SHARED_DEVIATIONS,
            "He initialization in the classifier, too; the code's N(0, 0.05)",
            "one weight decay for every layer; the code decays the classifier ten times as much",
            "pictures standardized by channel; the authors contrast-normalized them and subtracted a mean picture",
        ),
    ),
    CatalogEntry(
        HighwaySpec(
            name="highway_32.cifar",
            num_classes=10,
            input_size=32,
            preprocessing="cifar",
            weight_decay=1e-3,
            year=2015,
            paper=PAPER,
            source="reconstructed from the paper, section 3.3: 32 layers, kernels of 3 and 1 in turn, 1.25M parameters",
            gate_bias=-3.0,
            stages=tuple(HighwayStage(depth, (1, 3, 1, 3, 1, 3, 1, 3, 1)) for depth in (32, 64, 96)),
        ),
        section="3.3, table 2",
        parameters=1_264_502,
        counted_by="by hand from our reading of section 3.3",
        reported="91.20 % accuracy (table 2)",
        deviations=(
            "A RECONSTRUCTION: no table of its layers was published. Ours has the stages and the head of the "
            "19-layer network, and widths of 32, 64, 96 that come near the published 1.25M parameters; "
            "the gate's bias, the dropout and the weight decay are not published, either",
            *_SHARED_DEVIATIONS,
        ),
    ),
)
