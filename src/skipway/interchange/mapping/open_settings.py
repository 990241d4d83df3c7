"""The settings of a network that names and shapes leave open, with their variants and the options that decide them.

They are the place of a padded shortcut's zeros, the stride and pool of the stem, and the place of a bottleneck's
stride.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

from skipway.errors import ModelFileError, UnknownNameError
from skipway.interchange.choices import NO_POOL, SHORTCUT_PADS, STEM_POOLS
from skipway.interchange.doubt import Doubt
from skipway.interchange.mapping.matching import Match
from skipway.interchange.mapping.resnet_names import CIFAR_TORCH, HUGGING_FACE, KERAS, SLIM, TIMM_V2, TORCH_NAMES
from skipway.models.blocks import StackSpec, Stem
from skipway.models.layers import PoolPadding
from skipway.models.resnet_v1 import ResNetV1Spec
from skipway.models.resnet_v2 import ResNetV2Spec

# How many times as badly the second-best variant must fit before statistics decide. Measured with three draws of crops
# on six to ten networks (docs/log.md). With the zeros at a wrong place the figure was 1.4 to 24 times as high, never
# lower. A wrong stride of the stem, with the side of the picture that belongs to it, fitted up to 2.1 times better.
ZEROS_CLEAR = 2.5
STEM_CLEAR = 4.0

# The networks for CIFAR: channels of the stem, and stages.
_CIFAR_WIDTH = 16
_CIFAR_STAGES = 3
# Schemes of files that come without a description of the network.
_NAMES_ALONE = TORCH_NAMES | {scheme.name for scheme in (HUGGING_FACE, KERAS, SLIM, TIMM_V2)}
_PLACES = {"both": "zeros on both sides", "after": "zeros after", "before": "zeros before"}
# The scheme of a described network. Its reader warns of what is assumed of a shortcut, so that nothing is said here.
_DESCRIBED = "keras_graph"
_SUBSAMPLED = (
    "shortcuts without arrays are taken to keep every second pixel where the picture shrinks; if they average, the "
    "network answers otherwise"
)
# The usual side of the pictures in pixels, by how many times a stem of one 3x3 makes it smaller.
_SIDES = {1: 32, 2: 64}
_LARGEST_SIDE = 224


@dataclass(frozen=True)
class Variant:
    """One way to build the network: `words` describe it, and `fields` are the fields of its spec."""

    words: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """One open setting.

    - `variants`: the ways to build the network;
    - `options`: the options with which the user decides;
    - `open`: without a decision the file is refused, since nothing speaks for the first variant. Otherwise the first
      variant is taken;
    - `assumed`: an assumption that all variants share and that nothing in the file confirms, "" where there is none;
    - `clear`: how many times as badly as the best the next variant must fit before statistics decide.
    """

    variants: tuple[Variant, ...]
    options: str
    open: bool
    assumed: str = ""
    clear: float = ZEROS_CLEAR


@dataclass(frozen=True)
class Stated:
    """The settings that the user has decided; "" and 0 leave a setting open.

    `shortcut_pad` is the place of the zeros, `stem_stride` is in pixels, and `stem_pool` is the padding of the max pool
    or `none`. Raises UnknownNameError for another name and ModelFileError for a negative stride.
    """

    shortcut_pad: str = ""
    stem_stride: int = 0
    stem_pool: str = ""

    def __post_init__(self) -> None:
        if self.shortcut_pad not in {"", *SHORTCUT_PADS}:
            raise UnknownNameError("place of the zeros", self.shortcut_pad, SHORTCUT_PADS)
        if self.stem_pool not in {"", *STEM_POOLS}:
            raise UnknownNameError("pool of the stem", self.stem_pool, STEM_POOLS)
        if self.stem_stride < 0:
            raise ModelFileError(f"--stem-stride is {self.stem_stride}; give 1 or more")


def open_settings(match: Match, *, row: bool, stated: Stated, every: bool = False) -> list[Setting]:
    """The open settings of a network that names and shapes gave.

    `row`: the user named the row of the catalog. `stated` are the user's decisions, each of which leaves one variant.
    With `every`, also settings that are taken as is customary. Raises ModelFileError for a decision about a setting
    that is not open.
    """
    settings = _possible_settings(match, row=row, stated=stated, every=every)
    name = match.spec.name
    fields: set[str] = set()
    for setting in settings:
        for variant in setting.variants:
            fields.update(variant.fields)
    if stated.shortcut_pad and "pad" not in fields:
        raise ModelFileError(f"{name} has no shortcut that adds channels of zeros; leave out --shortcut-pad")
    if _states_stem(stated) and "stem" not in fields:
        raise ModelFileError(
            f"the stem of {name} is known from its names, shapes or layers; leave out --stem-stride and --stem-pool"
        )
    return settings


def _possible_settings(match: Match, *, row: bool, stated: Stated, every: bool) -> list[Setting]:
    """As `open_settings`, whatever the user has decided."""
    spec = match.spec
    if not isinstance(spec, ResNetV1Spec | ResNetV2Spec):
        return []
    settings: list[Setting] = []
    asks_for_pad = bool(stated.shortcut_pad) or not row
    asks_for_custom = every and not row
    if asks_for_pad and _pads(spec):
        padding = _padding(match, stated.shortcut_pad)
        settings.append(padding)
    if _stem_is_open(match, row=row, stated=stated):
        stem = _stem(spec, stated, needed=not row)
        settings.append(stem)
    elif asks_for_custom and _is_customary(match):
        stem = _stem(spec, stated, needed=False)
        settings.append(stem)
    if not row and _strides_are_open(match):
        strides = _strides()
        settings.append(strides)
    return settings


def networks(settings: list[Setting]) -> list[Variant]:
    """Every combination of the settings' variants, the first ones first."""
    found = []
    variants = [setting.variants for setting in settings]
    for chosen in product(*variants):
        words = []
        fields: dict[str, Any] = {}
        for variant in chosen:
            words.append(variant.words)
            fields.update(variant.fields)
        network = Variant(", ".join(words), fields)
        found.append(network)
    return found


