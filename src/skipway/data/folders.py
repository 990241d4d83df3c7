"""Folders of class folders, with `train/ val/ test/` above them or not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from skipway.data.dataset import FilePictures, Source, Split
from skipway.data.pictures import is_picture_name, natural_key
from skipway.errors import DataError
from skipway.reporting import agreeing, counted

# Companions of pictures that nobody would take for one.
_PLAIN = frozenset((".txt", ".md", ".csv", ".json", ".xml", ".yaml", ".yml", ".db", ".ini", ".html", ".npz", ".py"))

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def read_folder(root: Path) -> Source:
    """Source of a folder. Labels are the class folders' names in natural order. Raises DataError."""
    folders = _subfolders(root)
    named = {_SPLITS[one.name.lower()]: one for one in folders if one.name.lower() in _SPLITS}
    # A class may be called "test": only folders that hold class folders of their own count as splits.
    parts = {name: folder for name, folder in named.items() if _subfolders(folder)}
    if named and not parts and len(named) == len(folders):
        parts = named  # splits of bare pictures, not two classes "train" and "test": below, _labels says so
    if not parts or ("train" not in parts and len(folders) > len(parts)):
        labels = _labels(root)
        return Source(root.resolve().name, labels, {"all": _read_classes(root, labels)}, remark=_strangers(root))
    labels = _labels(parts.get("train") or next(iter(parts.values())))
    splits = {name: _read_classes(folder, labels) for name, folder in parts.items()}
    return Source(root.resolve().name, labels, splits, remark=_strangers(root))


def read_validation_folder(root: Path, labels: Sequence[str]) -> Split:
    """A folder of class folders with the training labels, as `--val DIR` names it. Raises DataError."""
    if not root.is_dir():
        raise DataError(f"no folder {root}; --val takes a fraction such as 0.1 or a folder of class folders")
    return _read_classes(root, labels)


def _subfolders(root: Path) -> list[Path]:
    try:
        found = [one for one in root.iterdir() if one.is_dir() and not one.name.startswith((".", "__MACOSX"))]
    except OSError as error:
        raise DataError(f"{root} cannot be read ({error.strerror}); check its permissions") from None
    return sorted(found, key=lambda one: natural_key(one.name))


def _labels(root: Path) -> tuple[str, ...]:
    labels = tuple(one.name for one in _subfolders(root))
    if labels:
        return labels
    if any(is_picture_name(one) for one in root.iterdir()):
        raise DataError(
            f"{root} holds pictures but no class folders; put each class's pictures in a folder of its name"
        )
    raise DataError(f"{root} holds no pictures; it needs one folder of pictures for each class")


def _read_classes(root: Path, labels: Sequence[str]) -> Split:
    files: list[Path] = []
    targets: list[int] = []
    for folder in _subfolders(root):
        if folder.name not in labels:
            raise DataError(
                f"{root} has a class '{folder.name}' that the training pictures lack; "
                "remove the folder or add one of that name to the training pictures"
            )
        found = _pictures_below(folder)
        if not found:
            raise DataError(f"class folder {folder} holds no pictures; add some or remove it")
        files += found
        targets += [labels.index(folder.name)] * len(found)
    if not files:
        raise DataError(f"{root} holds no pictures; it needs one folder of pictures for each class")
    return Split(FilePictures(files), np.array(targets, np.int64))


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    for parent, folders, names in os.walk(folder):
        # In place, which os.walk heeds: hidden folders, such as Jupyter's checkpoints, hold copies.
        folders[:] = [one for one in folders if not one.startswith(".")]
        yield parent, folders, names


def _strangers(root: Path) -> str:
    """A remark about files below that have no name of a picture, such as a phone's .heic; empty if there are none."""
    names = (Path(name) for _, _, names in _walk(root) for name in names if not name.startswith("."))
    counts = Counter(
        one.suffix.lower() for one in names if not is_picture_name(one) and one.suffix.lower() not in _PLAIN
    )
    if not counts:
        return ""
    listed = ", ".join(f"{suffix or 'no suffix'} {count:,}" for suffix, count in counts.most_common(4))
    count = counts.total()
    told = f"{counted(count, 'file')} {agreeing(count, 'is not taken for a picture', 'are not taken for pictures')}"
    it = agreeing(count, "it", "them")
    return f"{told} ({listed}); convert {it} to JPEG or PNG to use {it}"


def _pictures_below(folder: Path) -> list[Path]:
    found = [Path(parent) / name for parent, _, names in _walk(folder) for name in names if is_picture_name(Path(name))]
    return sorted(found, key=lambda one: natural_key(str(one.relative_to(folder))))
