"""Which statistics a network normalizes with in evaluation: the running ones of the file, or the batch's, as some code
has it that calls its norms with training=True."""

from __future__ import annotations

import dataclasses

from skipway.errors import ModelFileError, UnknownNameError
from skipway.interchange.doubt import Doubt
from skipway.interchange.mapping.keys import keys_of
from skipway.interchange.mapping.matching import Match
from skipway.interchange.source import Source
from skipway.models.blocks import StackSpec, Statistics

NORMS = ("running", "batch")
_SIGNS = "resnet_v1_50.signs"


def normalizing(match: Match, source: Source, norm: str) -> tuple[Match, tuple[Doubt, ...]]:
    """The network with the statistics that `norm` names, and what the user should know of them. "" takes the running
    ones, and says so where the file's code has others.

    Raises UnknownNameError for any other name, and ModelFileError where `batch` is not what a network of ours can do.
    """
    if norm not in {"", *NORMS}:
        raise UnknownNameError("norm", norm, NORMS)
    spec = match.spec
    if norm == "batch":
        if not isinstance(spec, StackSpec):
            raise ModelFileError(f"{spec.name} has no batch normalization; leave out --norm batch")
        live = dataclasses.replace(spec.norm, statistics=_as_its_code(match, source))
        text = (
            "evaluation normalizes with the statistics of the batch, so that the answer for a picture depends on the "
            "pictures beside it; --norm running takes the file's running statistics instead"
        )
        return dataclasses.replace(match, spec=spec.replaced({"norm": live})), (Doubt("statistics", text),)
    unsaid = spec.name == _SIGNS and not source.layers
    if norm or not (unsaid or any(layer.fields.get("live") for layer in source.layers)):
        return match, ()
    text = (
        "the code that wrote the file normalizes with the statistics of the batch wherever it was called with "
        "training=True; here evaluation uses the running statistics of the file, so answers differ from that code's: "
        "`import --norm batch` does as it did, `import --statistics DATA` recomputes the running statistics over your "
        "training pictures"
    )
    return match, (Doubt("statistics", text),)


def _as_its_code(match: Match, source: Source) -> Statistics:
    """Where the file says that the batch's statistics are used; everywhere where it says nothing, but for the hand
    signs' network, whose code leaves the stem alone."""
    live = {name for layer in source.layers if layer.fields.get("live") for name in layer.arrays}
    if not live:
        return "batch_in_units" if match.spec.name == _SIGNS else "batch"
    used: dict[bool, set[bool]] = {True: set(), False: set()}  # by whether a norm is in a unit
    for key in keys_of(match.spec):
        place = match.places[key.name]
        if key.tensor == "running_mean" and place is not None:
            used[key.stage > 0].add(place.source in live)
    if used[True] == {True}:
        return "batch_in_units" if used[False] == {False} else "batch"
    raise ModelFileError(
        f"{source.path}: some of its units normalize with the statistics of the batch and others do not, which no "
        "network of skipway does; take the running ones with --norm running"
    )
