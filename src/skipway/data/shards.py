"""Shards: pictures in tar files as WebDataset lays them out, read by any order without unpacking anything.

A sample is two neighbours in a tar, `KEY.jpg` (or another picture) and `KEY.cls`, the number of its class in digits.
Names inside a tar are only compared, never used as paths.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from skipway.data.dataset import EncodedPictures, Source, Split
from skipway.data.encoded import Encoded
from skipway.data.pictures import MAX_BYTES, SUFFIXES, natural_key
from skipway.errors import DataError, PictureError
from skipway.files import read_bounded
from skipway.reporting import counted

INDEX = "skipway.json"  # labels and numbers of pictures, beside the shards
SPLITS = ("train", "val", "test")
_MAX_INDEX_BYTES = 2**26
_MAX_CLASS_BYTES = 20
_RANGE = re.compile(r"(?P<start>[^{}/]*)\{(?P<first>\d+)\.\.(?P<last>\d*)\}(?P<end>[^{}/]*\.tar)")


@dataclass(frozen=True, slots=True)
class Member:
    """Where a picture lies: `size` bytes from `offset` on."""

    shard: Path
    key: str
    offset: int
    size: int


class ShardPictures(EncodedPictures):
    """Pictures within tar files."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)

    def __len__(self) -> int:
        return len(self.members)

    def encoded(self, index: int) -> Encoded:
        member, name = self.members[index], self.name(index)
        try:
            # Opened anew each time: workers would share the position of an open file.
            with member.shard.open("rb") as file:
                file.seek(member.offset)
                data = file.read(member.size)
        except OSError as error:
            raise PictureError(name, f"cannot be read ({error.strerror}); check the shard") from None
        if len(data) < member.size:
            raise PictureError(name, "lies beyond the end of its shard; pack or copy the shard again")
        return Encoded(data, name)

    def name(self, index: int) -> str:
        return f"{self.members[index].shard}:{self.members[index].key}"

    def subset(self, indices: np.ndarray) -> ShardPictures:
        return ShardPictures([self.members[i] for i in indices])

    def joined(self, other: EncodedPictures) -> ShardPictures:
        if not isinstance(other, ShardPictures):
            raise TypeError("pictures of different kinds do not join")
        return ShardPictures([*self.members, *other.members])


def shards_in(folder: Path) -> dict[str, list[Path]]:
    """Tar files of each split: those of `train/`, `val/`, `test/`, or as `all` those of the folder itself."""
    parts = {split: _tars(folder / split) for split in SPLITS}
    found = {split: tars for split, tars in parts.items() if tars}
    return found or ({"all": tars} if (tars := _tars(folder)) else {})


def shards_of(pattern: str) -> list[Path] | None:
    """The files that `DIR/{000..012}.tar` names, with an open end as many as there are; None for any other text.

    Raises DataError where one is missing.
    """
    path = Path(pattern)
    found = _RANGE.fullmatch(path.name)
    if found is None:
        return [path] if path.suffix.lower() == ".tar" and path.is_file() else None
    first, last, width = int(found["first"]), int(found["last"] or -1), len(found["first"])
    files: list[Path] = []
    while last < 0 or first + len(files) <= last:
        file = path.with_name(f"{found['start']}{first + len(files):0{width}d}{found['end']}")
        if not file.is_file():
            if last >= 0 or not files:
                raise DataError(f"no file {file}, which {pattern} names; check the path and the numbers")
            break
        files.append(file)
    return files


def read_shards(parts: dict[str, list[Path]], home: Path) -> Source:
    """Source of shards by split; labels are those of `home/skipway.json`, or else the numbers of the classes.

    Raises DataError for a tar that is damaged or holds anything but samples.
    """
    index = _read_index(home / INDEX)
    read = {split: [sample for file in files for sample in _samples(file)] for split, files in parts.items()}
    for split, samples in read.items():
        if not samples:
            raise DataError(f"the shards of {home} hold no samples in {split}; a sample is KEY.jpg and KEY.cls")
    highest = max(target for samples in read.values() for _, target in samples)
    labels = index["labels"] if index else tuple(str(one) for one in range(highest + 1))
    if highest >= len(labels):
        raise DataError(f"{home / INDEX} names {counted(len(labels), 'class')}, but the shards have a class {highest}")
    for split, count in (index["pictures"] if index else {}).items():
        if split in read and len(parts[split]) == len(shards_in(home).get(split, ())) and len(read[split]) != count:
            raise DataError(
                f"the shards of {home} hold {counted(len(read[split]), 'picture')} in {split}, but {INDEX} counts "
                f"{count:,}; pack or copy them again"
            )
    splits = {
        split: Split(ShardPictures([one for one, _ in samples]), np.array([target for _, target in samples], np.int64))
        for split, samples in read.items()
    }
    return Source(
        index["name"] if index else home.resolve().name, labels, splits, mirrors=index["mirrors"] if index else True
    )


