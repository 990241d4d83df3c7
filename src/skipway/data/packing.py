"""Packing of any data set into shards: few large files, with pictures that are no larger than needed."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from skipway.data.checking import bad_files_csv, require_mostly_good
from skipway.data.dataset import EncodedPictures, Pictures, Source, Split
from skipway.data.encoded import Encoded
from skipway.data.geometry import short_side_scaled
from skipway.data.picture_arrays import without_single_channel
from skipway.data.preprocessing import Picture
from skipway.data.shards import INDEX
from skipway.errors import DataError, PictureError
from skipway.reporting import agreeing, counted, joined_lines

Progress = Callable[[str, int, int], None]  # called with what is done, how many pictures are done, and of all
BAD_FILES = "bad_files.csv"
_LARGEST_SIDE = 16_384  # pixels
_MEGABYTE = 10**6
_PREPARED = 16  # pictures for each thread that may wait in memory until they are written

# How files of the formats in `pictures.FORMATS` begin, and the ending that each gets: names may be wrong.
_ENDINGS = (
    (b"\xff\xd8", "jpg"),
    (b"\x89PNG", "png"),
    (b"RIFF", "webp"),
    (b"BM", "bmp"),
    (b"GIF8", "gif"),
    (b"II", "tiff"),
    (b"MM", "tiff"),
    (b"P", "ppm"),
)


@dataclass(frozen=True)
class Packing:
    """How to pack. Raises DataError for fields outside of their ranges."""

    # In pixels. Larger pictures are scaled to it and written as JPEG, others are kept byte for byte, as all are with 0.
    short_side: int = 256
    quality: int = 95  # of the JPEG files that are written, 1 to 100
    shard_size: int = 256 * _MEGABYTE  # in bytes

    def __post_init__(self) -> None:
        """Check the fields."""
        if not 0 <= self.short_side <= _LARGEST_SIDE:
            raise DataError(f"--short-side is {self.short_side}; give 0 (as they are) to {_LARGEST_SIDE} pixels")
        if not 1 <= self.quality <= 100:
            raise DataError(f"--quality is {self.quality}; give 1 to 100")
        if self.shard_size < _MEGABYTE:
            raise DataError("--shard-size is less than 1; give megabytes, such as 256")


@dataclass(frozen=True)
class Packed:
    """What `pack` has written."""

    to: Path  # the folder
    pictures: dict[str, int]  # how many there are in each split
    shards: int  # the number of files
    size: int  # of all shards, in bytes
    bad: tuple[PictureError, ...]  # the pictures that were left out

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. `bytes` is the size of all shards."""
        bad = [{"file": error.file, "reason": error.reason} for error in self.bad]
        return {"to": str(self.to), "pictures": self.pictures, "shards": self.shards, "bytes": self.size, "bad": bad}

    def describe(self) -> str:
        """The text for a person."""
        counts = ", ".join(f"{split} {count:,}" for split, count in self.pictures.items())
        total = sum(self.pictures.values())
        pictures = agreeing(total, "picture", "pictures")
        shards = counted(self.shards, "shard")
        megabytes = self.size / _MEGABYTE
        lines = [f"{self.to}: {counts} {pictures} in {shards}, {megabytes:,.1f} MB"]
        if self.bad:
            lines.append(f"{len(self.bad):,} left out ({self.to / BAD_FILES}); the first: {self.bad[0]}")
        return joined_lines(lines)


def pack(source: Source, to: Path, packing: Packing, *, threads: int = 2, progress: Progress | None = None) -> Packed:
    """Write all splits of a data set as shards.

    The pictures keep their order, so that with `short_side` 0 training sees the same as before.

    Arguments:
        source: the data set.
        to: the folder to make. It appears whole or not at all.
        packing: how to pack.
        threads: how many threads decode and encode pictures.
        progress: called after each picture.

    Raises DataError where the folder exists or more than 5 % of the pictures are bad.
    """
    if to.exists():
        raise DataError(f"{to} exists; name a folder that does not")
    to.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        packed = _pack_into(source, work, to, packing, threads, progress)
        # mkdtemp makes folders that only their owner can read; the data should have the user's usual permissions.
        work.chmod(0o777 & ~_umask(work))
        work.rename(to)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return packed


def _umask(work: Path) -> int:
    """The user's umask, as the permissions of a new folder show it. os.umask would change it for all threads."""
    trial = work / ".mask"
    trial.mkdir()
    mode = trial.stat().st_mode & 0o777
    trial.rmdir()
    return 0o777 & ~mode


