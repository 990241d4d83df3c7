"""Which statistics a network normalizes with in evaluation: the running ones of the file, or those of the batch.

Code that calls its normalizations with training=True uses those of the batch.
"""

from __future__ import annotations

import dataclasses

from skipway.errors import ModelFileError, UnknownNameError
from skipway.interchange.doubt import Doubt
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.matching import Match
from skipway.interchange.source import WeightFile
from skipway.models.blocks import StackSpec, Statistics

NORMS = ("running", "batch")
_SIGNS = "resnet_v1_50.signs"


def normalizing(match: Match, source: WeightFile, norm: str) -> tuple[Match, tuple[Doubt, ...]]:
    """The network with the statistics that `norm` names, and the lines that the user should read about them.

    `norm` is `running`, `batch`, or "", which takes the running ones and says so where the file's code has others.
    Raises UnknownNameError for any other name, and ModelFileError where a network of ours cannot use those of the
    batch.
    """
    if norm not in {"", *NORMS}:
        raise UnknownNameError("norm", norm, NORMS)
    if norm == "batch":
        return _with_batch_statistics(match, source)
    if norm == "running":
        return match, ()
    if not _uses_the_batch(match, source):
        return match, ()
    warning = (
        "the code that wrote the file normalizes with the statistics of the batch wherever it was called with "
        "training=True; here evaluation uses the running statistics of the file, so answers differ from that code's: "
        "`import --norm batch` does as it did, `import --statistics DATA` recomputes the running statistics over your "
        "training pictures"
    )
    return match, (Doubt("statistics", warning),)


def _with_batch_statistics(match: Match, source: WeightFile) -> tuple[Match, tuple[Doubt, ...]]:
    """As `normalizing`, with the statistics of the batch."""
    spec = match.spec
    if not isinstance(spec, StackSpec):
        raise ModelFileError(f"{spec.name} has no batch normalization; leave out --norm batch")
    statistics = _as_its_code(match, source)
    norm = dataclasses.replace(spec.norm, statistics=statistics)
    with_norm = spec.replaced({"norm": norm})
    changed = dataclasses.replace(match, spec=with_norm)
    warning = (
        "evaluation normalizes with the statistics of the batch, so that the answer for a picture depends on the "
        "pictures beside it; --norm running takes the file's running statistics instead"
    )
    return changed, (Doubt("statistics", warning),)


def _uses_the_batch(match: Match, source: WeightFile) -> bool:
    """Whether the file's code normalizes with the statistics of the batch: by its layers, or as the hand signs' code
    does where the file has no layers.
    """
    if not source.layers:
        return match.spec.name == _SIGNS
    return any(layer.fields.get("live") for layer in source.layers)


def _as_its_code(match: Match, source: WeightFile) -> Statistics:
    """The normalizations that use the statistics of the batch in the file's code.

    These are all of them where the file does not say, but for the hand signs' network: its code leaves out the stem.
    Raises ModelFileError where only some of the units use them.
    """
    live: set[str] = set()  # the arrays of the layers that use them
    for layer in source.layers:
        if layer.fields.get("live"):
            live.update(layer.arrays)
    if not live:
        if match.spec.name == _SIGNS:
            return "batch_in_units"
        return "batch"
    in_units: set[bool] = set()  # whether a normalization in a unit uses them
    outside: set[bool] = set()
    for key in keys_of(match.spec):
        place = match.places[key.name]
        if key.tensor != "running_mean" or place is None:
            continue
        uses = place.source in live
        if key.stage > 0:
            in_units.add(uses)
        else:
            outside.add(uses)
    if in_units != {True}:
        raise ModelFileError(
            f"{source.path}: some of its units normalize with the statistics of the batch and others do not, which no "
            "network of skipway does; take the running ones with --norm running"
        )
    if outside == {False}:
        return "batch_in_units"
    return "batch"
