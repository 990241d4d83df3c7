"""What a file leaves open of its network and its pictures, settled: by the user, the file, or its statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from skipway.data.preprocessing import Preprocessing
from skipway.interchange.keras.numbered import SCHEME as KERAS_ORDER
from skipway.interchange.mapping.matching import Match
from skipway.interchange.mapping.open_settings import Stated, open_settings, taken_by_custom
from skipway.interchange.mapping.resnet_names import CIFAR_TORCH, FC_SHORTCUT
from skipway.interchange.options import ImportOptions
from skipway.interchange.preparation.choosing import Choice, Preparation, Witness
from skipway.interchange.preparation.conventions import prepared, stated
from skipway.interchange.preparation.input_mean import convention, input_mean
from skipway.interchange.source import Source
from skipway.models.network import Spec
from skipway.weights.bundle import Bundle
from skipway.weights.statistics_fit import POOR


@dataclass(frozen=True)
class Taken:
    """The network and the preparation that were taken, by which convention, and what the user should know.
    `rule_is_unknown` where neither user nor file nor statistics speak for the preparation."""

    spec: Spec
    rule: Preprocessing
    convention: str
    choice: Choice
    doubts: tuple[str, ...]
    rule_is_unknown: bool


def settle(
    source: Source, match: Match, tensors: dict[str, Tensor], labels: tuple[str, ...], options: ImportOptions
) -> Taken:
    """Ask the user's options, then the file, then its statistics. Raises ModelFileError where two networks are left."""
    row, said = bool(options.get("model")), _stated(options)
    settings = open_settings(match, row=row, stated=said, every=options.get("fit", False))
    name, mean, known = options.get("preprocessing", ""), options.get("mean"), None
    doubts: list[str] = []
    if not name:
        known, doubts = (None, []) if mean else stated(source, match.spec, match.scheme)
        name, doubts = ("the file", doubts) if known else _convention(match, tensors)
    fixed = bool(options.get("preprocessing") or known or mean)
    spec, rule = (match.spec, known) if known else prepared(match.spec, name, mean)
    preparation = Preparation(name, lambda spec: known or prepared(spec, name, mean)[1])
    bundle = Bundle(spec, rule, labels, tensors)
    asked = Witness(bundle, settings, preparation, fixed, options.get("fit", False), options.get("pictures"))
    choice = asked.choose()
    spoken = choice.taken is not None and choice.taken.figure <= POOR
    if choice.preparation != preparation or (spoken and match.scheme in _ASSUMED):
        doubts = []  # what was assumed at first is not so, or is told with figures
    answered = fixed or spoken or (match.scheme in {"keras_graph", KERAS_ORDER} and bool(doubts))
    return Taken(
        spec=choice.spec,
        rule=choice.preparation.of(choice.spec),
        convention=choice.preparation.words,
        choice=choice,
        doubts=(*taken_by_custom(match, row=row, stated=said), *doubts, *choice.doubts),
        rule_is_unknown=not answered,
    )


def _stated(options: ImportOptions) -> Stated:
    return Stated(options.get("shortcut_pad", ""), options.get("stem_stride", 0), options.get("stem_pool", ""))


# Wordings of akamaster's networks, which were trained with ImageNet's statistics.
_ASSUMED = {CIFAR_TORCH.name, FC_SHORTCUT.name}


def _convention(match: Match, tensors: Mapping[str, Tensor]) -> tuple[str, list[str]]:
    """The convention of the row, of who uses these names, or of what the first normalization has seen; and a doubt
    where it might be another."""
    if match.scheme in _ASSUMED and match.spec.name.endswith(".cifar"):
        doubt = "nothing in the file tells how its pictures were standardized: taken as ImageNet's means and deviations"
        return "imagenet_statistics", [f"{doubt}; --preprocessing cifar takes CIFAR-10's own"]
    if match.spec.name.endswith(".keras_file"):
        stem = [tensors.get(f"stem.{name}") for name in ("conv.weight", "conv.bias", "norm.running_mean")]
        weight, bias, kept = (None if one is None else one.numpy() for one in stem)
        seen = input_mean(weight, bias, kept) if weight is not None and kept is not None else None
        name = None if seen is None else convention(seen)
        if seen is not None and name is not None:
            means = ", ".join(f"{one:.3g}" for one in seen.channels)
            told = f"the first normalization has seen pictures with channel means of about {means}"
            return name, [f"{told}: taken as --preprocessing {name}"]
    return match.spec.preprocessing, []