def _tars(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [one for one in folder.iterdir() if one.suffix == ".tar" and not one.name.startswith(".") and one.is_file()]
    return sorted(found, key=lambda one: natural_key(one.name))


def _read_index(file: Path) -> dict[str, Any] | None:
    """`name`, `labels`, `mirrors` and `pictures` by split; None where there is no such file."""
    if not file.is_file():
        return None
    try:
        plain = json.loads(read_bounded(file, _MAX_INDEX_BYTES).decode())
        labels, pictures = plain["labels"], plain["pictures"]
        right = (
            isinstance(plain["name"], str)
            and isinstance(plain["mirrors"], bool)
            and all(isinstance(one, str) for one in labels)
            and all(type(one) is int for one in pictures.values())
        )
        if not right or not isinstance(labels, list):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(
            f"{file} is no index of shards; restore it, or delete it to go by the classes' numbers"
        ) from None
    return {"name": plain["name"], "labels": tuple(labels), "mirrors": plain["mirrors"], "pictures": pictures}


def _samples(file: Path) -> Iterator[tuple[Member, int]]:
    """Pictures of one shard with their classes. Raises DataError."""
    picture: Member | None = None
    target: tuple[str, int] | None = None
    for member, data in _members(file):
        key, _, ending = _divided(member.key)
        if data is not None:
            target = (key, _class_of(data, f"{file}:{member.key}"))
        elif f".{ending}" in SUFFIXES:
            if picture is not None:
                raise DataError(f"{file}:{picture.key} has no class beside it; each KEY.jpg needs a KEY.cls")
            picture = member
        else:
            continue  # what else a sample carries, such as .json
        if picture is not None and target is not None:
            if _divided(picture.key)[0] != target[0]:
                raise DataError(f"{file}:{picture.key} has no class beside it; each KEY.jpg needs a KEY.cls")
            yield picture, target[1]
            picture = target = None
    if picture is not None or target is not None:
        alone = picture.key if picture is not None else f"{target[0] if target else ''}.cls"
        raise DataError(f"{file}:{alone} stands alone; each KEY.jpg needs a KEY.cls beside it")


def _divided(name: str) -> tuple[str, str, str]:
    """Key, dot, ending: a key ends at the first dot of the last part."""
    path = PurePosixPath(name)
    stem, dot, ending = path.name.partition(".")
    return str(path.parent / stem), dot, ending.lower()


def _class_of(data: bytes, where: str) -> int:
    text = data.strip()
    if not text.isdigit() or int(text) > 10**6:
        raise DataError(f"{where} is no number of a class; give digits such as 7")
    return int(text)


def _members(file: Path) -> Iterator[tuple[Member, bytes | None]]:
    """Regular members, and of each .cls its bytes. Raises DataError for a tar that is damaged or cut off."""
    try:
        length = file.stat().st_size
        with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            for one in tar:
                if one.isdir():
                    continue
                if not one.isreg() or one.issparse():
                    raise DataError(f"{file}:{one.name} is a link or no plain file; pack the pictures themselves")
                if one.size > MAX_BYTES or one.offset_data + one.size > length:
                    raise DataError(f"{file}:{one.name} claims {one.size:,} bytes, which are not there; copy it again")
                data = None
                if one.name.lower().endswith(".cls"):
                    if one.size > _MAX_CLASS_BYTES:
                        raise DataError(f"{file}:{one.name} is no number of a class; give digits such as 7")
                    data = os.pread(raw.fileno(), one.size, one.offset_data)
                yield Member(file, one.name, one.offset_data, one.size), data
                tar.members = []  # type: ignore[attr-defined] # else every header stays in memory
            # tarfile takes a damaged header for the end: a true end is a block of zeros.
            end = os.pread(raw.fileno(), 512, tar.offset)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        told = getattr(error, "strerror", None) or error
        raise DataError(f"{file} is no whole tar file ({told}); pack or copy it again") from None
    if end != bytes(512):
        raise DataError(f"{file} is damaged or cut off at byte {tar.offset:,}; pack or copy it again")
