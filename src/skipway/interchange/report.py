"""The report of an import: what it found, and what it decided where the file leaves things open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skipway.data.preprocessing import Preprocessing, picture_values, rule_text
from skipway.interchange.preparation.choosing import Choice
from skipway.interchange.source import WeightFile
from skipway.interchange.tensorflow.names import EntryKind, classified
from skipway.reporting import counted, escaped, joined_lines
from skipway.weights.bundle import Bundle

_MOST_SHOWN = 4


@dataclass(frozen=True)
class Decisions:
    """What no weight file says, or says beside its weights.

    Attributes:
        convention: By which convention pictures are prepared.
        rule: How pictures are prepared.
        labels: Where the labels are from.
        notes: What of the file was passed over.
        choice: The candidates for the network and its pictures, and which of them the file's statistics fit.
    """

    convention: str
    rule: Preprocessing
    labels: str
    notes: tuple[str, ...] = ()
    choice: Choice | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        preprocessing: dict[str, Any] = {"convention": self.convention}
        preprocessing.update(picture_values(self.rule))
        fit: dict[str, Any] = {}
        if self.choice is not None:
            fit = self.choice.to_dict()
        return {"preprocessing": preprocessing, "labels": self.labels, "notes": list(self.notes), "fit": fit}

    def describe(self) -> list[str]:
        """A line each."""
        pictures = f"{self.rule.size} pixels a side, {rule_text(self.rule)}"
        lines = [f"prepared  as by {self.convention}: {pictures}"]
        if self.choice is not None:
            lines += self.choice.describe()
        lines.append(f"labels    {self.labels}")
        for note in self.notes:
            lines.append(f"note      {note}")
        return lines


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        model: Name of the network.
        scheme: The scheme of names that found it.
        format: Format of the file.
        used: How many arrays were used.
        left: Names of the arrays that the user let stay unused.
        missing: Names of the tensors that had no array.
        warnings: What the user should know.
        to: The model file that was written.
        decisions: What was decided where the file leaves things open.
        statistics: Over which pictures the running statistics were recomputed; {} where they are the file's.
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
        facts: dict[str, Any] = {
            "model": self.model,
            "scheme": self.scheme,
            "format": self.format,
            "used": self.used,
            "left": list(self.left),
            "missing": list(self.missing),
        }
        facts.update(self.decisions.to_dict())
        facts["warnings"] = list(self.warnings)
        facts["to"] = str(self.to)
        facts["statistics"] = dict(self.statistics)
        return facts

    def describe(self) -> str:
        """The same as text."""
        lines = [
            f"network   {self.model}, by the names of {self.scheme} in a {self.format} file",
            f"tensors   {self.used} used, {len(self.left)} left over, {len(self.missing)} missing",
        ]
        for name in self.left:
            lines.append(f"left      {name}")
        lines += self.decisions.describe()
        for warning in self.warnings:
            lines.append(f"warning   {warning}")
        if self.statistics:
            facts = self.statistics
            pictures = counted(facts["pictures"], "picture")
            origin = f"{facts['split']} of {facts['data']}"
            unreadable = f"{facts['unreadable']} unreadable left out"
            lines.append(f"norms     running statistics recomputed over {pictures} ({origin}), {unreadable}")
        lines.append(f"model     {self.to}")
        return joined_lines(lines)


@dataclass(frozen=True)
class ReadWeights:
    """A weight file understood: the model that it is, and what there is to say about it."""

    bundle: Bundle
    scheme: str
    format: str
    used: int
    left: tuple[str, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    decisions: Decisions


def notes_of(source: WeightFile, average: str) -> tuple[str, ...]:
    """What a file holds beside the weights that were taken: averages, an optimizer, where training stood."""
    notes = source.notes
    lines = []
    has_averages = notes.get("averages") == ("raw", "ema")
    if has_averages or _has_average_variables(source):
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
        arrays = counted(count, "array")
        lines.append(f"not read: {arrays} of the optimizer")
    return tuple(lines)


def _has_average_variables(source: WeightFile) -> bool:
    """Whether a TensorFlow file has moving averages beside the variables."""
    if source.framework != "tensorflow":
        return False
    for name in source.arrays:
        kind = classified(name, source.arrays).kind
        if kind == EntryKind.AVERAGE:
            return True
    return False


def _some(texts: Sequence[str]) -> str:
    """The first texts, for a message."""
    shown = [escaped(text) for text in texts[:_MOST_SHOWN]]
    if len(texts) > _MOST_SHOWN:
        shown.append("...")
    return ", ".join(shown)
