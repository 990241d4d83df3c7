"""The one shape that every data form takes: labels, and named splits of pictures with targets."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from skipway.data.encoded import Encoded
from skipway.data.pictures import read_bytes
from skipway.data.preprocessing import Picture
from skipway.errors import DataError, UnknownNameError


class Pictures(Protocol):
    """A sequence of pictures, decoded when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Picture: ...

    def name(self, index: int) -> str:
        """What to call the picture in reports and error messages."""
        ...

    def subset(self, indices: np.ndarray) -> Pictures:
        """The pictures at these positions, in this order."""
        ...


class EncodedPictures(ABC):
    """Pictures that lie in files, and may therefore be bad: each is decoded when asked for."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def encoded(self, index: int) -> Encoded:
        """The file of a picture. Raises PictureError where it cannot be read."""

    @abstractmethod
    def name(self, index: int) -> str: ...

    @abstractmethod
    def subset(self, indices: np.ndarray) -> Pictures: ...

    @abstractmethod
    def joined(self, other: EncodedPictures) -> EncodedPictures:
        """These pictures and then those, of the same kind."""

    def __getitem__(self, index: int) -> Picture:
        return self.encoded(index).decoded()


class FilePictures(EncodedPictures):
    """Picture files on disk."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)

    def __len__(self) -> int:
        return len(self.files)

    def encoded(self, index: int) -> Encoded:
        name = self.name(index)
        return Encoded(read_bytes(self.files[index], name), name)

    def name(self, index: int) -> str:
        return str(self.files[index])

    def subset(self, indices: np.ndarray) -> FilePictures:
        return FilePictures([self.files[i] for i in indices])

    def joined(self, other: EncodedPictures) -> FilePictures:
        if not isinstance(other, FilePictures):
            raise TypeError("pictures of different kinds do not join")
        return FilePictures([*self.files, *other.files])


class ArrayPictures:
    """uint8 pictures in memory: (N, H, W) grey or (N, H, W, C)."""

    def __init__(self, array: np.ndarray, origin: str, numbers: np.ndarray | None = None) -> None:
        self.array = array
        self.origin = origin
        self.numbers = np.arange(len(array)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> Picture:
        return self.array[index]

    def name(self, index: int) -> str:
        return f"{self.origin}[{self.numbers[index]}]"

    def subset(self, indices: np.ndarray) -> ArrayPictures:
        return ArrayPictures(self.array[indices], self.origin, self.numbers[indices])


@dataclass(frozen=True)
class Split:
    """Pictures and their targets, int64 (N,)."""

    pictures: Pictures
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, indices: np.ndarray) -> Split:
        return Split(self.pictures.subset(indices), self.targets[indices])

    def fingerprint(self) -> str:
        """Changes when a picture is added, removed, renamed or relabelled. In-memory pictures count by content."""
        digest = hashlib.sha256(np.ascontiguousarray(self.targets).tobytes())
        if isinstance(self.pictures, ArrayPictures):
            digest.update(np.ascontiguousarray(self.pictures.array).tobytes())
        else:
            for index in range(len(self)):
                digest.update(self.pictures.name(index).encode("utf-8", "surrogateescape") + b"\0")
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Source:
    """A data set: its labels in order and its splits (`train`, `val`, `test`, or `all` where it has none).

    `mirrors`: a mirrored picture still shows its class (false for digits). `remark`: what a user should know of it.
    """

    name: str
    labels: tuple[str, ...]
    splits: dict[str, Split]
    mirrors: bool = True
    remark: str = ""

    def split(self, name: str) -> Split:
        """The named split; `all` joins nothing and exists only where the data came without splits."""
        if name not in self.splits:
            raise UnknownNameError(f"split of {self.name}", name, list(self.splits))
        return self.splits[name]

    def evaluation_split(self) -> str:
        """The split to judge a model on when nobody says which: test, else val, else all there is."""
        return next(name for name in ("test", "val", "all", "train") if name in self.splits)


def joined(one: Split, other: Split) -> Split:
    """The pictures of both, in order. Raises DataError where arrays of different sizes would have to be one."""
    targets = np.concatenate([one.targets, other.targets])
    first, second = one.pictures, other.pictures
    if isinstance(first, EncodedPictures) and isinstance(second, EncodedPictures):
        return Split(first.joined(second), targets)
    if isinstance(first, ArrayPictures) and isinstance(second, ArrayPictures):
        if first.array.shape[1:] != second.array.shape[1:]:
            raise DataError("the train and val parts have pictures of different sizes; resize them or drop --val 0")
        return Split(ArrayPictures(np.concatenate([first.array, second.array]), first.origin), targets)
    raise TypeError("pictures in files and in memory do not join")


def hold_out(split: Split, fraction: float, seed: int, labels: Sequence[str]) -> tuple[Split, Split]:
    """Training and validation parts, stratified: of each class `fraction`, at least one, in the order of `split`.

    Raises DataError where a class is too small to be divided.
    """
    draw = np.random.default_rng([seed, 1])
    held: list[np.ndarray] = []
    for target in np.unique(split.targets):
        members = np.flatnonzero(split.targets == target)
        if len(members) < 2:
            raise DataError(
                f"class '{labels[target]}' has one picture, which cannot both be trained on and held out; "
                "add pictures, remove the class, or give a validation folder with --val DIR"
            )
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held.append(draw.permutation(members)[:count])
    mask = np.zeros(len(split), bool)
    mask[np.concatenate(held)] = True
    return split.subset(np.flatnonzero(~mask)), split.subset(np.flatnonzero(mask))
