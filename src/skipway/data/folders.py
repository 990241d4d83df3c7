"""Folders of class folders, with folders `train`, `val` and `test` above them or without."""

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

# The endings of files that often lie beside pictures, and that nobody would take for pictures.
_COMPANIONS = frozenset(
    (".txt", ".md", ".csv", ".json", ".xml", ".yaml", ".yml", ".db", ".ini", ".html", ".npz", ".py")
)
_LISTED_SUFFIXES = 4

# The names of folders that can hold a split.
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
    """The source of a folder.

    Its labels are the names of the class folders in natural order. Raises DataError where there are no class folders,
    or no pictures in one of them.
    """
    folders = _subfolders(root)
    parts = _split_folders(folders)
    name = root.resolve().name
    has_other_folders = len(folders) > len(parts)
    are_classes = "train" not in parts and has_other_folders
    if not parts or are_classes:
        labels = _labels(root)
        splits = {"all": _read_classes(root, labels)}
        return Source(name, labels, splits, remark=_remark_on_other_files(root))
    if "train" in parts:
        labels = _labels(parts["train"])
    else:
        first_folder = next(iter(parts.values()))
        labels = _labels(first_folder)
    splits = {split: _read_classes(folder, labels) for split, folder in parts.items()}
    return Source(name, labels, splits, remark=_remark_on_other_files(root))


def _split_folders(folders: Sequence[Path]) -> dict[str, Path]:
    """Those of some folders that hold a split, by the name of the split."""
    named: dict[str, Path] = {}
    for folder in folders:
        split = _SPLITS.get(folder.name.lower())
        if split is not None:
            named[split] = folder
    # A class may be called "test". A folder counts as a split only where it has class folders of its own.
    divided = {split: folder for split, folder in named.items() if _subfolders(folder)}
    if not divided and len(named) == len(folders):
        # These are splits whose pictures are not in class folders, and not two classes "train" and "test". The reader
        # of their labels refuses them.
        return named
    return divided


def read_validation_folder(root: Path, labels: Sequence[str]) -> Split:
    """The split of a folder of class folders, which `--val DIR` names.

    Arguments:
        root: the folder.
        labels: the labels of the training pictures. The folder may lack some of them.

    Raises DataError where there is no such folder, and for a class that the training pictures lack.
    """
    if not root.is_dir():
        raise DataError(f"no folder {root}; --val takes a fraction such as 0.1 or a folder of class folders")
    return _read_classes(root, labels)


def _subfolders(root: Path) -> list[Path]:
    """The folders in a folder, in natural order of their names, without hidden ones. Raises DataError."""
    folders = []
    try:
        for entry in root.iterdir():
            is_hidden = entry.name.startswith((".", "__MACOSX"))
            if entry.is_dir() and not is_hidden:
                folders.append(entry)
    except OSError as error:
        raise DataError(f"{root} cannot be read ({error.strerror}); check its permissions") from None
    return sorted(folders, key=lambda folder: natural_key(folder.name))


def _labels(root: Path) -> tuple[str, ...]:
    """The names of the class folders in a folder. Raises DataError where there are none."""
    labels = tuple(folder.name for folder in _subfolders(root))
    if labels:
        return labels
    has_pictures = any(is_picture_name(entry) for entry in root.iterdir())
    if has_pictures:
        raise DataError(
            f"{root} holds pictures but no class folders; put each class's pictures in a folder of its name"
        )
    raise DataError(f"{root} holds no pictures; it needs one folder of pictures for each class")


def _read_classes(root: Path, labels: Sequence[str]) -> Split:
    """The pictures in the class folders of a folder.

    Raises DataError for a class that is not among `labels`, and for one without pictures.
    """
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
        target = labels.index(folder.name)
        files += found
        targets += [target] * len(found)
    if not files:
        raise DataError(f"{root} holds no pictures; it needs one folder of pictures for each class")
    return Split(FilePictures(files), np.array(targets, np.int64))


def _files_below(folder: Path) -> Iterator[tuple[str, str]]:
    """The folder and the name of each file in a folder and below it, except of files in hidden folders."""
    for parent, folders, names in os.walk(folder):
        # os.walk goes into the folders that this list has afterwards. Hidden ones, such as Jupyter's checkpoints, hold
        # copies.
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            yield parent, name


def _remark_on_other_files(root: Path) -> str:
    """A remark about files that are not used because of their names, such as a phone's .heic; "" if there are none."""
    counts: Counter[str] = Counter()
    for _, name in _files_below(root):
        file = Path(name)
        suffix = file.suffix.lower()
        is_expected = is_picture_name(file) or suffix in _COMPANIONS
        is_hidden = name.startswith(".")
        if not is_expected and not is_hidden:
            counts[suffix] += 1
    if not counts:
        return ""
    listed = []
    for suffix, count in counts.most_common(_LISTED_SUFFIXES):
        suffix_text = suffix or "no suffix"
        listed.append(f"{suffix_text} {count:,}")
    text = ", ".join(listed)
    total = counts.total()
    files = counted(total, "file")
    are_no_pictures = agreeing(total, "is not taken for a picture", "are not taken for pictures")
    them = agreeing(total, "it", "them")
    return f"{files} {are_no_pictures} ({text}); convert {them} to JPEG or PNG to use {them}"


def _pictures_below(folder: Path) -> list[Path]:
    """The picture files in a folder and below it, in natural order of their paths."""
    pictures = []
    for parent, name in _files_below(folder):
        if is_picture_name(Path(name)):
            pictures.append(Path(parent) / name)
    return sorted(pictures, key=lambda file: natural_key(str(file.relative_to(folder))))
