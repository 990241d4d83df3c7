"""What names and shapes leave open of a network, each with the variants that there are and the option that decides:
where a shortcut's zeros stand, how the stem shrinks the picture, where a bottleneck's stride sits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from skipway.errors import ModelFileError, UnknownNameError
from skipway.interchange.mapping.matching import Match
from skipway.interchange.mapping.resnet_names import CIFAR_TORCH, HUGGING_FACE, KERAS, SLIM, TIMM_V2, TORCH_NAMES
from skipway.models.blocks import StackSpec, Stem
from skipway.models.layers import PoolPadding
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec
from skipway.weights.choices import NO_POOL, SHORTCUT_PADS, STEM_POOLS

# Three draws of crops, six to ten networks (docs/log.md). Where zeros stood elsewhere the figure was 1.4 to 24 times as
# high, never lower. Another stride of the stem, with the side of the picture to it, fitted up to 2.1 times better.
ZEROS_CLEAR, STEM_CLEAR = 2.5, 4.0

_CIFAR_WIDTH, _CIFAR_STAGES = 16, 3
# Wordings that come without a description of the network.
_NAMES_ALONE = TORCH_NAMES | {scheme.name for scheme in (HUGGING_FACE, KERAS, SLIM, TIMM_V2)}
_PLACES = {"both": "zeros on both sides", "after": "zeros after", "before": "zeros before"}
_DESCRIBED = "keras_graph"  # of a Lambda, reading the file has told what is assumed
_SUBSAMPLED = (
    "shortcuts without arrays are taken to keep every second pixel where the picture shrinks; if they average, the "
    "network answers otherwise"
)
# The picture's side in pixels that a stem of one 3x3 is usually given, by what it divides it by.
_SIDES = {1: 32, 2: 64, 4: 224}


@dataclass(frozen=True)
class Variant:
    """One way to build the network: in words, and as fields of its spec."""

    words: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """`variants`, of which the first is taken where nothing else tells; or, where nothing speaks for it (`open`), the
    file is refused. `options` are what the user decides it with. `assumed` is what no variant differs in and nothing
    tells, "" where there is none. The next
    variant must fit `clear` times as badly as the best before statistics decide."""

    variants: tuple[Variant, ...]
    options: str
    open: bool
    assumed: str = ""
    clear: float = ZEROS_CLEAR


@dataclass(frozen=True)
class Stated:
    """What the user has settled: "" and 0 leave a setting open."""

    shortcut_pad: str = ""
    stem_stride: int = 0
    stem_pool: str = ""

    def __post_init__(self) -> None:
        if self.shortcut_pad and self.shortcut_pad not in SHORTCUT_PADS:
            raise UnknownNameError("place of the zeros", self.shortcut_pad, SHORTCUT_PADS)
        if self.stem_pool and self.stem_pool not in STEM_POOLS:
            raise UnknownNameError("pool of the stem", self.stem_pool, STEM_POOLS)
        if self.stem_stride < 0:
            raise ModelFileError(f"--stem-stride is {self.stem_stride}; give 1 or more")


def open_settings(match: Match, *, row: bool, stated: Stated, every: bool = False) -> list[Setting]:
    """What is open of a network that names and shapes gave; `row`: the user named it. What is `stated` leaves one
    variant. With `every`, also what custom has settled.

    Raises ModelFileError for a statement about what is not open.
    """
    spec = match.spec
    settings: list[Setting] = []
    if isinstance(spec, ResNetV1Spec | ResNetV2Spec):
        if _pads(spec) and (not row or stated.shortcut_pad):
            settings.append(_padding(match, stated.shortcut_pad))
        if _stem_is_open(match, row=row, stated=stated):
            settings.append(_stem(spec, stated, needed=not row))
        elif every and not row and _is_customary(match):
            settings.append(_stem(spec, stated, needed=False))
        if not row and _strides_are_open(match):
            settings.append(_strides())
    _check_used(match, settings, stated)
    return settings


def networks(settings: list[Setting]) -> list[Variant]:
    """Every combination of the settings' variants, the first ones first."""
    found = []
    for chosen in product(*(setting.variants for setting in settings)):
        fields: dict[str, Any] = {}
        for variant in chosen:
            fields |= variant.fields
        found.append(Variant(", ".join(variant.words for variant in chosen), fields))
    return found


def _pads(spec: ResNetV1Spec | ResNetV2Spec) -> bool:
    """Whether any shortcut adds channels of zeros."""
    depths = [spec.stem_channels(), *(row[0] for block in spec.blocks for row in block.rows)]
    return spec.shortcut == "pad" and len(set(depths)) > 1


