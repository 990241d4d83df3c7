"""Which pictures may judge a model: those that it was not trained on. And what to say of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from skipway.data.checking import Checked
from skipway.data.dataset import Source
from skipway.data.identity import Identity
from skipway.errors import DataError, UnknownNameError
from skipway.evaluation.metrics import Evaluation
from skipway.reporting import agreeing, counted, escaped

Choice = Literal["everything", "not trained on", "held out", "trained on"]
_NAMED = 3


@dataclass(frozen=True)
class Wanted:
    """A part of a data set, and which of its pictures are judged."""

    part: str
    choice: Choice


@dataclass(frozen=True)
class Overlap:
    """How the pictures of a data set relate to those of a model's training.

    Attributes:
        pictures: How many pictures the part has.
        trained_on: How many of them have the very bytes of a training picture.
        held_out: How many have the bytes of a held-out picture and of no training picture.
        choice: Which of them were judged.
        same: Of the judged pictures, those that were trained on: bool (judged,).
        alike: Of the judged pictures, those that only look like training pictures: bool (judged,).
        names: Names of the judged pictures that are the same or alike, in order.
        complete: Whether all training pictures are known; not where training began from weights of others.
    """

    pictures: int
    trained_on: int
    held_out: int
    choice: Choice
    same: np.ndarray
    alike: np.ndarray
    names: tuple[str, ...]
    complete: bool = True

    def top1_without(self, evaluation: Evaluation) -> float | None:
        """Top-1 without the pictures that were trained on or look so; None where that changes nothing."""
        known = self.same | self.alike
        some_are_left = known.any() and not known.all()
        if not some_are_left or len(evaluation.indices) != len(known):
            return None
        positions = evaluation.indices.numpy()
        is_fresh = ~known[positions]
        is_right = (evaluation.answers == evaluation.targets).numpy()
        return float(is_right[is_fresh].mean())

    def to_dict(self, evaluation: Evaluation) -> dict[str, Any]:
        """Plain values for JSON. `trained_on` and `looks_trained_on` count among the judged pictures."""
        return {
            "pictures": self.pictures,
            "judged": self.choice,
            "trained_on": int(self.same.sum()),
            "looks_trained_on": int(self.alike.sum()),
            "top1_without_these": self.top1_without(evaluation),
        }

    def remarks(self, part: str, evaluation: Evaluation) -> list[str]:
        """What a reader of the figures must know, a line each."""
        lines = []
        if self.choice != "everything":
            lines.append(self._which(part))
        if not self.complete:
            lines.append(UNKNOWN_PARENT)
        same = int(self.same.sum())
        alike = int(self.alike.sum())
        count = len(self.same)
        judged = agreeing(count, "1 picture", f"these {count:,} pictures")
        if alike and same + alike == count:
            look = agreeing(count, "the only picture looks", f"all of {judged} were trained on, or look")
            lines.append(f"NO MEASURE: {look} like pictures that were trained on (the same, saved again or resized)")
            return lines
        if same:
            lines.append(self._same_remark(part, judged))
        if alike:
            look = agreeing(alike, "looks", "look")
            names = self._named(self.alike)
            lines.append(
                f"{alike:,} of these pictures {look} like pictures that were trained on "
                f"(the same, saved again or resized){names}"
            )
        without = self.top1_without(evaluation)
        if without is not None:
            lines.append(f"without them top-1 is {without:.2%}")
        return lines

    def _same_remark(self, part: str, judged: str) -> str:
        """The line on judged pictures that were trained on; `judged` is the number of judged pictures in words."""
        same = int(self.same.sum())
        text = f"{same:,} of {judged} {agreeing(same, 'was', 'were')} trained on"
        is_whole_training = part in {"all", "train"} or self.choice == "trained on"
        if is_whole_training or same == len(self.same):
            return f"NO MEASURE: {text}; the figures say how well the model remembers, not how good it is"
        return text + self._named(self.same)

    def _which(self, part: str) -> str:
        """The judged pictures among all of the part."""
        judged = len(self.same)
        pictures = counted(self.pictures, "picture")
        trained = f"{self.trained_on:,} {agreeing(self.trained_on, 'was', 'were')} trained on"
        if self.choice == "trained on":
            return f"{judged:,} of {pictures}: those that were trained on"
        if self.choice == "held out" or judged == self.held_out:
            return f"{judged:,} held-out of {pictures}; {trained}"
        return (
            f"{judged:,} of {pictures} ({part}) whose bytes were not trained on, {self.held_out:,} of them held out; "
            f"{trained}"
        )

    def _named(self, which: np.ndarray) -> str:
        """The names of some of the known pictures: `: a.png, b.png, c.png, and 2 more`."""
        known = np.flatnonzero(self.same | self.alike)
        names = []
        for name, place in zip(self.names, known, strict=True):
            if which[place]:
                names.append(escaped(name))
        text = ": " + ", ".join(names[:_NAMED])
        more = len(names) - _NAMED
        if more > 0:
            text += f", and {more:,} more"
        return text


def wanted_part(source: Source, split: str, identity: Identity | None) -> Wanted:
    """The part and the choice that `split` means: a name, or empty for what is fit to judge by.

    Raises UnknownNameError for a part that the data lack, and DataError where the part depends on what the model was
    trained on and the model file does not say it.
    """
    if split in source.splits:
        return Wanted(split, "everything")
    has_no_parts = set(source.splits) == {"all"}
    if has_no_parts and split in {"train", "val"}:
        if identity is None:
            raise DataError(
                f"{source.name} has no parts, and the model file does not say which of its pictures were held out; "
                "leave --split out"
            )
        if split == "train":
            return Wanted("all", "trained on")
        return Wanted("all", "held out")
    if split:
        raise _no_such_part(source, split, identity)
    part = source.evaluation_split()
    may_hold_training_pictures = part in {"all", "train"}
    if may_hold_training_pictures and identity is not None:
        return Wanted(part, "not trained on")
    return Wanted(part, "everything")


def _no_such_part(source: Source, split: str, identity: Identity | None) -> UnknownNameError:
    parts = list(source.splits)
    if parts == ["all"] and identity is not None:  # the identity divides the pictures into these two
        parts += ["train", "val"]
    fix = f"its parts: {', '.join(parts)}; give one of them with --split, or leave --split out"
    return UnknownNameError(f"split of {source.name}", split, parts, hint=fix)


def chosen(checked: Checked, wanted: Wanted, identity: Identity) -> tuple[Checked, Overlap]:
    """The pictures that are to be judged, and how they relate to the model's training. Raises DataError for none."""
    trained = identity.trained.has(checked.digests)
    held_out = identity.held_out.has(checked.digests)
    masks = {
        "everything": np.ones_like(trained),
        "not trained on": ~trained,
        "held out": held_out,
        "trained on": trained,
    }
    mask = masks[wanted.choice]
    if not mask.any():
        raise DataError(_none_left(wanted, len(mask)))
    kept = checked.subset(np.flatnonzero(mask))
    same = trained[mask]
    looks_known = identity.trained.looks_like(kept.thumbnails)
    alike = looks_known & ~same
    names = []
    for place in np.flatnonzero(same | alike):
        names.append(kept.split.pictures.name(int(place)))
    only_held_out = held_out & ~trained
    overlap = Overlap(
        pictures=len(mask),
        trained_on=int(trained.sum()),
        held_out=int(only_held_out.sum()),
        choice=wanted.choice,
        same=same,
        alike=alike,
        names=tuple(names),
        complete=identity.complete,
    )
    return kept, overlap


def _none_left(wanted: Wanted, count: int) -> str:
    """Why no picture is left to judge by, and what to do."""
    pictures = counted(count, "picture")
    if wanted.choice == "not trained on":
        were = agreeing(count, "the only picture was", f"all {pictures} were")
        return (
            f"{were} trained on, so that none is left to judge by; give other pictures, or --split all to see how well "
            "the model remembers"
        )
    return f"none of the {pictures} was {wanted.choice}; give the data that the model was trained with"


UNKNOWN_PARENT = (
    "training began from weights whose own pictures are not known: if these are among them, the figures are too good"
)
UNKNOWN = (
    "the model file does not say which pictures it was trained on: if these are among them, the figures are too good"
)
