"""The names of an imported network's classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skipway.errors import ModelFileError, ReadError
from skipway.files import read_bounded
from skipway.weights.imagenet import imagenet_names

IMAGENET = (1000, 1001)  # numbers of classes that are taken for ImageNet's; TF-Slim's 1,001 begin with the background


def labels_for(count: int, given: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The labels that are given, or else the default ones, and where they come from, in words.

    Raises ModelFileError for labels that name two classes alike.
    """
    if given:
        _require_distinct(given)
        return tuple(given), "those of --labels"
    if count == 0:
        return (), "none, for the file has no classifier"
    labels = default_labels(count)
    if count in IMAGENET:
        return labels, f"ImageNet's, for there are {count:,} classes; --labels FILE gives others"
    return labels, f"numbers from 0 to {count - 1}; --labels FILE names the classes"


def _require_distinct(labels: Sequence[str]) -> None:
    """Raises ModelFileError for a label that occurs twice. ImageNet itself has two cranes and two maillots."""
    if len(labels) in IMAGENET:
        return
    for label in labels:
        if labels.count(label) > 1:
            raise ModelFileError(f"the labels name two classes '{label[:100]}'; give each class a name of its own")


def default_labels(count: int) -> tuple[str, ...]:
    """ImageNet's 1,000 classes, TF-Slim's 1,001 with the background first, or numbers."""
    if count not in IMAGENET:
        return tuple(str(number) for number in range(count))
    names = imagenet_names()
    if count == 1001:
        names = ("background", *names)
    return names


def read_labels(file: Path) -> tuple[str, ...]:
    """The lines of a text file, in order, without empty ones. Raises ModelFileError."""
    try:
        content = read_bounded(file)
    except ReadError as error:
        raise ModelFileError(f"{file} {error.what}; give a text file with a label on each line") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelFileError(
            f"{file} cannot be read as text ({error}); give a file with a label on each line"
        ) from None
    labels: list[str] = []
    for line in text.splitlines():
        label = line.strip()
        if label:
            labels.append(label)
    return tuple(labels)
