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

    Of `pictures` in the part, `trained_on` have the very bytes of training pictures and `held_out` those of held-out
    ones. `choice` says which were judged. Of these, `same` were trained on, and `alike` only look like pictures that
    were: bool (judged,) each. `names` are those of the judged ones that are either. Not `complete` where the model
    began from weights whose pictures nobody knows.
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
        if not known.any() or known.all() or len(evaluation.indices) != len(known):
            return None
        fresh = ~known[evaluation.indices.numpy()]
        right = (evaluation.answers == evaluation.targets).numpy()
        return float(right[fresh].mean())

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
        lines = [self._which(part)] if self.choice != "everything" else []
        same, alike = int(self.same.sum()), int(self.alike.sum())
        count = len(self.same)
        judged = agreeing(count, "1 picture", f"these {count:,} pictures")
        were = agreeing(same, "was", "were")
        if not self.complete:
            lines.append(UNKNOWN_PARENT)
        if alike and same + alike == len(self.same):
            look = agreeing(count, "the only picture looks", f"all of {judged} were trained on, or look")
            lines.append(f"NO MEASURE: {look} like pictures that were trained on (the same, saved again or resized)")
            return lines
        if same and (part in {"all", "train"} or self.choice == "trained on" or same == len(self.same)):
            lines.append(
                f"NO MEASURE: {same:,} of {judged} {were} trained on; the figures say how well the model remembers, "
                "not how good it is"
            )
        elif same:
            lines.append(f"{same:,} of {judged} {were} trained on{self._named(self.same)}")
        if alike:
            lines.append(
                f"{alike:,} of these pictures {agreeing(alike, 'looks', 'look')} like pictures that were trained on "
                f"(the same, saved again or resized){self._named(self.alike)}"
            )
        without = self.top1_without(evaluation)
        if without is not None:
            lines.append(f"without them top-1 is {without:.2%}")
        return lines

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
        known = np.flatnonzero(self.same | self.alike)
        names = [escaped(name) for name, index in zip(self.names, known, strict=True) if which[index]]
        more = f", and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        return f": {', '.join(names[:_NAMED])}{more}"


def wanted_part(source: Source, split: str, identity: Identity | None) -> Wanted:
    """The part and the choice that `split` means: a name, or empty for what is fit to judge by.

    Raises UnknownNameError for a part that the data lack, and DataError where the model file does not say what it was
    trained on and the part cannot be told without.
    """
    if split in source.splits:
        return Wanted(split, "everything")
    if split in {"train", "val"} and set(source.splits) == {"all"}:
        if identity is None:
            raise DataError(
                f"{source.name} has no parts, and the model file does not say which of its pictures were held out; "
                "leave --split out"
            )
        return Wanted("all", "trained on" if split == "train" else "held out")
    if split:
        raise _no_such_part(source, split, identity)
    part = source.evaluation_split()
    mixed = part in {"all", "train"} and identity is not None
    return Wanted(part, "not trained on" if mixed else "everything")


def _no_such_part(source: Source, split: str, identity: Identity | None) -> UnknownNameError:
    parts = list(source.splits)
    if parts == ["all"] and identity is not None:  # which tells the two apart
        parts += ["train", "val"]
    fix = f"its parts: {', '.join(parts)}; give one of them with --split, or leave --split out"
    return UnknownNameError(f"split of {source.name}", split, parts, hint=fix)


def chosen(checked: Checked, wanted: Wanted, identity: Identity) -> tuple[Checked, Overlap]:
    """The pictures that are to be judged, and how they relate to the model's training. Raises DataError for none."""
    trained = identity.trained.has(checked.digests)
    held = identity.held_out.has(checked.digests)
    masks = {"everything": np.ones_like(trained), "not trained on": ~trained, "held out": held, "trained on": trained}
    mask = masks[wanted.choice]
    if not mask.any():
        raise DataError(_none_left(wanted, len(mask)))
    kept = checked.subset(np.flatnonzero(mask))
    same = trained[mask]
    alike = identity.trained.looks_like(kept.thumbnails) & ~same
    names = tuple(kept.split.pictures.name(int(index)) for index in np.flatnonzero(same | alike))
    overlap = Overlap(
        len(mask),
        int(trained.sum()),
        int((held & ~trained).sum()),
        wanted.choice,
        same,
        alike,
        names,
        identity.complete,
    )
    return kept, overlap


def _none_left(wanted: Wanted, count: int) -> str:
    if wanted.choice == "not trained on":
        were = agreeing(count, "the only picture was", f"all {counted(count, 'picture')} were")
        return (
            f"{were} trained on, so that none is left to judge by; give other pictures, or --split all to see how well "
            "the model remembers"
        )
    return f"none of the {counted(count, 'picture')} was {wanted.choice}; give the data that the model was trained with"


UNKNOWN_PARENT = (
    "training began from weights whose own pictures are not known: if these are among them, the figures are too good"
)
UNKNOWN = (
    "the model file does not say which pictures it was trained on: if these are among them, the figures are too good"
)
