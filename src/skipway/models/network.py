"""What every network shares: a frozen spec that describes it, and one forward pass that can report its endpoints."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from skipway.errors import SkipwayError, SpecError, UnknownNameError
from skipway.models.initialization import require_initialization
from skipway.reporting import escaped
from skipway.values import verify

# The presets of `data.preprocessing`, which networks cannot see.
Convention = Literal[
    "unit",
    "signs",
    "torch",
    "cifar",
    "cifar_mean",
    "caffe",
    "caffe_resnet",
    "keras_caffe",
    "keras_tf",
    "timm_90",
    "timm_95",
    "slim_v1",
    "slim_v2",
    "imagenet_statistics",
    "counts",
]

Note = Callable[[str, Tensor], None]

_LONGEST_NAME = 200


def _ignore(name: str, value: Tensor) -> None:
    """Drop an endpoint that nobody asked for."""


def smallest_side(fits: Callable[[int], bool]) -> int:
    """Smallest side in pixels that `fits`; every larger side must fit, too."""
    sides = range(1, 2**63)
    place = bisect_left(sides, x=True, key=fits)
    return 1 + place


def require_fields(kind: type[Any], fields: Mapping[str, Any], where: str) -> None:
    """Raises UnknownNameError, which lists the nearest names, for a name that is no field of a dataclass.

    `where` is what the message calls the dataclass.
    """
    known = sorted(field.name for field in dataclasses.fields(kind))
    for key in fields:
        if key not in known:
            raise UnknownNameError(f"field of {where}", key, known)


def settle_types(value: Any, where: str) -> None:
    """Convert the fields of a frozen dataclass to the types of their annotations.

    Raises SpecError, starting with `where`, for a value that does not fit its type.
    """
    try:
        fields = verify(value, where)
    except SkipwayError as error:
        raise SpecError(str(error)) from None
    for name, settled in fields.items():
        object.__setattr__(value, name, settled)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A network as plain values: enough to build it, and small enough for a file's header.

    `name`: what the network is called, `architecture.layout` for rows of the catalog.
    `num_classes`: outputs of the classifier; 0 leaves the classifier out.
    `in_channels`: channels of a picture, 1 for grey, 3 for colour.
    `input_size`: the side in pixels of the square picture that the source trained on.
    `preprocessing`: the source's way from a picture to numbers, by the name of a preset of `data.preprocessing`.
    `initialization`: the source's first weights, by a name of `models.initialization`.
    `weight_decay`: the source's L2 factor, as a fact; a recipe decides what training uses.
    `year`, `paper`, `source`: the paper, and the code or the section of the paper that the layout follows.
    """

    architecture: ClassVar[str]

    name: str
    num_classes: int = 1000
    in_channels: int = 3
    input_size: int = 224
    preprocessing: Convention = "torch"
    initialization: str = "he"
    weight_decay: float = 0.0
    year: int = 0
    paper: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        """Check all fields. Raises SpecError, and UnknownNameError for an unknown initialization."""
        settle_types(self, escaped(str(self.name))[:_LONGEST_NAME])
        self._check_name()
        require_initialization(self.initialization)
        if self.num_classes < 0:
            raise SpecError(f"{self.name}: num_classes is {self.num_classes}; give 1 or more, or 0 for no classifier")
        if self.in_channels < 1:
            raise SpecError(f"{self.name}: in_channels is {self.in_channels}; give 1 for grey or 3 for colour")
        if self.weight_decay < 0:
            raise SpecError(f"{self.name}: weight_decay is {self.weight_decay}; give 0 or more")
        self.check_fields()
        smallest = self.smallest_input()
        if self.input_size < smallest:
            raise SpecError(
                f"{self.name} cannot take pictures of {self.input_size} pixels a side; the smallest is {smallest}"
            )

    def _check_name(self) -> None:
        """Raises SpecError for a name that is empty, very long or not printable."""
        if not self.name:
            raise SpecError("a network's name is empty; give one, such as that of the row it comes from")
        printable = escaped(self.name)
        if len(self.name) > _LONGEST_NAME or printable != self.name:
            raise SpecError(
                f"a network's name is {printable[:60]}...; give a printable one of {_LONGEST_NAME} characters or fewer"
            )

    def check_fields(self) -> None:
        """Raises SpecError for fields that contradict each other. It is called after the types have been checked."""

    def smallest_input(self) -> int:
        """Smallest side in pixels at which every map keeps at least one pixel."""
        raise NotImplementedError

    def flattened(self, side: int) -> int:  # noqa: ARG002 (most networks take every side)
        """Side of the map whose pixels are the classifier's features, for a picture's side; 0 where every side fits."""
        return 0

    def build(self) -> Network:
        """The network with freshly drawn weights."""
        raise NotImplementedError

    def replaced(self, fields: Mapping[str, Any]) -> Self:
        """This spec with some fields changed. Raises UnknownNameError for a field that the architecture lacks."""
        require_fields(type(self), fields, self.name)
        return dataclasses.replace(self, **fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with `architecture` first."""
        fields = dataclasses.asdict(self)
        return {"architecture": self.architecture, **fields}


class Network(nn.Module):
    """Pictures (N, C, H, W) in, logits (N, num_classes) out.

    Children are the stages in forward order, so that freezing, folding and drawing can walk them by name.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.smallest_input = spec.smallest_input()

    def check(self, x: Tensor) -> None:
        """Raises SpecError, naming what fits, unless `x` is (N, in_channels, H, W) and large enough."""
        name = self.spec.name
        if not isinstance(x, Tensor):
            raise SpecError(f"{name} takes a tensor, and this is {type(x).__name__}; torch.as_tensor makes one")
        if x.ndim != 4 or x.shape[1] != self.spec.in_channels:
            wanted = f"(N, {self.spec.in_channels}, H, W)"
            raise SpecError(f"{name} takes pictures {wanted}, and these are {tuple(x.shape)}; reshape them")
        if not x.is_floating_point():
            raise SpecError(f"{name} takes numbers with a fraction, and these are {x.dtype}; preprocess them")
        height, width = x.shape[2:]
        if min(height, width) < self.smallest_input:
            raise SpecError(
                f"{name} cannot take pictures of {height} x {width} pixels; the smallest side is {self.smallest_input}"
            )
        self._check_flattened(height, width)

    def _check_flattened(self, height: int, width: int) -> None:
        """Raises SpecError where the classifier would get another number of features than it was built for."""
        built_for = self.spec.flattened(self.spec.input_size)
        for side in (height, width):
            if self.spec.flattened(side) != built_for:
                raise SpecError(
                    f"{self.spec.name} is built for pictures of {self.spec.input_size} pixels a side, and these have "
                    f"{height} x {width}; resize them or build it with another input_size"
                )

    def walk(self, x: Tensor, note: Note) -> Tensor:
        """Run the network and call `note(name, value)` at each endpoint; returns the last value."""
        raise NotImplementedError

    def classifier_keys(self) -> tuple[str, ...]:
        """State-dict keys whose shapes depend on the number of classes."""
        return ("logits.weight", "logits.bias")

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or the features before them where `num_classes` is 0. Raises SpecError for unfit pictures."""
        if not torch.compiler.is_compiling():
            self.check(x)
        return self.walk(x, _ignore)

    def forward_endpoints(self, x: Tensor) -> dict[str, Tensor]:
        """Every named value of the same pass; `predictions` is the softmax of the logits over the class axis."""
        self.check(x)
        endpoints: dict[str, Tensor] = {}
        self.walk(x, endpoints.__setitem__)
        if "logits" in endpoints:
            logits = endpoints["logits"]
            endpoints["predictions"] = torch.softmax(logits, dim=1)
        return endpoints
