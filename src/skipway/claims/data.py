"""The pictures that claims run on, and the smaller sets that the quick budget cuts from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from skipway.claims.arm import Arm, Data
from skipway.data.dataset import ArrayPictures, Pictures, Split, joined
from skipway.data.sources import open_source
from skipway.errors import DataError, SkipwayError
from skipway.files import write_whole

_SUBSET_SEED = 20_150_000  # of which pictures are in a smaller set: the same for all seeds of a claim
_FETCHED = ("cifar10", "mnist")
_NAMES: dict[Data, str] = {
    "cifar10": "the files of CIFAR-10",
    "mnist": "the files of MNIST",
    "signs": "the hand signs",
}
# By which a folder is known to hold what its name says; one of them is enough.
_FILES: dict[Data, tuple[str, ...]] = {
    "cifar10": ("train.npz", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
    "mnist": ("train-images*", "raw/train-images*", "MNIST/raw/train-images*"),
    "signs": ("train/*",),
}


@dataclass(frozen=True)
class ArmData:
    """Where the pictures of a run lie, as `skipway train` reads them, and a digest of what they are."""

    data: str
    digest: str


def require_data(data: str, kinds: set[Data], cache: Path) -> dict[Data, str]:
    """What to open for each kind of data: below the folder `data`, or, where that is empty, fetched to `cache`.

    Raises DataError that says what to type.
    """
    found: dict[Data, str] = {}
    for kind in sorted(kinds):
        fetched = kind in _FETCHED
        if data:
            folder = Path(data) / kind
            _require_files(folder, kind)
        elif fetched:
            folder = cache / kind
        else:
            raise DataError(f"nothing fetches {kind}; give --data DIR, where DIR/{kind} has train/ and test/ folders")
        found[kind] = f"{kind}:{folder}" if fetched else str(folder)
    return found


def _require_files(folder: Path, kind: Data) -> None:
    """Raises DataError for a folder that has none of the files by which its kind of data is known."""
    patterns = _FILES[kind]
    for pattern in patterns:
        if any(folder.glob(pattern)):
            return
    fix = f"put {_NAMES[kind]} there"
    if kind in _FETCHED:
        fix += ", or leave --data out, which fetches them"
    raise DataError(f"{folder} has none of {', '.join(patterns)}; {fix}")


def place_for(arm: Arm, opened: dict[Data, str], cache: Path) -> ArmData:
    """Where the pictures of an arm lie; a smaller set is written to `cache` first.

    `opened` is what `require_data` returns. Raises DataError and StorageError.
    """
    data = opened[arm.data]
    splits = open_source(data).splits
    if "train" not in splits or "test" not in splits:
        raise DataError(f"{data} has {', '.join(splits)}; a claim needs a train and a test part")
    train, test = splits["train"], splits["test"]
    divided = "val" in splits
    if divided:  # by somebody else: the claims train on all that is not for the test
        train = joined(train, splits["val"])
    whole = "".join(split.fingerprint() for split in splits.values())
    if not arm.pictures and not arm.test_pictures and not divided:
        return ArmData(data, whole)
    train_count = arm.pictures or len(train)
    test_count = arm.test_pictures or len(test)
    sizes = f"{arm.data}-{train_count}-{test_count}"
    digest = hashlib.sha256(f"{whole} {sizes} {_SUBSET_SEED}".encode()).hexdigest()[:12]
    folder = cache / f"{sizes}-{digest}"
    if not _is_whole(folder):
        _write_smaller(train, train_count, folder / "train.npz")
        _write_smaller(test, test_count, folder / "test.npz")
    return ArmData(str(folder), digest)


def _is_whole(folder: Path) -> bool:
    """Whether both parts are there and can be read: a damaged one is written again."""
    try:
        splits = open_source(str(folder)).splits
    except SkipwayError:
        return False
    return "train" in splits and "test" in splits


def smaller(split: Split, count: int) -> Split:
    """So many pictures, as even over the classes as can be, always the same ones, in the order of `split`.

    Raises DataError where there are fewer.
    """
    if count > len(split):
        raise DataError(f"{count:,} pictures are needed and there are {len(split):,}; give the whole data set")
    order = np.random.default_rng(_SUBSET_SEED).permutation(len(split))
    # The n-th picture of its class, in a random order: the smallest n first takes from every class alike.
    ranks = np.empty(len(split), np.int64)
    for target in np.unique(split.targets):
        members = order[split.targets[order] == target]
        ranks[members] = np.arange(len(members))
    by_rank = np.argsort(ranks[order], kind="stable")
    taken = order[by_rank[:count]]
    return split.subset(np.sort(taken))


def _write_smaller(split: Split, count: int, file: Path) -> None:
    """Write so many pictures of a split as an .npz. Raises DataError and StorageError."""
    part = smaller(split, count)
    write_whole(file, partial(_save, part))


def _save(split: Split, file: Path) -> None:
    """Write all pictures of a split, and their classes."""
    pictures = split.pictures
    if isinstance(pictures, ArrayPictures):
        array = pictures.array
    else:
        array = _decoded(pictures)
    with file.open("wb") as opened:
        np.savez(opened, x=array, y=split.targets)


def _decoded(pictures: Pictures) -> np.ndarray:
    """All pictures as one array. Raises DataError where their sizes differ."""
    arrays = [np.asarray(pictures[index]) for index in range(len(pictures))]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise DataError("the pictures of a claim have one size, and these differ; give those that it was made for")
    return np.stack(arrays)
