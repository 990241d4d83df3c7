"""Which pictures a run uses, known by their names within the data and by their content, not by their folder."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import itertools
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skipway.data.dataset import ArrayPictures, Split
from skipway.data.thumbnails import SIDE, look_alike
from skipway.errors import DataError
from skipway.files import write_whole
from skipway.reporting import agreeing, counted, escaped

DIGEST_BYTES = 16
SEEN_BYTES = 8  # of a digest; among a million pictures two share them once in 37 million data sets
MOST_THUMBNAILS = 200_000  # pictures; the thumbnails of more would be larger than the weights in the same file
_NAMED_DIFFERENCES = 3
_LONGEST_LINE = 2**15  # characters
_COLUMNS = ("part", "class", "digest", "name")

Row = tuple[str, str, str, str]  # part, class, digest in hexadecimal and name of a picture


def content_digest(data: bytes | memoryview) -> bytes:
    """BLAKE2b of a picture file, or of the counts of a picture in memory: 16 bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def array_digests(pictures: ArrayPictures) -> np.ndarray:
    """Digests of pictures in memory, uint8 (N, 16)."""
    count = len(pictures)
    rows = np.ascontiguousarray(pictures.array).reshape(count, -1)
    digests = b"".join(content_digest(row.data) for row in rows)
    return np.frombuffer(digests, np.uint8).reshape(count, DIGEST_BYTES)


@dataclass(frozen=True)
class Part:
    """One part of the pictures of a run."""

    name: str  # `train` or `val`
    names: tuple[str, ...]  # of the pictures, relative to the folder that they share
    classes: tuple[str, ...]  # the label of each picture
    digests: np.ndarray  # of the pictures' contents, uint8 (N, 16)

    def rows(self) -> Iterator[Row]:
        """Part, class, digest in hexadecimal and name of each picture."""
        for name, label, digest in zip(self.names, self.classes, self.digests, strict=True):
            hexadecimal = digest.tobytes().hex()
            yield self.name, label, hexadecimal, name


def part_of(name: str, split: Split, labels: Sequence[str], digests: np.ndarray) -> Part:
    """The part `name` of a run.

    Arguments:
        name: `train` or `val`.
        split: its pictures.
        labels: the names of the classes.
        digests: of the pictures' contents, uint8 (N, 16).
    """
    names = [split.pictures.name(index) for index in range(len(split))]
    classes = tuple(labels[target] for target in split.targets.tolist())
    return Part(name, _relative(names), classes, digests)


def _relative(names: Sequence[str]) -> tuple[str, ...]:
    """Names without the folder that all of them share, so that data may move to another folder."""
    if not names:
        return ()
    folders = [os.path.dirname(name) for name in names]  # noqa: PTH120
    shared = os.path.commonpath(folders)
    if not shared:
        return tuple(names)
    shorter = [name[len(shared) :].lstrip("/\\") for name in names]
    return tuple(shorter)


