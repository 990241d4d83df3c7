"""What an import could not know, as a value: its kind decides where it matters, its text is for the user."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# What is in doubt: how the network is built, how its pictures were prepared, its statistics, its answers.
Kind = Literal["network", "pictures", "statistics", "answers"]


@dataclass(frozen=True)
class Doubt:
    """One thing that a user should look at, in a line that names what decides it."""

    kind: Kind
    text: str


# Of a Keras file that neither prepares pictures in its layers nor states how they were prepared.
PICTURES_UNKNOWN = Doubt(
    "pictures", "the file does not say how its pictures were prepared: values from 0 to 1 are assumed"
)


def texts_of(doubts: Iterable[Doubt]) -> tuple[str, ...]:
    """The lines for the user."""
    return tuple(doubt.text for doubt in doubts)


def without(kind: Kind, doubts: Iterable[Doubt]) -> tuple[Doubt, ...]:
    """All doubts but those of one kind."""
    return tuple(doubt for doubt in doubts if doubt.kind != kind)
