"""DATA as a user types it -> Source."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skipway.data.arrays import (
    CIFAR10_LABELS,
    DIGIT_LABELS,
    FASHION_LABELS,
    array_split,
    error_text,
    read_digits,
    read_hdf5,
    read_idx_folder,
    read_npz_source,
)
from skipway.data.dataset import FilePictures, Source, Split
from skipway.data.folders import read_folder
from skipway.data.shards import INDEX, SPLITS, read_shards, shards_in, shards_of
from skipway.errors import DataError, UnknownNameError


def open_source(data: str | Path) -> Source:
    """The data set that `data` names: `digits`, `mnist:DIR` and its kin, a folder, shards, an .npz or an .h5.

    Shards are a folder that `skipway pack` wrote, or any of .tar files, or `DIR/{000..012}.tar`.

    Raises UnknownNameError for a form that does not exist and DataError for data that cannot be read.
    """
    if not isinstance(data, str | Path):
        raise DataError(f"data is {type(data).__name__}; give a path, or a name such as digits")
    text = str(data)
    if not text:
        raise DataError("no data were named; give a folder of class folders, or digits")
    form, colon, rest = text.partition(":")
    path = Path(text)
    if text == "digits":
        return read_digits()
    if colon and not path.exists():
        if form not in NAMED or not rest:
            raise UnknownNameError("data form", text, [f"{name}:DIR" for name in NAMED] + ["digits"])
        return NAMED[form](Path(rest))
    if path.is_dir():
        return _folder(path)
    if (shards := shards_of(text)) is not None:
        return read_shards({_split_of(path.parent): shards}, _home(path.parent))
    if path.is_file():
        return _file(path)
    if len(path.parts) == 1 and not path.suffix and not path.exists():
        known = ["digits", *(f"{name}:DIR" for name in NAMED)]
        raise UnknownNameError("data", text, known, hint="and there is no folder of that name")
    if path.exists():
        raise DataError(f"{text} is a pipe or a device; give a folder or a file")
    raise DataError(f"no file or folder {text}; check the path")


def _folder(path: Path) -> Source:
    if (path / "train.npz").is_file() or (path / "test.npz").is_file():
        return read_npz_source(path)
    if shards := shards_in(path):
        return read_shards(shards, _home(path))
    return read_folder(path)


def _home(folder: Path) -> Path:
    """Where the index of shards in `folder` lies: there, or above it where that is one of several splits."""
    return folder.parent if _split_of(folder) != "all" and not (folder / INDEX).exists() else folder


def _split_of(folder: Path) -> str:
    return folder.name if folder.name in SPLITS and (folder.parent / INDEX).exists() else "all"


def _file(path: Path) -> Source:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return read_npz_source(path)
    if suffix in {".h5", ".hdf5"}:
        return read_hdf5(path)
    raise DataError(f"{path} is no data set; give a folder of class folders, an .npz or an .h5 file")


def _mnist(folder: Path) -> Source:
    return _idx("mnist", "MNIST", folder, DIGIT_LABELS, mirrors=False)


def _fashion_mnist(folder: Path) -> Source:
    return _idx("fashion-mnist", "FashionMNIST", folder, FASHION_LABELS, mirrors=True)


def _idx(name: str, loader: str, folder: Path, labels: tuple[str, ...], *, mirrors: bool) -> Source:
    for place in (folder, folder / loader / "raw", folder / "raw"):
        splits = read_idx_folder(place)
        if splits is not None:
            return Source(name, labels, splits, mirrors=mirrors)
    parts = {part: _download(loader, folder, train=part == "train") for part in ("train", "test")}
    splits = {part: array_split(data.data.numpy(), data.targets.numpy(), name) for part, data in parts.items()}
    return Source(name, labels, splits, mirrors=mirrors)


def _cifar10(folder: Path) -> Source:
    if (folder / "train.npz").is_file():
        return replace(read_npz_source(folder, CIFAR10_LABELS), name="cifar10")
    parts = {part: _download("CIFAR10", folder, train=part == "train") for part in ("train", "test")}
    splits = {part: array_split(data.data, np.asarray(data.targets), "cifar10") for part, data in parts.items()}
    return Source("cifar10", CIFAR10_LABELS, splits)


def _flowers102(folder: Path) -> Source:
    splits: dict[str, Split] = {}
    for name in ("train", "val", "test"):
        data = _download("Flowers102", folder, split=name)
        files = [Path(file) for file in data._image_files]
        splits[name] = Split(FilePictures(files), np.array(data._labels, np.int64))
    names = getattr(data, "classes", None) or [str(i) for i in range(102)]
    return Source("flowers102", tuple(names), splits)


def _download(loader: str, folder: Path, **arguments: Any) -> Any:
    """torchvision's loader, which verifies checksums and fetches what is absent."""
    import torchvision.datasets

    try:
        return getattr(torchvision.datasets, loader)(str(folder), download=True, **arguments)
    except (OSError, RuntimeError, ValueError, EOFError, http.client.HTTPException) as error:
        raise DataError(
            f"{folder} lacks the files of {loader} and they could not be fetched ({error_text(error)}); "
            "put them there or try again with a network"
        ) from None


NAMED: dict[str, Callable[[Path], Source]] = {
    "mnist": _mnist,
    "fashion-mnist": _fashion_mnist,
    "cifar10": _cifar10,
    "flowers102": _flowers102,
}
