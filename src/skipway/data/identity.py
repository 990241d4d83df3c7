"""Which pictures a run is about: by their names within the data and by what is in them, not by where they lie."""

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
_NAMED_DIFFERENCES = 3
_LINE = 2**15
_COLUMNS = ("part", "class", "digest", "name")


def content_digest(data: bytes | memoryview) -> bytes:
    """BLAKE2b of a picture file, or of the counts of a picture in memory: 16 bytes."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def array_digests(pictures: ArrayPictures) -> np.ndarray:
    """Digests of pictures in memory, uint8 (N, 16)."""
    rows = np.ascontiguousarray(pictures.array).reshape(len(pictures), -1)
    joined = b"".join(content_digest(row.data) for row in rows)
    return np.frombuffer(joined, np.uint8).reshape(len(pictures), DIGEST_BYTES)


@dataclass(frozen=True)
class Part:
    """One part of the pictures of a run: `train` or `val`.

    `names` are relative to the folder that the part's pictures share, `classes` are labels, `digests` uint8 (N, 16).
    """

    name: str
    names: tuple[str, ...]
    classes: tuple[str, ...]
    digests: np.ndarray

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Part, class, digest in hexadecimal and name of each picture."""
        for name, label, digest in zip(self.names, self.classes, self.digests, strict=True):
            yield self.name, label, digest.tobytes().hex(), name


def part_of(name: str, split: Split, labels: Sequence[str], digests: np.ndarray) -> Part:
    """The part `name`: the pictures of `split`, whose contents have `digests`."""
    names = [split.pictures.name(index) for index in range(len(split))]
    classes = tuple(labels[target] for target in split.targets.tolist())
    return Part(name, tuple(_relative(names)), classes, digests)


def _relative(names: Sequence[str]) -> list[str]:
    """Names without the folder that all of them share, so that data may move."""
    shared = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""  # noqa: PTH120
    return [name[len(shared) :].lstrip("/\\") if shared else name for name in names]


@dataclass(frozen=True)
class PictureList:
    """All pictures of a run, in order."""

    parts: tuple[Part, ...]

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Part, class, digest in hexadecimal and name of each picture."""
        for part in self.parts:
            yield from part.rows()

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of parts, classes, names and contents, in order."""
        digest = hashlib.sha256()
        for row in self.rows():
            digest.update("\0".join(row).encode("utf-8", "surrogateescape") + b"\0\n")
        return digest.hexdigest()

    def write(self, file: Path) -> None:
        """Write the list as gzipped CSV, whole or not at all. Raises StorageError."""
        write_whole(file, self._write)

    def _write(self, file: Path) -> None:
        with file.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed:
            text = io.TextIOWrapper(packed, encoding="utf-8", errors="surrogateescape", newline="")
            writer = csv.writer(text)
            writer.writerow(_COLUMNS)
            writer.writerows(self.rows())
            text.flush()

    def differences_from(self, file: Path) -> str:
        """How these pictures differ from the list in `file`: the first of those added, removed or changed.

        Empty where the file cannot be read, or where it lists the same pictures.
        """
        try:
            before = _read(file, limit=4 * sum(len(part.names) for part in self.parts) + 100_000)
        except (OSError, EOFError, zlib.error, ValueError, csv.Error, DataError):
            return ""
        now = _by_name(self.rows())
        groups = {
            "new": [name for name in now if name not in before],
            "missing": [name for name in before if name not in now],
            "changed": [name for name in now if name in before and now[name] != before[name]],
        }
        return "; ".join(f"{what}: {_some(names)}" for what, names in groups.items() if names)


Contents = dict[str, list[tuple[str, str]]]


def _by_name(rows: Iterable[tuple[str, str, str, str]]) -> Contents:
    """Class and digest of the pictures of each name: one, or two where train and val have the same names."""
    found: Contents = {}
    for _, label, digest, name in rows:
        found.setdefault(name, []).append((label, digest))
    for contents in found.values():
        contents.sort()
    return found


