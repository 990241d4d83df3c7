"""What a data set is in memory, whatever its form on disk: labels, and named splits of pictures with targets."""

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
    """A sequence of pictures. Each is decoded when it is asked for."""

    def __len__(self) -> int:
        """The number of pictures."""
        ...

    def __getitem__(self, index: int) -> Picture:
        """The picture at a position, decoded."""
        ...

    def name(self, index: int) -> str:
        """What to call the picture in reports and error messages."""
        ...

    def subset(self, indices: np.ndarray) -> Pictures:
        """The pictures at these positions, in this order."""
        ...


class EncodedPictures(ABC):
    """Pictures in files, some of which may be bad. Each is read and decoded when it is asked for."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of pictures."""

    @abstractmethod
    def encoded(self, index: int) -> Encoded:
        """The file of a picture. Raises PictureError where it cannot be read."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What to call the picture in reports and error messages."""

    @abstractmethod
    def subset(self, indices: np.ndarray) -> Pictures:
        """The pictures at these positions, in this order."""

    @abstractmethod
    def joined(self, other: EncodedPictures) -> EncodedPictures:
        """These pictures, followed by `other` pictures of the same kind."""

    def __getitem__(self, index: int) -> Picture:
        """The picture at a position, decoded. Raises PictureError where it cannot be read or decoded."""
        encoded = self.encoded(index)
        return encoded.decoded()


class FilePictures(EncodedPictures):
    """Picture files on disk."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Pictures with these paths. The files are not opened."""
        self.files = tuple(files)

    def __len__(self) -> int:
        """The number of files."""
        return len(self.files)

    def encoded(self, index: int) -> Encoded:
        """The file at a position. Raises PictureError where it cannot be read."""
        name = self.name(index)
        data = read_bytes(self.files[index], name)
        return Encoded(data, name)

    def name(self, index: int) -> str:
        """The path of a file."""
        return str(self.files[index])

    def subset(self, indices: np.ndarray) -> FilePictures:
        """The files at these positions, in this order."""
        files = [self.files[index] for index in indices]
        return FilePictures(files)

    def joined(self, other: EncodedPictures) -> FilePictures:
        """These files and then those. Raises TypeError for pictures of another kind."""
        if not isinstance(other, FilePictures):
            raise TypeError("pictures of different kinds do not join")
        return FilePictures([*self.files, *other.files])


class ArrayPictures:
    """Pictures in memory."""

    def __init__(self, array: np.ndarray, origin: str, numbers: np.ndarray | None = None) -> None:
        """Pictures of an array.

        Arguments:
            array: uint8 (N, H, W) for grey pictures, or (N, H, W, C).
            origin: the name of the array's file or data set.
            numbers: the positions of the pictures in that file, for their names; 0 to N - 1 by default.
        """
        self.array = array
        self.origin = origin
        if numbers is None:
            numbers = np.arange(len(array))
        self.numbers = numbers

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.array)

    def __getitem__(self, index: int) -> Picture:
        """The picture at a position, uint8 (H, W) or (H, W, C)."""
        return self.array[index]

    def name(self, index: int) -> str:
        """The origin and the number of a picture, such as `digits[7]`."""
        return f"{self.origin}[{self.numbers[index]}]"

    def subset(self, indices: np.ndarray) -> ArrayPictures:
        """The pictures at these positions, in this order, with their names."""
        array = self.array[indices]
        numbers = self.numbers[indices]
        return ArrayPictures(array, self.origin, numbers)


@dataclass(frozen=True)
class Split:
    """Pictures and their targets."""

    pictures: Pictures
    targets: np.ndarray  # the number of each picture's class, int64 (N,)

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.targets)

    def subset(self, indices: np.ndarray) -> Split:
        """The pictures at these positions, in this order, with their targets."""
        pictures = self.pictures.subset(indices)
        return Split(pictures, self.targets[indices])

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when a picture is added, removed, renamed or gets another target.

        Pictures in memory count by their content, in place of their names.
        """
        targets = np.ascontiguousarray(self.targets)
        digest = hashlib.sha256(targets.tobytes())
        if isinstance(self.pictures, ArrayPictures):
            array = np.ascontiguousarray(self.pictures.array)
            digest.update(array.tobytes())
        else:
            for index in range(len(self)):
                name = self.pictures.name(index).encode("utf-8", "surrogateescape")
                digest.update(name + b"\0")
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Source:
    """A data set."""

    name: str
    labels: tuple[str, ...]  # the names of the classes, in the order of the targets
    splits: dict[str, Split]  # by name: `train`, `val` and `test`, or `all` where the data are not divided
    mirrors: bool = True  # whether a mirrored picture still shows its class; false for digits
    remark: str = ""  # what a user should know about the data

    def split(self, name: str) -> Split:
        """The named split. Raises UnknownNameError where the data set does not have it."""
        if name not in self.splits:
            raise UnknownNameError(f"split of {self.name}", name, list(self.splits))
        return self.splits[name]

    def evaluation_split(self) -> str:
        """The name of the split on which a model is evaluated by default: test, else val, else all, else train."""
        for name in ("test", "val", "all"):
            if name in self.splits:
                return name
        return "train"


def joined(first: Split, second: Split) -> Split:
    """The pictures of both splits, in order.

    Raises DataError for arrays of pictures of different sizes, and TypeError for pictures of different kinds.
    """
    targets = np.concatenate([first.targets, second.targets])
    pictures, others = first.pictures, second.pictures
    if isinstance(pictures, EncodedPictures) and isinstance(others, EncodedPictures):
        return Split(pictures.joined(others), targets)
    if isinstance(pictures, ArrayPictures) and isinstance(others, ArrayPictures):
        if pictures.array.shape[1:] != others.array.shape[1:]:
            raise DataError("the train and val parts have pictures of different sizes; resize them or drop --val 0")
        array = np.concatenate([pictures.array, others.array])
        return Split(ArrayPictures(array, pictures.origin), targets)
    raise TypeError("pictures in files and in memory do not join")


def hold_out(split: Split, fraction: float, seed: int, labels: Sequence[str]) -> tuple[Split, Split]:
    """Divide a split into a training part and a validation part.

    Arguments:
        split: the pictures. Their order stays within each part.
        fraction: the share of each class that goes to the validation part: at least one picture, but not all.
        seed: of the random choice.
        labels: the names of the classes, for the error message.

    Returns the training part and the validation part. Raises DataError where a class has a single picture.
    """
    draw = np.random.default_rng([seed, 1])
    held_out: list[np.ndarray] = []
    for target in np.unique(split.targets):
        members = np.flatnonzero(split.targets == target)
        if len(members) < 2:
            raise DataError(
                f"class '{labels[target]}' has one picture, which cannot both be trained on and held out; "
                "add pictures, remove the class, or give a validation folder with --val DIR"
            )
        count = max(round(len(members) * fraction), 1)
        count = min(count, len(members) - 1)
        shuffled = draw.permutation(members)
        held_out.append(shuffled[:count])
    mask = np.zeros(len(split), bool)
    mask[np.concatenate(held_out)] = True
    training = split.subset(np.flatnonzero(~mask))
    validation = split.subset(np.flatnonzero(mask))
    return training, validation
