"""Decode every picture once before work starts, so that a bad one is named now and not in hour five."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from skipway.data.dataset import ArrayPictures, EncodedPictures, FilePictures, Split
from skipway.data.identity import DIGEST_BYTES, array_digests, content_digest
from skipway.data.remembered import Key, Probed, file_key, recall, remember
from skipway.data.thumbnails import SIDE, array_thumbnails, thumbnail
from skipway.errors import DataError, PictureError
from skipway.reporting import counted, escaped

MAX_BAD_SHARE = 0.05
_AT_ONCE = 4096
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Checked:
    """The pictures of a split that decode, those that do not, and what the good ones look like.

    `side` is the median of their shorter sides in pixels; `grey` says that none of them has colour. `digests`, uint8
    (N, 16), are those of the good ones' contents, and `thumbnails`, uint8 (N, 64), what they look like.
    """

    split: Split
    bad: tuple[PictureError, ...]
    side: int
    grey: bool
    digests: np.ndarray
    thumbnails: np.ndarray

    def subset(self, indices: np.ndarray) -> Checked:
        """The good pictures at these positions."""
        return replace(
            self,
            split=self.split.subset(indices),
            digests=self.digests[indices],
            thumbnails=self.thumbnails[indices],
        )


def check_split(split: Split, threads: int = 2, progress: Progress | None = None) -> Checked:
    """Decode all pictures of a split. Arrays were checked as a whole when they were read."""
    if not isinstance(split.pictures, EncodedPictures):
        return _check_array(split)
    bad: list[PictureError] = []
    good: list[int] = []
    probed: list[Probed] = []
    for index, found in enumerate(_probe_all(split.pictures, threads)):
        if isinstance(found, PictureError):
            bad.append(found)
        else:
            good.append(index)
            probed.append(found)
        if progress is not None:
            progress(index + 1, len(split))
    kept = split if not bad else split.subset(np.array(good, np.int64))
    return Checked(
        split=kept,
        bad=tuple(bad),
        side=int(np.median([picture.side for picture in probed])) if probed else 0,
        grey=all(picture.grey for picture in probed),
        digests=_stacked([picture.digest for picture in probed], DIGEST_BYTES),
        thumbnails=_stacked([picture.thumbnail for picture in probed], SIDE * SIDE),
    )


def _stacked(rows: list[bytes], width: int) -> np.ndarray:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), width)


def _probe_all(pictures: EncodedPictures, threads: int) -> Iterator[Probed | PictureError]:
    """What each picture is like, or what is wrong with it. Files that are known from before are not opened."""
    # Decoders release the interpreter lock, so threads are enough and no picture crosses a process.
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for start in range(0, len(pictures), _AT_ONCE):  # bounded: map() would queue a million futures at once
            indices = range(start, min(start + _AT_ONCE, len(pictures)))
            keys = _keys(pictures, indices)
            known = recall(keys)
            unknown = [index for index, before in zip(indices, known, strict=True) if before is None]
            probed = pool.map(lambda index: _probe(pictures, index), unknown)
            new: list[tuple[Key, Probed]] = []
            for key, before in zip(keys, known, strict=True):
                found = next(probed) if before is None else before
                if before is None and key is not None and isinstance(found, Probed):
                    new.append((key, found))
                yield found
            remember(new)


def _keys(pictures: EncodedPictures, indices: range) -> list[Key | None]:
    if not isinstance(pictures, FilePictures):
        return [None] * len(indices)
    return [file_key(pictures.files[index]) for index in indices]


def _probe(pictures: EncodedPictures, index: int) -> Probed | PictureError:
    try:
        encoded = pictures.encoded(index)
        picture = encoded.decoded()
    except PictureError as error:
        return error
    return Probed(min(picture.size), picture.mode == "L", content_digest(encoded.data), thumbnail(picture))


def _check_array(split: Split) -> Checked:
    pictures = split.pictures
    if not isinstance(pictures, ArrayPictures):
        raise TypeError(f"unknown kind of pictures: {type(pictures).__name__}")
    array = pictures.array
    grey = array.ndim == 3 or array.shape[3] == 1
    return Checked(split, (), min(array.shape[1:3]), grey, array_digests(pictures), array_thumbnails(array))


def bad_files_csv(bad: tuple[PictureError, ...]) -> str:
    """Table `file,reason` of the pictures left out."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file", "reason"])
    # A file name need not be valid text, nor of one line: what is odd is spelt out, and a row stays a line.
    writer.writerows([escaped(error.file), escaped(error.reason)] for error in bad)
    return text.getvalue()


def require_mostly_good(bad: int, total: int, listed: Path | None) -> None:
    """DataError when more than 5 % of the pictures are bad: then something is wrong with the data, not a file."""
    if bad > MAX_BAD_SHARE * total:
        where = f"; {listed} lists them" if listed else ""
        raise DataError(
            f"{bad:,} of {counted(total, 'picture')} cannot be read, more than {MAX_BAD_SHARE:.0%}{where}; repair or "
            "remove them"
        )
