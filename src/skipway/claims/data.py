"""The pictures that claims run on, and the smaller sets that the quick budget cuts from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from skipway.claims.claim import Arm, Data
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
# Of which one is enough to take a folder for what it is called.
_FILES: dict[Data, tuple[str, ...]] = {
    "cifar10": ("train.npz", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
    "mnist": ("train-images*", "raw/train-images*", "MNIST/raw/train-images*"),
    "signs": ("train/*",),
}


@dataclass(frozen=True)
class Place:
    """Where the pictures of a run lie, as `skipway train` reads them, and a digest of what they are."""

    data: str
    digest: str


def require_data(data: str, kinds: set[Data], cache: Path) -> dict[Data, str]:
    """What to open for each kind: below the folder `data`, or, where that is empty, fetched to `cache`.

    Raises DataError that says what to type.
    """
    found: dict[Data, str] = {}
    for kind in sorted(kinds):
        if not data and kind not in _FETCHED:
            raise DataError(f"nothing fetches {kind}; give --data DIR, where DIR/{kind} has train/ and test/ folders")
        folder = Path(data) / kind if data else cache / kind
        if data and not any(any(folder.glob(one)) for one in _FILES[kind]):
            away = ", or leave --data out, which fetches them" if kind in _FETCHED else ""
            raise DataError(f"{folder} has none of {', '.join(_FILES[kind])}; put {_NAMES[kind]} there{away}")
        found[kind] = f"{kind}:{folder}" if kind in _FETCHED else str(folder)
    return found


def place_for(arm: Arm, opened: dict[Data, str], cache: Path) -> Place:
    """The pictures of an arm; a smaller set is written to `cache` first. Raises DataError and StorageError."""
    source = open_source(opened[arm.data])
    train, test = (source.splits.get(name) for name in ("train", "test"))
    if train is None or test is None:
        raise DataError(f"{opened[arm.data]} has {', '.join(source.splits)}; a claim needs a train and a test part")
    if "val" in source.splits:  # somebody's division: the claims train on all that is not for the test
        train = joined(train, source.splits["val"])
    whole = "".join(split.fingerprint() for split in source.splits.values())
    if not arm.pictures and not arm.test_pictures and "val" not in source.splits:
        return Place(opened[arm.data], whole)
    sizes = f"{arm.data}-{arm.pictures or len(train)}-{arm.test_pictures or len(test)}"
    digest = hashlib.sha256(f"{whole} {sizes} {_SUBSET_SEED}".encode()).hexdigest()[:12]
    folder = cache / f"{sizes}-{digest}"
    if not _is_whole(folder):
        for name, split, count in (("train", train, arm.pictures), ("test", test, arm.test_pictures)):
            write_whole(folder / f"{name}.npz", partial(_save, smaller(split, count or len(split))))
    return Place(str(folder), digest)


def _is_whole(folder: Path) -> bool:
    """Whether both parts are there and can be read: a damaged one is written again."""
    try:
        return {"train", "test"} <= set(open_source(str(folder)).splits)
    except SkipwayError:
        return False


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
    taken = order[np.argsort(ranks[order], kind="stable")[:count]]
    return split.subset(np.sort(taken))


def _save(split: Split, file: Path) -> None:
    pictures = split.pictures
    array = pictures.array if isinstance(pictures, ArrayPictures) else _decoded(pictures)
    with file.open("wb") as opened:
        np.savez(opened, x=array, y=split.targets)


def _decoded(pictures: Pictures) -> np.ndarray:
    every = [np.asarray(pictures[index]) for index in range(len(pictures))]
    if len({one.shape for one in every}) > 1:
        raise DataError("the pictures of a claim have one size, and these differ; give those that it was made for")
    return np.stack(every)
