"""Opens the data set that a user names."""

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

_DIGITS = "digits"  # the data set that comes with skipway


def open_source(data: str | Path) -> Source:
    """The data set that a user names.

    Arguments:
        data: `digits`; a named form such as `mnist:DIR`; a folder; shards; or a file .npz or .h5. Shards are a folder
            that `skipway pack` wrote, a folder of other .tar files, a .tar file, or a range `DIR/{000..012}.tar`.

    Raises UnknownNameError for a form that does not exist, and DataError for data that cannot be read.
    """
    if not isinstance(data, str | Path):
        raise DataError(f"data is {type(data).__name__}; give a path, or a name such as digits")
    text = str(data)
    if not text:
        raise DataError("no data were named; give a folder of class folders, or digits")
    if text == _DIGITS:
        return read_digits()
    path = Path(text)
    form, colon, folder = text.partition(":")
    if colon and not path.exists():
        if form not in NAMED or not folder:
            raise UnknownNameError("data form", text, [*_named_forms(), _DIGITS])
        read_named = NAMED[form]
        return read_named(Path(folder))
    if path.is_dir():
        return _read_any_folder(path)
    shards = shards_of(text)
    if shards is not None:
        parts = {_split_of(path.parent): shards}
        return read_shards(parts, _index_folder(path.parent))
    if path.is_file():
        return _read_any_file(path)
    if path.exists():
        raise DataError(f"{text} is a pipe or a device; give a folder or a file")
    is_single_word = len(path.parts) == 1 and not path.suffix
    if is_single_word:
        known = [_DIGITS, *_named_forms()]
        raise UnknownNameError("data", text, known, hint="and there is no folder of that name")
    raise DataError(f"no file or folder {text}; check the path")


def _named_forms() -> list[str]:
    """The forms of data with a name and a folder, as a user types them."""
    return [f"{name}:DIR" for name in NAMED]


def _read_any_folder(path: Path) -> Source:
    """The source of a folder: of .npz files, of shards, or of class folders."""
    for name in ("train.npz", "test.npz"):
        if (path / name).is_file():
            return read_npz_source(path)
    shards = shards_in(path)
    if shards:
        return read_shards(shards, _index_folder(path))
    return read_folder(path)


def _index_folder(folder: Path) -> Path:
    """The folder with the index of the shards in `folder`: the folder itself, or that above it for a single split."""
    has_index = (folder / INDEX).exists()
    is_split = _split_of(folder) != "all"
    if is_split and not has_index:
        return folder.parent
    return folder


def _split_of(folder: Path) -> str:
    """The split whose shards a folder holds."""
    is_split = folder.name in SPLITS and (folder.parent / INDEX).exists()
    if is_split:
        return folder.name
    return "all"


def _read_any_file(path: Path) -> Source:
    """The source of a file that is not a shard."""
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return read_npz_source(path)
    if suffix in {".h5", ".hdf5"}:
        return read_hdf5(path)
    raise DataError(f"{path} is no data set; give a folder of class folders, an .npz or an .h5 file")


def _mnist(folder: Path) -> Source:
    """MNIST, from its idx files in a folder."""
    return _read_idx_source("mnist", "MNIST", folder, DIGIT_LABELS, mirrors=False)


def _fashion_mnist(folder: Path) -> Source:
    """Fashion-MNIST, from its idx files in a folder."""
    return _read_idx_source("fashion-mnist", "FashionMNIST", folder, FASHION_LABELS, mirrors=True)


def _read_idx_source(name: str, loader: str, folder: Path, labels: tuple[str, ...], *, mirrors: bool) -> Source:
    """A data set of four idx files, which may lie where torchvision's class `loader` puts them."""
    for place in (folder, folder / loader / "raw", folder / "raw"):
        found = read_idx_folder(place)
        if found is not None:
            return Source(name, labels, found, mirrors=mirrors)
    train = _download(loader, folder, train=True)
    test = _download(loader, folder, train=False)
    splits = {
        "train": array_split(train.data.numpy(), train.targets.numpy(), name),
        "test": array_split(test.data.numpy(), test.targets.numpy(), name),
    }
    return Source(name, labels, splits, mirrors=mirrors)


def _cifar10(folder: Path) -> Source:
    """CIFAR-10, from `train.npz` and `test.npz` or from torchvision's files in a folder."""
    if (folder / "train.npz").is_file():
        source = read_npz_source(folder, CIFAR10_LABELS)
        return replace(source, name="cifar10")
    train = _download("CIFAR10", folder, train=True)
    test = _download("CIFAR10", folder, train=False)
    splits = {
        "train": array_split(train.data, np.asarray(train.targets), "cifar10"),
        "test": array_split(test.data, np.asarray(test.targets), "cifar10"),
    }
    return Source("cifar10", CIFAR10_LABELS, splits)


def _flowers102(folder: Path) -> Source:
    """Oxford's 102 flowers, from torchvision's files in a folder."""
    splits: dict[str, Split] = {}
    for name in ("train", "val", "test"):
        data = _download("Flowers102", folder, split=name)
        files = [Path(file) for file in data._image_files]
        targets = np.array(data._labels, np.int64)
        splits[name] = Split(FilePictures(files), targets)
    labels = getattr(data, "classes", None)
    if not labels:
        labels = [str(number) for number in range(102)]
    return Source("flowers102", tuple(labels), splits)


def _download(loader: str, folder: Path, **arguments: Any) -> Any:
    """A data set of torchvision, which verifies checksums and fetches the files that are missing. Raises DataError."""
    import torchvision.datasets

    data_set = getattr(torchvision.datasets, loader)
    try:
        return data_set(str(folder), download=True, **arguments)
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
