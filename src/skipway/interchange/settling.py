"""What a weight file leaves open of its network and its pictures: the user, the file or its statistics decide it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from skipway.data.preprocessing import Preprocessing
from skipway.interchange.doubt import Doubt
from skipway.interchange.keras.numbered import SCHEME as KERAS_ORDER
from skipway.interchange.mapping.matching import Match
from skipway.interchange.mapping.open_settings import Stated, open_settings, taken_by_custom
from skipway.interchange.mapping.resnet_names import CIFAR_TORCH, FC_SHORTCUT
from skipway.interchange.options import ImportOptions
from skipway.interchange.preparation.choosing import Choice, Preparation
from skipway.interchange.preparation.conventions import prepared, stated
from skipway.interchange.preparation.input_mean import convention, input_mean
from skipway.interchange.preparation.witness import Witness
from skipway.interchange.source import WeightFile
from skipway.models.network import Spec
from skipway.weights.bundle import Bundle
from skipway.weights.statistics_fit import POOR

# Names of akamaster's networks, which were trained with ImageNet's statistics.
_TRAINED_ON_IMAGENET_STATISTICS = {CIFAR_TORCH.name, FC_SHORTCUT.name}


@dataclass(frozen=True)
class Settled:
    """What was decided.

    Attributes:
        spec: The network.
        rule: How pictures are prepared.
        convention: By which convention.
        choice: The candidates, and which of them the file's statistics fit.
        doubts: What the user should know.
        rule_is_unknown: Whether neither the user nor the file nor its statistics say how pictures are prepared.
    """

    spec: Spec
    rule: Preprocessing
    convention: str
    choice: Choice
    doubts: tuple[Doubt, ...]
    rule_is_unknown: bool


@dataclass(frozen=True)
class _Start:
    """The preparation to begin with: its convention, the rule itself where the file states it, and the doubts."""

    convention: str
    rule: Preprocessing | None
    doubts: tuple[Doubt, ...]


def settle(
    source: WeightFile, match: Match, tensors: dict[str, Tensor], labels: tuple[str, ...], options: ImportOptions
) -> Settled:
    """Ask the user's options first, then the file, then its statistics.

    Raises ModelFileError where two networks are left open.
    """
    row_is_given = bool(options.model)
    stated_settings = Stated(options.shortcut_pad, options.stem_stride, options.stem_pool)
    settings = open_settings(match, row=row_is_given, stated=stated_settings, every=options.fit)
    start = _start(source, match, tensors, options)

    def rule_for(spec: Spec) -> Preprocessing:
        if start.rule is not None:
            return start.rule
        _, rule = prepared(spec, start.convention, options.mean)
        return rule

    spec = match.spec
    if start.rule is None:  # a convention may need pictures of another size
        spec, _ = prepared(match.spec, start.convention, options.mean)
    preparation = Preparation(start.convention, rule_for)
    is_fixed = bool(options.preprocessing or start.rule or options.mean)
    bundle = Bundle(spec, rule_for(match.spec), labels, tensors)
    witness = Witness(bundle, settings, preparation, is_fixed, options.fit, options.pictures)
    choice = witness.choose()

    statistics_fit = choice.taken is not None and choice.taken.figure <= POOR
    is_changed = choice.preparation != preparation
    is_confirmed = statistics_fit and match.scheme in _TRAINED_ON_IMAGENET_STATISTICS
    doubts = start.doubts
    if is_changed or is_confirmed:
        doubts = ()  # what was assumed at first is replaced, or the statistics confirm it
    layers_say = match.scheme in {"keras_graph", KERAS_ORDER} and bool(doubts)
    custom = taken_by_custom(match, row=row_is_given, stated=stated_settings)
    return Settled(
        spec=choice.spec,
        rule=choice.preparation.of(choice.spec),
        convention=choice.preparation.words,
        choice=choice,
        doubts=(*custom, *doubts, *choice.doubts),
        rule_is_unknown=not (is_fixed or statistics_fit or layers_say),
    )


def _start(source: WeightFile, match: Match, tensors: Mapping[str, Tensor], options: ImportOptions) -> _Start:
    """The preparation that the user names, that the file states, or that is the custom of these networks."""
    if options.preprocessing:
        return _Start(options.preprocessing, None, ())
    if options.mean is None:
        rule, doubts = stated(source, match.spec, match.scheme)
        if rule is not None:
            return _Start("the file", rule, doubts)
    return _by_custom(match, tensors)


def _by_custom(match: Match, tensors: Mapping[str, Tensor]) -> _Start:
    """The convention of whoever uses these names, of what the first normalization has seen, or of the row."""
    name = match.spec.name
    if match.scheme in _TRAINED_ON_IMAGENET_STATISTICS and name.endswith(".cifar"):
        text = (
            "nothing in the file says how its pictures were standardized: taken as ImageNet's means and deviations; "
            "--preprocessing cifar takes CIFAR-10's own"
        )
        doubt = Doubt("pictures", text)
        return _Start("imagenet_statistics", None, (doubt,))
    if name.endswith(".keras_file"):
        by_norm = _by_first_normalization(tensors)
        if by_norm is not None:
            return by_norm
    return _Start(match.spec.preprocessing, None, ())


def _by_first_normalization(tensors: Mapping[str, Tensor]) -> _Start | None:
    """The convention whose pictures have the means that the first normalization stores, None where none has."""
    weight = tensors.get("stem.conv.weight")
    running_mean = tensors.get("stem.norm.running_mean")
    if weight is None or running_mean is None:
        return None
    bias = None
    if "stem.conv.bias" in tensors:
        bias = tensors["stem.conv.bias"].numpy()
    seen = input_mean(weight.numpy(), bias, running_mean.numpy())
    if seen is None:
        return None
    name = convention(seen)
    if name is None:
        return None
    means = ", ".join(f"{mean:.3g}" for mean in seen.channels)
    text = (
        f"the first normalization has seen pictures with channel means of about {means}: taken as "
        f"--preprocessing {name}"
    )
    doubt = Doubt("pictures", text)
    return _Start(name, None, (doubt,))