def _padding(match: Match, wanted: str) -> Setting:
    """The names of akamaster's networks tell that theirs stand on both sides; nothing tells of anyone else's."""
    places = {wanted: _PLACES[wanted]} if wanted else _PLACES
    variants = tuple(Variant(words, {"pad": place}) for place, words in places.items())
    known = match.scheme == CIFAR_TORCH.name
    assumed = "" if known or match.scheme == _DESCRIBED else _SUBSAMPLED
    return Setting(variants, "--shortcut-pad after, both or before", open=not known, assumed=assumed)


def taken_by_custom(match: Match, *, row: bool, stated: Stated) -> list[str]:
    """What to say of a stem whose stride and pool no shape shows, and that is taken as CIFAR's networks have it."""
    if row or stated.stem_stride or stated.stem_pool or not _is_customary(match):
        return []
    return [
        f"a 3x3 stem of {_CIFAR_WIDTH} channels and {_CIFAR_STAGES} stages are CIFAR's: taken with stride 1, no pool "
        "and 32 pixels; --stem-stride and --stem-pool say otherwise, and --fit compares"
    ]


def _is_customary(match: Match) -> bool:
    """Whether the stem is the 3x3 of CIFAR's networks, under names that say nothing of its stride."""
    spec = match.spec
    if match.scheme not in _NAMES_ALONE or not isinstance(spec, StackSpec):
        return False
    return spec.stem.kernel == 3 and len(spec.blocks) == _CIFAR_STAGES and spec.stem.width == _CIFAR_WIDTH


def _stem_is_open(match: Match, *, row: bool, stated: Stated) -> bool:
    """Only a 7x7 has a customary stride and pool, and a 3x3 with the three stages and 16 channels of CIFAR."""
    spec = match.spec
    assert isinstance(spec, StackSpec)
    if match.scheme not in _NAMES_ALONE or spec.stem.kernel == 7:
        return False
    if stated.stem_stride or stated.stem_pool:
        return True
    return not _is_customary(match) and not row


def _stem(spec: StackSpec, stated: Stated, *, needed: bool) -> Setting:
    variants = []
    for stride, pooled in ((1, False), (2, False), (1, True), (2, True)):
        pool: PoolPadding | None = "symmetric" if pooled else None
        if stated.stem_pool:
            pool = None if stated.stem_pool == NO_POOL else stated.stem_pool  # type: ignore[assignment]
        stem = dataclasses.replace(spec.stem, stride=stated.stem_stride or stride, pool=pool)
        fields = {"stem": stem, "input_size": _side(stem)}
        variant = Variant(_stem_words(stem), fields)
        if variant not in variants:
            variants.append(variant)
    return Setting(tuple(variants), f"--stem-stride, --stem-pool {NO_POOL} or symmetric", open=needed, clear=STEM_CLEAR)


def _side(stem: Stem) -> int:
    divided = stem.stride * (1 if stem.pool is None else 2)
    return _SIDES.get(divided, _SIDES[4])


def _stem_words(stem: Stem) -> str:
    pool = "no pool" if stem.pool is None else "a max pool"
    return f"stem of stride {stem.stride}, {pool}, {_side(stem)} pixels"


def _strides_are_open(match: Match) -> bool:
    """Bottlenecks of PyTorch code, where the first 1x1 or the 3x3 may have the stride."""
    spec = match.spec
    assert isinstance(spec, StackSpec)
    strided = any(row[2] > 1 for block in spec.blocks for row in block.rows)
    bottlenecks = all(block.unit == "bottleneck" for block in spec.blocks)
    return match.scheme in TORCH_NAMES and spec.stem.kernel == 3 and bottlenecks and strided


def _strides() -> Setting:
    """PyTorch's networks have it in the 3x3."""
    variants = (
        Variant("stride in the 3x3", {"stride_in": "middle"}),
        Variant("stride in the first 1x1", {"stride_in": "first"}),
    )
    return Setting(variants, "the row of --model", open=False)


def _check_used(match: Match, settings: list[Setting], stated: Stated) -> None:
    told = [name for setting in settings for variant in setting.variants for name in variant.fields]
    if stated.shortcut_pad and "pad" not in told:
        raise ModelFileError(f"{match.spec.name} has no shortcut that adds channels of zeros; leave out --shortcut-pad")
    if (stated.stem_stride or stated.stem_pool) and "stem" not in told:
        raise ModelFileError(
            f"the stem of {match.spec.name} is known from its names, shapes or layers; leave out --stem-stride and "
            "--stem-pool"
        )
