"""Every picture is decoded once before work starts, so that a bad one is reported at once and not after hours."""

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

MAX_BAD_SHARE = 0.05  # of all pictures
_AT_ONCE = 4096  # pictures in the queue of the threads
Progress = Callable[[int, int], None]  # called with the number of pictures that are done, and of all


@dataclass(frozen=True)
class Checked:
    """The pictures of a split that can be decoded, those that cannot, and facts about the good ones."""

    split: Split  # the good pictures
    bad: tuple[PictureError, ...]  # the others
    side: int  # the median of the good pictures' shorter sides, in pixels; 0 where there is no good picture
    grey: bool  # whether no good picture has colour
    digests: np.ndarray  # of the good pictures' contents, uint8 (N, 16)
    thumbnails: np.ndarray  # of the good pictures, uint8 (N, 64)

    def subset(self, indices: np.ndarray) -> Checked:
        """The same for the good pictures at these positions. `bad`, `side` and `grey` stay."""
        return replace(
            self,
            split=self.split.subset(indices),
            digests=self.digests[indices],
            thumbnails=self.thumbnails[indices],
        )


def check_split(split: Split, threads: int = 2, progress: Progress | None = None) -> Checked:
    """Decode all pictures of a split.

    Arguments:
        split: the pictures. Arrays are not decoded, because they were checked as a whole when they were read.
        threads: how many threads decode.
        progress: called after each picture.
    """
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
    kept = split
    if bad:
        kept = split.subset(np.array(good, np.int64))
    side = 0
    if probed:
        side = int(np.median([picture.side for picture in probed]))
    return Checked(
        split=kept,
        bad=tuple(bad),
        side=side,
        grey=all(picture.grey for picture in probed),
        digests=_stacked([picture.digest for picture in probed], DIGEST_BYTES),
        thumbnails=_stacked([picture.thumbnail for picture in probed], SIDE * SIDE),
    )


def _stacked(rows: list[bytes], width: int) -> np.ndarray:
    """Rows of `width` bytes as an array, uint8 (N, width)."""
    joined = b"".join(rows)
    return np.frombuffer(joined, np.uint8).reshape(len(rows), width)


def _probe_all(pictures: EncodedPictures, threads: int) -> Iterator[Probed | PictureError]:
    """The facts about each picture, or what is wrong with it, in order.

    Files that were checked before and have not changed since are not opened.
    """
    # Decoders release the interpreter's lock: threads are enough, and no picture has to go from process to process.
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        # In parts, because map() puts all of its work into the queue at once.
        for start in range(0, len(pictures), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(pictures))
            yield from _probe_part(pictures, range(start, stop), pool)


def _probe_part(pictures: EncodedPictures, indices: range, pool: ThreadPoolExecutor) -> Iterator[Probed | PictureError]:
    """As `_probe_all`, for the pictures at these positions. What is new is remembered for later checks."""
    keys = _keys(pictures, indices)
    remembered = recall(keys)
    unknown = []
    for index, known in zip(indices, remembered, strict=True):
        if known is None:
            unknown.append(index)
    results = pool.map(lambda index: _probe(pictures, index), unknown)
    new: list[tuple[Key, Probed]] = []
    for key, known in zip(keys, remembered, strict=True):
        if known is not None:
            yield known
            continue
        found = next(results)
        if key is not None and isinstance(found, Probed):
            new.append((key, found))
        yield found
    remember(new)


def _keys(pictures: EncodedPictures, indices: range) -> list[Key | None]:
    """By which the files at these positions are known again; None for what is no file or has changed just now."""
    if not isinstance(pictures, FilePictures):
        return [None] * len(indices)
    return [file_key(pictures.files[index]) for index in indices]


def _probe(pictures: EncodedPictures, index: int) -> Probed | PictureError:
    """Decode a picture: the facts about it, or what is wrong with it."""
    try:
        encoded = pictures.encoded(index)
        picture = encoded.decoded()
    except PictureError as error:
        return error
    return Probed(
        side=min(picture.size),
        grey=picture.mode == "L",
        digest=content_digest(encoded.data),
        thumbnail=thumbnail(picture),
    )


def _check_array(split: Split) -> Checked:
    """The facts about pictures in memory, which all are good."""
    pictures = split.pictures
    if not isinstance(pictures, ArrayPictures):
        raise TypeError(f"unknown kind of pictures: {type(pictures).__name__}")
    array = pictures.array
    height, width = array.shape[1:3]
    return Checked(
        split=split,
        bad=(),
        side=min(height, width),
        grey=array.ndim == 3 or array.shape[3] == 1,
        digests=array_digests(pictures),
        thumbnails=array_thumbnails(array),
    )


def bad_files_csv(bad: tuple[PictureError, ...]) -> str:
    """The bad pictures as CSV text with the columns `file` and `reason`."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file", "reason"])
    for error in bad:
        # A file name may have newlines, or bytes that are not text. Written as escapes, each row stays one line.
        row = [escaped(error.file), escaped(error.reason)]
        writer.writerow(row)
    return text.getvalue()


def require_mostly_good(bad: int, total: int, listed: Path | None) -> None:
    """Check that at most 5 % of the pictures are bad. Where more are, the fault is not in single files.

    Arguments:
        bad: the number of bad pictures.
        total: the number of all pictures.
        listed: the file that lists the bad ones, for the error message.

    Raises DataError.
    """
    if bad <= MAX_BAD_SHARE * total:
        return
    where = ""
    if listed:
        where = f"; {listed} lists them"
    pictures = counted(total, "picture")
    raise DataError(
        f"{bad:,} of {pictures} cannot be read, more than {MAX_BAD_SHARE:.0%}{where}; repair or remove them"
    )
