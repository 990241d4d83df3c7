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
        # ImageNet itself has two cranes and two maillots.
        repeated = [] if len(given) in IMAGENET else [label for label in given if given.count(label) > 1]
        if repeated:
            raise ModelFileError(
                f"the labels name two classes '{repeated[0][:100]}'; give each class a name of its own"
            )
        return tuple(given), "those of --labels"
    if count == 0:
        return (), "none, for the file has no classifier"
    if count in IMAGENET:
        return default_labels(count), f"ImageNet's, for there are {count:,} classes; --labels FILE gives others"
    return default_labels(count), f"numbers from 0 to {count - 1}; --labels FILE names the classes"


def default_labels(count: int) -> tuple[str, ...]:
    """ImageNet's 1,000 classes, TF-Slim's 1,001 with the background first, or numbers."""
    if count in IMAGENET:
        names = imagenet_names()
        return names if count == 1000 else ("background", *names)
    return tuple(str(number) for number in range(count))


def read_labels(file: Path) -> tuple[str, ...]:
    """The lines of a text file, in order. Raises ModelFileError."""
    try:
        lines = read_bounded(file).decode("utf-8-sig").splitlines()
    except ReadError as error:
        raise ModelFileError(f"{file} {error.what}; give a text file with a label on each line") from None
    except UnicodeDecodeError as error:
        raise ModelFileError(
            f"{file} cannot be read as text ({error}); give a file with a label on each line"
        ) from None
    return tuple(line.strip() for line in lines if line.strip())