def _read(file: Path, limit: int) -> Contents:
    """What `_by_name` gives for a list that was written. Raises DataError for more than `limit` rows."""
    with gzip.open(file, "rt", encoding="utf-8", errors="surrogateescape", newline="") as text:
        reader = csv.reader(_bounded_lines(text))
        if tuple(next(reader, ())) != _COLUMNS:
            raise DataError(f"{file} is no list of pictures")
        rows = [(part, label, digest, name) for part, label, digest, name in itertools.islice(reader, limit)]
    return _by_name(rows)


def _bounded_lines(text: io.TextIOBase) -> Iterator[str]:
    """Lines, cut after 32 KiB: a packed file may hold one that is longer than the memory."""
    while line := text.readline(_LINE):
        yield line


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(escaped(name) for name in names[:_NAMED_DIFFERENCES])
    more = len(names) - _NAMED_DIFFERENCES
    return f"{shown} and {more:,} more" if more > 0 else shown


SEEN_BYTES = 8  # of a digest; among a million pictures two share them once in 37 million data sets
MOST_THUMBNAILS = 200_000  # pictures; more would outgrow the weights that they lie beside


@dataclass(frozen=True)
class Seen:
    """Pictures that a network has met: the first 8 bytes of their digests, uint8 (N, 8), and their thumbnails, uint8
    (N, 64), or (0, 64) where there were too many to keep."""

    digests: np.ndarray
    thumbnails: np.ndarray

    def __len__(self) -> int:
        return len(self.digests)

    def has(self, digests: np.ndarray) -> np.ndarray:
        """Which of the pictures with these digests, uint8 (N, 8 or more), are among them: bool (N,)."""
        return np.isin(_keys(digests), _keys(self.digests))

    def looks_like(self, thumbnails: np.ndarray) -> np.ndarray:
        """Which of these thumbnails, uint8 (N, 64), look like one of them: bool (N,)."""
        return look_alike(thumbnails, self.thumbnails)

    def joined(self, other: Seen) -> Seen:
        """These pictures and those."""
        digests = np.concatenate([self.digests, other.digests])
        return seen(digests, np.concatenate([self.thumbnails, other.thumbnails]))


def seen(digests: np.ndarray, thumbnails: np.ndarray) -> Seen:
    """What is kept of pictures with these digests, uint8 (N, 8 or more), and thumbnails, uint8 (N, 64)."""
    kept = thumbnails if len(digests) <= MOST_THUMBNAILS else thumbnails[:0]
    return Seen(np.ascontiguousarray(digests[:, :SEEN_BYTES]), np.ascontiguousarray(kept))


NONE_SEEN = Seen(np.empty((0, SEEN_BYTES), np.uint8), np.empty((0, SIDE * SIDE), np.uint8))


@dataclass(frozen=True)
class Identity:
    """The pictures that a network was trained on, and those that were held out to judge it.

    Not `complete` where training began from weights whose own pictures nobody knows.
    """

    trained: Seen
    held_out: Seen
    complete: bool = True

    def leaks(self) -> list[str]:
        """What to say of held-out pictures that were trained on, or look so: their figures are too good."""
        count = len(self.held_out)
        same = self.trained.has(self.held_out.digests)
        alike = self.trained.looks_like(self.held_out.thumbnails)
        if len(alike) == count:
            alike &= ~same
        lines = []
        all_held_out = counted(count, "held-out picture")
        if same.any():
            number = int(same.sum())
            lines.append(
                f"{number:,} of the {all_held_out} {agreeing(number, 'is', 'are')} among those trained on, too: the "
                "figures of the held-out ones are too good"
            )
        if alike.any():
            number = int(alike.sum())
            lines.append(
                f"{number:,} of the {all_held_out} {agreeing(number, 'looks', 'look')} like pictures that are trained "
                "on (the same, saved again or resized): the figures of the held-out ones are too good"
            )
        return lines


def _keys(digests: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(digests[:, :SEEN_BYTES]).view("<u8").reshape(-1)
