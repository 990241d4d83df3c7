"""The one table of whose names go with which networks: an import reads it forwards, an export backwards.

Names alone cannot tell two layouts of one scheme apart. Of the rows that explain a file equally well the first one is
taken, and `--model` decides otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from skipway.interchange.mapping import alexnet_names as alexnet
from skipway.interchange.mapping import resnet_names as resnet
from skipway.interchange.mapping.scheme import Scheme
from skipway.models.blocks import StackSpec
from skipway.models.network import Spec
from skipway.models.resnet_v1 import ResNetV1Spec

_MOST_LETTERS = 26  # of units that are named by letters
_MOST_CLASSIFIERS = 60  # a file of a thousand matrices is none of these networks
_ANY = ".*"
_NO_HIDDEN_LAYER = r"(?!fc[67]$).*"  # fc6 and fc7 of AlexNet come before its classifier
# Keras called the classifier fc1000 for any number of classes; the code of the hand signs named it after the number.
_AFTER_THE_NUMBER = r"fc(?!1000$)\d+"
_NOT_AFTER_THE_NUMBER = rf"(?!{_AFTER_THE_NUMBER}$).*"


@dataclass(frozen=True)
class FreeClassifier:
    """Names of a network whose classifier may have any name, as when it was trained again for other classes.

    `names` gives the scheme for a classifier's name. The name must match the regular expression `pattern`, and the
    classifier's matrix is stored as `NAME/weight`.
    """

    names: Callable[[str], Scheme]
    weight: str
    pattern: str = _ANY

    def scheme(self, array: str) -> Scheme | None:
        """The names of a file in which `array` is the classifier's matrix, or None where it cannot be."""
        classifier, _, weight = array.rpartition("/")
        if weight != self.weight or not re.fullmatch(self.pattern, classifier):
            return None
        return self.names(classifier)


@dataclass(frozen=True)
class Naming:
    """Names that a framework gives to the networks of one row of the catalog.

    Attributes:
        row: Name of the row. A network of other widths or depths in the same layout has these names, too.
        scheme: The names, or None where they depend on the classifier's name alone.
        forms: Names of the export forms that write them.
        free: The names with another classifier.
        for_export: The names for a certain network, where they depend on it; None where the names cannot hold it.
    """

    row: str
    scheme: Scheme | None
    forms: tuple[str, ...] = ()
    free: FreeClassifier | None = None
    for_export: Callable[[Spec], Scheme | None] | None = None

    def scheme_for(self, spec: Spec) -> Scheme | None:
        """The names that an export gives to `spec`, or None where it has none."""
        if self.for_export is not None:
            return self.for_export(spec)
        return self.scheme


def _keras_branches_for(spec: Spec) -> Scheme | None:
    """Keras's older names. They number the units of a stage by letters, of which there are 26."""
    assert isinstance(spec, StackSpec)
    most_units = max(len(block.rows) for block in spec.blocks)
    if most_units > _MOST_LETTERS:
        return None
    if spec.head == "global":
        return resnet.keras_branches("fc1000")
    return resnet.keras_branches(f"fc{spec.num_classes}")


def _caffe_resnet_for(spec: Spec) -> Scheme | None:
    """Caffe's names. Caffe has no layer that makes zeros, so shortcuts with padded channels cannot be written."""
    assert isinstance(spec, ResNetV1Spec)
    if spec.shortcut == "pad":
        return None
    return resnet.caffe(f"fc{spec.num_classes}")


def _keras_branches(row: str, pattern: str) -> Naming:
    return Naming(
        row,
        scheme=None,
        forms=("keras_branches",),
        free=FreeClassifier(resnet.keras_branches, "kernel", pattern),
        for_export=_keras_branches_for,
    )


def _caffe_resnet(depth: int) -> Naming:
    return Naming(
        f"resnet_v1_{depth}.original",
        resnet.CAFFE,
        forms=("caffe",),
        free=FreeClassifier(resnet.caffe, "0"),
        for_export=_caffe_resnet_for,
    )


_SLIM_FORMS = ("slim", "slim_checkpoint_v1", "slim_frozen")

NAMINGS: tuple[Naming, ...] = (
    Naming("resnet_v1_50.torchvision", resnet.TORCHVISION, forms=("torchvision", "timm")),
    Naming("resnet_v1_50.torchvision", resnet.CIFAR_TORCH),
    Naming("resnet_v1_50.torchvision", resnet.FC_SHORTCUT),
    Naming("resnet_v1_50.torchvision", resnet.LINEAR_DOWNSAMPLE),
    Naming("resnet_v1_20.cifar", resnet.CIFAR_TORCH, forms=("cifar_torch",)),
    Naming("resnet_v1_20.cifar", resnet.TORCHVISION),
    Naming("resnet_v1_20.cifar", resnet.FC_SHORTCUT),
    Naming("resnet_v1_20.cifar", resnet.LINEAR_DOWNSAMPLE),
    Naming("resnet_v1_50.torchvision", resnet.HUGGING_FACE, forms=("hugging_face",)),
    Naming("resnet_v2_50.timm", resnet.TIMM_V2, forms=("timm",)),
    Naming("resnet_v1_50.slim", resnet.SLIM, forms=_SLIM_FORMS),
    Naming("resnet_v2_50.slim", resnet.SLIM, forms=_SLIM_FORMS),
    Naming("resnet_v1_50.keras", resnet.KERAS, forms=("keras",)),
    Naming("resnet_v2_50.keras", resnet.KERAS, forms=("keras",)),
    _caffe_resnet(50),
    _caffe_resnet(101),
    _caffe_resnet(152),
    Naming("alexnet.owt", alexnet.TORCHVISION, forms=("torchvision",)),
    Naming("alexnet.caffe", alexnet.CAFFE, ("caffe",), FreeClassifier(alexnet.caffe, "0", _NO_HIDDEN_LAYER)),
    Naming("alexnet.caffenet", alexnet.CAFFE, ("caffe",), FreeClassifier(alexnet.caffe, "0", _NO_HIDDEN_LAYER)),
    Naming("alexnet.caffe", alexnet.NPY, ("npy",), FreeClassifier(alexnet.npy, "weights", _NO_HIDDEN_LAYER)),
    Naming("alexnet.caffenet", alexnet.NPY, ("npy",), FreeClassifier(alexnet.npy, "weights", _NO_HIDDEN_LAYER)),
    _keras_branches("resnet_v1_50.signs", _AFTER_THE_NUMBER),
    _keras_branches("resnet_v1_50.keras", _NOT_AFTER_THE_NUMBER),
)


def namings_of_form(form: str) -> tuple[Naming, ...]:
    """The rows of the table that an export form writes, in the table's order."""
    return tuple(naming for naming in NAMINGS if form in naming.forms)


def candidates(shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[Scheme, str]]:
    """Every pair of names and row that a file of these names and shapes may have, the first of equals first."""
    found = [(naming.scheme, naming.row) for naming in NAMINGS if naming.scheme is not None]
    return found + _with_free_classifier(shapes)


def _with_free_classifier(shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[Scheme, str]]:
    found: list[tuple[Scheme, str]] = []
    for name, shape in shapes.items():
        if len(shape) != 2:
            continue
        for naming in NAMINGS:
            scheme = naming.free.scheme(name) if naming.free is not None else None
            if scheme is not None:
                found.append((scheme, naming.row))
    return found[:_MOST_CLASSIFIERS]