def _states_stem(stated: Stated) -> bool:
    """Whether the user has decided anything about the stem."""
    return bool(stated.stem_stride) or bool(stated.stem_pool)


def _pads(spec: ResNetV1Spec | ResNetV2Spec) -> bool:
    """Whether any shortcut adds channels of zeros."""
    if spec.shortcut != "pad":
        return False
    depths = {spec.stem_channels()}
    for block in spec.blocks:
        for depth, _, _ in block.rows:
            depths.add(depth)
    return len(depths) > 1


def _padding(match: Match, wanted: str) -> Setting:
    """The place of the zeros; `wanted` is the user's decision or "".

    Only the names of akamaster's networks show it: theirs stand on both sides.
    """
    places = _PLACES
    if wanted:
        places = {wanted: _PLACES[wanted]}
    variants = []
    for place, words in places.items():
        variant = Variant(words, {"pad": place})
        variants.append(variant)
    known = match.scheme == CIFAR_TORCH.name
    assumed = _SUBSAMPLED
    if known or match.scheme == _DESCRIBED:
        assumed = ""
    options = "--shortcut-pad after, both or before"
    return Setting(tuple(variants), options, open=not known, assumed=assumed)


def taken_by_custom(match: Match, *, row: bool, stated: Stated) -> list[Doubt]:
    """The line to print about a stem whose stride and pool no shape shows, and that is taken as CIFAR's networks have
    it. No line where the user named a row or decided about the stem.
    """
    if row or _states_stem(stated):
        return []
    if not _is_customary(match):
        return []
    line = (
        f"a 3x3 stem of {_CIFAR_WIDTH} channels and {_CIFAR_STAGES} stages are CIFAR's: taken with stride 1, no pool "
        "and 32 pixels; --stem-stride and --stem-pool say otherwise, and --fit compares"
    )
    return [Doubt("network", line)]


def _is_customary(match: Match) -> bool:
    """Whether the stem is the 3x3 of CIFAR's networks, in a scheme whose names do not show its stride."""
    spec = match.spec
    if match.scheme not in _NAMES_ALONE or not isinstance(spec, StackSpec):
        return False
    stem = spec.stem
    if stem.kernel != 3 or stem.width != _CIFAR_WIDTH:
        return False
    return len(spec.blocks) == _CIFAR_STAGES


def _stem_is_open(match: Match, *, row: bool, stated: Stated) -> bool:
    """Whether the stride and the pool of the stem are open.

    They are customary for a 7x7, and for a 3x3 of 16 channels before three stages, which is CIFAR's.
    """
    spec = match.spec
    assert isinstance(spec, StackSpec)
    if match.scheme not in _NAMES_ALONE or spec.stem.kernel == 7:
        return False
    if _states_stem(stated):
        return True
    if row:
        return False
    return not _is_customary(match)


def _stem(spec: StackSpec, stated: Stated, *, needed: bool) -> Setting:
    """The stride and the pool of the stem, with the side of the pictures to them. `needed`: the user must decide."""
    pools: tuple[PoolPadding | None, ...] = (None, "symmetric")
    if stated.stem_pool == NO_POOL:
        pools = (None,)
    elif stated.stem_pool:
        pools = (cast(PoolPadding, stated.stem_pool),)
    strides: tuple[int, ...] = (1, 2)
    if stated.stem_stride:
        strides = (stated.stem_stride,)
    variants = []
    for pool in pools:
        for stride in strides:
            stem = dataclasses.replace(spec.stem, stride=stride, pool=pool)
            side = _side(stem)
            pool_words = "no pool" if pool is None else "a max pool"
            words = f"stem of stride {stride}, {pool_words}, {side} pixels"
            variant = Variant(words, {"stem": stem, "input_size": side})
            variants.append(variant)
    options = f"--stem-stride, --stem-pool {NO_POOL} or symmetric"
    return Setting(tuple(variants), options, open=needed, clear=STEM_CLEAR)


def _side(stem: Stem) -> int:
    """The usual side in pixels of the pictures for a stem."""
    smaller = stem.stride
    if stem.pool is not None:
        smaller *= 2
    return _SIDES.get(smaller, _LARGEST_SIDE)


def _strides_are_open(match: Match) -> bool:
    """Whether the network has bottlenecks of PyTorch code, where the first 1x1 or the 3x3 may have the stride."""
    spec = match.spec
    assert isinstance(spec, StackSpec)
    if match.scheme not in TORCH_NAMES or spec.stem.kernel != 3:
        return False
    kinds = set()
    strides = set()
    for block in spec.blocks:
        kinds.add(block.unit)
        for _, _, stride in block.rows:
            strides.add(stride)
    if kinds != {"bottleneck"}:
        return False
    return max(strides) > 1


def _strides() -> Setting:
    """The place of a bottleneck's stride; PyTorch's networks have it in the 3x3."""
    middle = Variant("stride in the 3x3", {"stride_in": "middle"})
    first = Variant("stride in the first 1x1", {"stride_in": "first"})
    return Setting((middle, first), "the row of --model", open=False)