@dataclass(frozen=True)
class PictureList:
    """All pictures of a run, in order."""

    parts: tuple[Part, ...]

    def rows(self) -> Iterator[Row]:
        """Part, class, digest in hexadecimal and name of each picture."""
        for part in self.parts:
            yield from part.rows()

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of parts, classes, names and contents, in order."""
        digest = hashlib.sha256()
        for row in self.rows():
            line = "\0".join(row).encode("utf-8", "surrogateescape")
            digest.update(line + b"\0\n")
        return digest.hexdigest()

    def write(self, file: Path) -> None:
        """Write the list as gzipped CSV, whole or not at all. Raises StorageError."""
        write_whole(file, self._write)

    def _write(self, file: Path) -> None:
        """Write the list. The same pictures give the same bytes: the gzip header has neither name nor time."""
        with file.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed:
            text = io.TextIOWrapper(packed, encoding="utf-8", errors="surrogateescape", newline="")
            writer = csv.writer(text)
            writer.writerow(_COLUMNS)
            writer.writerows(self.rows())
            text.flush()

    def differences_from(self, file: Path) -> str:
        """A text about how these pictures differ from the list in `file`: some of those added, removed or changed.

        "" where the file cannot be read, or where it lists the same pictures.
        """
        count = sum(len(part.names) for part in self.parts)
        try:
            before = _read(file, limit=4 * count + 100_000)
        except (OSError, EOFError, zlib.error, ValueError, csv.Error, DataError):
            return ""
        now = _by_name(self.rows())
        new = [name for name in now if name not in before]
        missing = [name for name in before if name not in now]
        changed = []
        for name, contents in now.items():
            if name in before and contents != before[name]:
                changed.append(name)
        texts = []
        for kind, names in (("new", new), ("missing", missing), ("changed", changed)):
            if names:
                texts.append(f"{kind}: {_first_names(names)}")
        return "; ".join(texts)


Contents = dict[str, list[tuple[str, str]]]  # class and digest of the pictures of each name


def _by_name(rows: Iterable[Row]) -> Contents:
    """Class and digest of the pictures of each name. There are two where train and val have the same name."""
    found: Contents = {}
    for _, label, digest, name in rows:
        pictures = found.setdefault(name, [])
        pictures.append((label, digest))
    for pictures in found.values():
        pictures.sort()
    return found


def _read(file: Path, limit: int) -> Contents:
    """A list that `PictureList.write` wrote, by name. Only its first `limit` rows are read.

    Raises DataError for a file that is no such list, and the errors of gzip, csv and the system.
    """
    with gzip.open(file, "rt", encoding="utf-8", errors="surrogateescape", newline="") as text:
        reader = csv.reader(_bounded_lines(text))
        header = tuple(next(reader, ()))
        if header != _COLUMNS:
            raise DataError(f"{file} is no list of pictures")
        rows: list[Row] = []
        for part, label, digest, name in itertools.islice(reader, limit):
            rows.append((part, label, digest, name))
    return _by_name(rows)


def _bounded_lines(text: io.TextIOBase) -> Iterator[str]:
    """Lines, divided after 32,768 characters: a packed file may have a line that is longer than the memory."""
    while line := text.readline(_LONGEST_LINE):
        yield line


def _first_names(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    first = [escaped(name) for name in names[:_NAMED_DIFFERENCES]]
    text = ", ".join(first)
    more = len(names) - _NAMED_DIFFERENCES
    if more > 0:
        return f"{text} and {more:,} more"
    return text


@dataclass(frozen=True)
class Seen:
    """Pictures that were used in training or evaluation, known by their content and by their looks."""

    digests: np.ndarray  # the first 8 bytes of each picture's digest, uint8 (N, 8)
    thumbnails: np.ndarray  # uint8 (N, 64), or (0, 64) where there were too many to keep

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.digests)

    def has(self, digests: np.ndarray) -> np.ndarray:
        """Which of the pictures with these digests, uint8 (N, 8 or more), are among them: bool (N,)."""
        wanted = _keys(digests)
        known = _keys(self.digests)
        return np.isin(wanted, known)

    def looks_like(self, thumbnails: np.ndarray) -> np.ndarray:
        """Which of these thumbnails, uint8 (N, 64), look like one of theirs: bool (N,)."""
        return look_alike(thumbnails, self.thumbnails)

    def joined(self, other: Seen) -> Seen:
        """These pictures and those."""
        digests = np.concatenate([self.digests, other.digests])
        thumbnails = np.concatenate([self.thumbnails, other.thumbnails])
        return seen(digests, thumbnails)


def seen(digests: np.ndarray, thumbnails: np.ndarray) -> Seen:
    """The pictures with these digests, uint8 (N, 8 or more), and thumbnails, uint8 (N, 64)."""
    if len(digests) > MOST_THUMBNAILS:
        thumbnails = thumbnails[:0]
    shortened = np.ascontiguousarray(digests[:, :SEEN_BYTES])
    return Seen(shortened, np.ascontiguousarray(thumbnails))


NONE_SEEN = Seen(np.empty((0, SEEN_BYTES), np.uint8), np.empty((0, SIDE * SIDE), np.uint8))


@dataclass(frozen=True)
class Identity:
    """The pictures that a network was trained on, and those that were held out to evaluate it."""

    trained: Seen
    held_out: Seen
    complete: bool = True  # false where training began from weights whose own pictures are unknown

    def leaks(self) -> list[str]:
        """Messages about held-out pictures that the network was trained on, or that look like such pictures."""
        count = len(self.held_out)
        is_same = self.trained.has(self.held_out.digests)
        is_alike = self.trained.looks_like(self.held_out.thumbnails)
        has_all_thumbnails = len(is_alike) == count
        if has_all_thumbnails:
            is_alike &= ~is_same
        pictures = counted(count, "held-out picture")
        same = int(is_same.sum())
        alike = int(is_alike.sum())
        messages = []
        if same > 0:
            are = agreeing(same, "is", "are")
            messages.append(
                f"{same:,} of the {pictures} {are} among those trained on, too: the figures of the held-out ones are "
                "too good"
            )
        if alike > 0:
            look = agreeing(alike, "looks", "look")
            messages.append(
                f"{alike:,} of the {pictures} {look} like pictures that are trained on (the same, saved again or "
                "resized): the figures of the held-out ones are too good"
            )
        return messages


def _keys(digests: np.ndarray) -> np.ndarray:
    """The first 8 bytes of each digest as one number, uint64 (N,)."""
    first = np.ascontiguousarray(digests[:, :SEEN_BYTES])
    return first.view("<u8").reshape(-1)
