"""What an import found, what it decided where the file leaves things open, and how both are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skipway.data.preprocessing import Preprocessing, picture_values, rule_text
from skipway.interchange.preparation.choosing import Choice
from skipway.interchange.source import Source
from skipway.interchange.tensorflow.names import Kind, classified
from skipway.reporting import counted, escaped, joined_lines
from skipway.weights.bundle import Bundle

_MOST_SHOWN = 4


@dataclass(frozen=True)
class Decisions:
    """What no weight file says, or says beside its weights: how pictures are prepared, by which convention, where the
    labels are from, and what of the file was passed over.
    """

    convention: str
    rule: Preprocessing
    labels: str
    notes: tuple[str, ...] = ()
    choice: Choice | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "preprocessing": {"convention": self.convention, **picture_values(self.rule)},
            "labels": self.labels,
            "notes": list(self.notes),
            "fit": self.choice.to_dict() if self.choice else {},
        }

    def describe(self) -> list[str]:
        """A line each."""
        return [
            f"prepared  as by {self.convention}: {self.rule.size} pixels a side, {rule_text(self.rule)}",
            *(self.choice.describe() if self.choice else []),
            f"labels    {self.labels}",
            *(f"note      {note}" for note in self.notes),
        ]


@dataclass(frozen=True)
class Imported:
    """What an import did: the network and the scheme of names that found it, how many arrays were used, which were left
    over by leave, and what the user should know. `statistics` tells over which pictures the running ones were
    recomputed, {} where they are the file's.
    """

    model: str
    scheme: str
    format: str
    used: int
    left: tuple[str, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    to: Path
    decisions: Decisions
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "scheme": self.scheme,
            "format": self.format,
            "used": self.used,
            "left": list(self.left),
            "missing": list(self.missing),
            **self.decisions.to_dict(),
            "warnings": list(self.warnings),
            "to": str(self.to),
            "statistics": dict(self.statistics),
        }

    def describe(self) -> str:
        """The same as text."""
        lines = [
            f"network   {self.model}, by the names of {self.scheme} in a {self.format} file",
            f"tensors   {self.used} used, {len(self.left)} left over, {len(self.missing)} missing",
            *(f"left      {name}" for name in self.left),
            *self.decisions.describe(),
            *(f"warning   {warning}" for warning in self.warnings),
            f"model     {self.to}",
        ]
        if self.statistics:
            lines.insert(
                -1,
                "norms     running statistics recomputed over {counted_pictures} ({split} of {data}), {unreadable} "
                "unreadable left out".format(
                    **self.statistics, counted_pictures=counted(self.statistics["pictures"], "picture")
                ),
            )
        return joined_lines(lines)


@dataclass(frozen=True)
class Found:
    """A weight file understood: the model that it is, and what there is to say about it."""

    bundle: Bundle
    scheme: str
    format: str
    used: int
    left: tuple[str, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    decisions: Decisions


def notes_of(source: Source, average: str) -> tuple[str, ...]:
    """What a file holds beside the weights that were taken: averages, an optimizer, where training stood."""
    notes = source.notes
    lines = []
    if notes.get("averages") == ("raw", "ema") or _has_averages(source):
        if average == "ema":
            lines.append("averaged weights, not the last ones, are taken; --average raw takes those")
        else:
            lines.append("the file holds averaged weights, too: --average ema takes them")
    checkpoint = notes.get("checkpoint")
    if checkpoint:
        values = [f"{key} {value}" for key, value in checkpoint.items()]
        lines.append(f"the file says: {_some(values)}")
    left_out = notes.get("left_out")
    if left_out:
        lines.append(f"not read: {_some(left_out)}")
    count = notes.get("optimizer_weights")
    if count:
        lines.append(f"not read: {counted(count, 'array')} of the optimizer")
    return tuple(lines)


def _has_averages(source: Source) -> bool:
    """Whether a TensorFlow file has moving averages beside the variables."""
    if source.framework != "tensorflow":
        return False
    kinds = [classified(name, source.arrays).kind for name in source.arrays]
    return Kind.AVERAGE in kinds


def _some(texts: Sequence[str]) -> str:
    shown = ", ".join(escaped(text) for text in texts[:_MOST_SHOWN])
    return f"{shown}, ..." if len(texts) > _MOST_SHOWN else shown
