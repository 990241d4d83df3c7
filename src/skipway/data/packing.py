"""Any data set -> shards: few large files, read from one end to the other, of pictures no larger than needed."""

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
from skipway.data.preprocessing import Picture
from skipway.data.shards import INDEX
from skipway.errors import DataError, PictureError
from skipway.reporting import agreeing, counted, joined_lines

Progress = Callable[[str, int, int], None]
BAD_FILES = "bad_files.csv"

# How the formats of `pictures.FORMATS` begin, and the ending of what is kept as it was: names may lie.
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
    """How to pack. `short_side` in pixels: larger pictures are scaled to it and written as JPEG of this `quality`,
    smaller ones kept byte for byte, as all are with 0. `shard_size` in bytes."""

    short_side: int = 256
    quality: int = 95
    shard_size: int = 256 * 10**6

    def __post_init__(self) -> None:
        if not 0 <= self.short_side <= 16_384:
            raise DataError(f"--short-side is {self.short_side}; give 0 (as they are) to 16384 pixels")
        if not 1 <= self.quality <= 100:
            raise DataError(f"--quality is {self.quality}; give 1 to 100")
        if self.shard_size < 10**6:
            raise DataError("--shard-size is less than 1; give megabytes, such as 256")


@dataclass(frozen=True)
class Packed:
    """What lies in the folder now. `pictures` by split; `bad` were left out."""

    to: Path
    pictures: dict[str, int]
    shards: int
    size: int
    bad: tuple[PictureError, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `bytes` are those of the shards."""
        bad = [{"file": one.file, "reason": one.reason} for one in self.bad]
        return {"to": str(self.to), "pictures": self.pictures, "shards": self.shards, "bytes": self.size, "bad": bad}

    def describe(self) -> str:
        """Lines for a person."""
        counts = ", ".join(f"{split} {count:,}" for split, count in self.pictures.items())
        pictures = agreeing(sum(self.pictures.values()), "picture", "pictures")
        lines = [f"{self.to}: {counts} {pictures} in {counted(self.shards, 'shard')}, {self.size / 1e6:,.1f} MB"]
        if self.bad:
            lines.append(f"{len(self.bad):,} left out ({self.to / BAD_FILES}); the first: {self.bad[0]}")
        return joined_lines(lines)


def pack(source: Source, to: Path, packing: Packing, *, threads: int = 2, progress: Progress | None = None) -> Packed:
    """Write all splits of `source` as shards into a new folder, which appears whole or not at all.

    The order stays, so that with `short_side` 0 training sees the same as before. Raises DataError where the folder
    exists or more than 5 % of the pictures are bad.
    """
    if to.exists():
        raise DataError(f"{to} exists; name a folder that does not")
    to.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
    try:
        packed = _packed(source, work, to, packing, threads, progress)
        work.chmod(0o777 & ~_umask(work))
        work.rename(to)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return packed


def _umask(work: Path) -> int:
    """The user's mask, by what a new folder gets: to ask for it would be to change it, for all threads."""
    trial = work / ".mask"
    trial.mkdir()
    mode = trial.stat().st_mode & 0o777
    trial.rmdir()
    return 0o777 & ~mode


def _packed(source: Source, work: Path, to: Path, packing: Packing, threads: int, progress: Progress | None) -> Packed:
    counts: dict[str, int] = {}
    bad: list[PictureError] = []
    for name, split in source.splits.items():
        with _Writer(work if name == "all" else work / name, packing.shard_size) as writer:
            for done, (found, target) in enumerate(_prepared(split, packing, threads), start=1):
                if isinstance(found, PictureError):
                    bad.append(found)
                else:
                    writer.add(*found, int(target))
                if progress is not None:
                    progress(f"packing {name}", done, len(split))
        counts[name] = writer.count
        if writer.count == 0:
            raise DataError(f"no picture of {name} can be read; the first: {bad[-1]}")
    require_mostly_good(len(bad), sum(counts.values()) + len(bad), None)
    index = {"name": source.name, "labels": list(source.labels), "mirrors": source.mirrors, "pictures": counts}
    (work / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    if bad:
        (work / BAD_FILES).write_text(bad_files_csv(tuple(bad)), encoding="utf-8")
    files = list(work.rglob("*.tar"))
    return Packed(to, counts, len(files), sum(file.stat().st_size for file in files), tuple(bad))


def _prepared(split: Split, packing: Packing, threads: int) -> Iterator[tuple[tuple[str, bytes] | PictureError, int]]:
    def prepare(index: int) -> tuple[str, bytes] | PictureError:
        try:
            return _file_of(split.pictures, index, packing)
        except PictureError as error:
            return error

    chunk = 16 * threads  # bounded: prepared pictures wait in memory until their turn
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(split), chunk):
            indices = range(start, min(start + chunk, len(split)))
            yield from zip(pool.map(prepare, indices), split.targets[start : start + chunk].tolist(), strict=True)


def _file_of(pictures: Pictures, index: int, packing: Packing) -> tuple[str, bytes]:
    """Ending and bytes of a picture as it goes into a shard. Raises PictureError."""
    encoded = pictures.encoded(index) if isinstance(pictures, EncodedPictures) else None
    picture = _image(pictures[index]) if encoded is None else encoded.decoded()
    if packing.short_side and min(picture.size) > packing.short_side:
        size = short_side_scaled(picture.size, packing.short_side, "bicubic")
        return "jpg", _bytes(picture.resize(size, Image.Resampling.BICUBIC), "JPEG", quality=packing.quality)
    return ("png", _bytes(picture, "PNG")) if encoded is None else (_ending(encoded), encoded.data)


def _image(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    return Image.fromarray(picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture)


def _bytes(picture: Image.Image, form: str, **options: int) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def _ending(encoded: Encoded) -> str:
    known = (ending for start, ending in _ENDINGS if encoded.data.startswith(start))
    return next(known, PurePath(encoded.name).suffix[1:].lower())


class _Writer:
    """Shards `000000.tar`, `000001.tar`, ... of a folder, each of up to `size` bytes but at least one sample."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size, self.count = folder, size, 0
        self._number = 0
        self._tar: tarfile.TarFile | None = None

    def __enter__(self) -> _Writer:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._tar is not None:
            self._tar.close()

    def add(self, ending: str, data: bytes, target: int) -> None:
        """Append a sample. Its key has no dot, at which WebDataset would cut it."""
        key = f"{self.count:08d}"
        if self._tar is not None and self._tar.offset + len(data) > self.size:
            self._tar.close()
            self._tar = None
        if self._tar is None:
            file = self.folder / f"{self._number:06d}.tar"
            self._tar = tarfile.open(file, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed when full
            self._number += 1
        for name, content in ((f"{key}.{ending}", data), (f"{key}.cls", str(target).encode())):
            member = tarfile.TarInfo(name)  # no owner, no time: the same pictures give the same bytes
            member.size, member.mode = len(content), 0o444
            self._tar.addfile(member, io.BytesIO(content))
        self.count += 1