def _pack_into(
    source: Source, work: Path, to: Path, packing: Packing, threads: int, progress: Progress | None
) -> Packed:
    """Write the shards of all splits, the index and the list of bad pictures into `work`, which becomes `to`."""
    counts: dict[str, int] = {}
    bad: list[PictureError] = []
    for name, split in source.splits.items():
        folder = work / name
        if name == "all":
            folder = work
        with _Writer(folder, packing.shard_size) as writer:
            for done, (prepared, target) in enumerate(_prepared(split, packing, threads), start=1):
                if isinstance(prepared, PictureError):
                    bad.append(prepared)
                else:
                    ending, data = prepared
                    writer.add(ending, data, int(target))
                if progress is not None:
                    progress(f"packing {name}", done, len(split))
        counts[name] = writer.count
        if writer.count == 0:
            raise DataError(f"no picture of {name} can be read; the first: {bad[-1]}")
    total = sum(counts.values()) + len(bad)
    require_mostly_good(len(bad), total, None)
    index = {"name": source.name, "labels": list(source.labels), "mirrors": source.mirrors, "pictures": counts}
    index_text = json.dumps(index, indent=1) + "\n"
    (work / INDEX).write_text(index_text, encoding="utf-8")
    if bad:
        table = bad_files_csv(tuple(bad))
        (work / BAD_FILES).write_text(table, encoding="utf-8")
    shards = list(work.rglob("*.tar"))
    size = sum(shard.stat().st_size for shard in shards)
    return Packed(to, counts, len(shards), size, tuple(bad))


def _prepared(split: Split, packing: Packing, threads: int) -> Iterator[tuple[tuple[str, bytes] | PictureError, int]]:
    """Each picture of a split with its target, in order: its ending and bytes, or what is wrong with it."""

    def prepare(index: int) -> tuple[str, bytes] | PictureError:
        """The picture at a position."""
        try:
            return _file_of(split.pictures, index, packing)
        except PictureError as error:
            return error

    chunk = _PREPARED * threads
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(split), chunk):
            stop = min(start + chunk, len(split))
            pictures = pool.map(prepare, range(start, stop))
            targets = split.targets[start:stop].tolist()
            yield from zip(pictures, targets, strict=True)


def _file_of(pictures: Pictures, index: int, packing: Packing) -> tuple[str, bytes]:
    """Ending and bytes of a picture as it goes into a shard. Raises PictureError."""
    encoded = None
    if isinstance(pictures, EncodedPictures):
        encoded = pictures.encoded(index)
        picture = encoded.decoded()
    else:
        picture = _image(pictures[index])
    is_large = min(picture.size) > packing.short_side
    if packing.short_side and is_large:
        size = short_side_scaled(picture.size, packing.short_side, "bicubic")
        scaled = picture.resize(size, Image.Resampling.BICUBIC)
        return "jpg", _encode(scaled, "JPEG", quality=packing.quality)
    if encoded is None:
        return "png", _encode(picture, "PNG")
    return _ending(encoded), encoded.data


def _image(picture: Picture) -> Image.Image:
    """A picture as a Pillow image."""
    if isinstance(picture, Image.Image):
        return picture
    return Image.fromarray(without_single_channel(picture))


def _encode(picture: Image.Image, file_format: str, **options: int) -> bytes:
    """The bytes of a picture's file, with Pillow's options for the format."""
    stream = io.BytesIO()
    picture.save(stream, file_format, **options)
    return stream.getvalue()


def _ending(encoded: Encoded) -> str:
    """The ending of a picture file, by how it begins, or else by its name."""
    for start, ending in _ENDINGS:
        if encoded.data.startswith(start):
            return ending
    suffix = PurePath(encoded.name).suffix
    return suffix[1:].lower()


class _Writer:
    """Writes the shards `000000.tar`, `000001.tar`, ... of a folder. Each has up to `size` bytes, or one sample."""

    def __init__(self, folder: Path, size: int) -> None:
        """A writer that has written nothing."""
        self.folder = folder
        self.size = size
        self.count = 0
        self._next_shard = 0
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> _Writer:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the last shard."""
        if self._tar is not None:
            self._tar.close()

    def add(self, ending: str, data: bytes, target: int) -> None:
        """Append a sample. Its key has no dot, because WebDataset ends a key at the first dot."""
        key = f"{self.count:08d}"
        tar = self._open_for(len(data))
        files = ((f"{key}.{ending}", data), (f"{key}.cls", str(target).encode()))
        for name, content in files:
            # Without owner and time, so that the same pictures give the same bytes.
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o444
            tar.addfile(member, io.BytesIO(content))
        self.count += 1

    def _open_for(self, length: int) -> tarfile.TarFile:
        """The shard that a picture of so many bytes goes to."""
        if self._tar is not None and self._tar.offset + length > self.size:
            self._tar.close()
            self._tar = None
        if self._tar is None:
            file = self.folder / f"{self._next_shard:06d}.tar"
            # It is closed when it is full.
            self._tar = tarfile.open(file, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
            self._next_shard += 1
        return self._tar
