"""Shards: pictures in tar files in the layout of WebDataset, read in any order without unpacking them.

A sample is two neighbouring files in a tar: `KEY.jpg` (or another picture) and `KEY.cls`, the number of its class in
digits. Names inside a tar are only compared, never used as paths.
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
_MAX_CLASS = 10**6
_TAR_BLOCK = 512  # bytes
# The last part of a pattern such as `train-{000..012}.tar`; the last number may be left out.
_RANGE = re.compile(r"(?P<start>[^{}/]*)\{(?P<first>\d+)\.\.(?P<last>\d*)\}(?P<end>[^{}/]*\.tar)")

_Sample = tuple["TarMember", int]  # a picture and its class


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file inside a tar."""

    shard: Path  # the tar
    key: str  # its name in the tar
    offset: int  # of its first byte in the tar
    size: int  # bytes


class ShardPictures(EncodedPictures):
    """Pictures within tar files."""

    def __init__(self, members: Sequence[TarMember]) -> None:
        """Pictures at these places. The tars are not opened."""
        self.members = tuple(members)

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.members)

    def encoded(self, index: int) -> Encoded:
        """The file of a picture. Raises PictureError where it cannot be read."""
        member = self.members[index]
        name = self.name(index)
        try:
            # Opened again each time: worker processes would share the position of an open file.
            with member.shard.open("rb") as file:
                file.seek(member.offset)
                data = file.read(member.size)
        except OSError as error:
            raise PictureError(name, f"cannot be read ({error.strerror}); check the shard") from None
        if len(data) < member.size:
            raise PictureError(name, "lies beyond the end of its shard; pack or copy the shard again")
        return Encoded(data, name)

    def name(self, index: int) -> str:
        """The path of the tar and the name within it."""
        member = self.members[index]
        return f"{member.shard}:{member.key}"

    def subset(self, indices: np.ndarray) -> ShardPictures:
        """The pictures at these positions, in this order."""
        members = [self.members[index] for index in indices]
        return ShardPictures(members)

    def joined(self, other: EncodedPictures) -> ShardPictures:
        """These pictures and then those. Raises TypeError for pictures of another kind."""
        if not isinstance(other, ShardPictures):
            raise TypeError("pictures of different kinds do not join")
        return ShardPictures([*self.members, *other.members])


def shards_in(folder: Path) -> dict[str, list[Path]]:
    """The tar files of each split: those in `train/`, `val/` and `test/`, or else, as `all`, those of the folder."""
    found: dict[str, list[Path]] = {}
    for split in SPLITS:
        shards = _tars(folder / split)
        if shards:
            found[split] = shards
    if not found:
        shards = _tars(folder)
        if shards:
            found["all"] = shards
    return found


def shards_of(pattern: str) -> list[Path] | None:
    """The tar files that a text names.

    Arguments:
        pattern: the path of a tar file, or a range such as `DIR/{000..012}.tar`. `DIR/{000..}.tar` names as many files
            as there are.

    Returns None for any other text. Raises DataError where a file of a range is missing.
    """
    path = Path(pattern)
    found = _RANGE.fullmatch(path.name)
    if found is None:
        is_tar = path.suffix.lower() == ".tar" and path.is_file()
        return [path] if is_tar else None
    width = len(found["first"])
    number = int(found["first"])
    is_open = found["last"] == ""
    last = None if is_open else int(found["last"])
    files: list[Path] = []
    while last is None or number <= last:
        file = path.with_name(f"{found['start']}{number:0{width}d}{found['end']}")
        if not file.is_file():
            is_end = is_open and files
            if is_end:
                break
            raise DataError(f"no file {file}, which {pattern} names; check the path and the numbers")
        files.append(file)
        number += 1
    return files


@dataclass(frozen=True)
class _Index:
    """What the index of shards says."""

    name: str
    labels: tuple[str, ...]
    mirrors: bool
    pictures: dict[str, int]  # the number of pictures of each split


def read_shards(parts: dict[str, list[Path]], home: Path) -> Source:
    """The source of some shards.

    Arguments:
        parts: the tar files of each split.
        home: the folder of the index, which has the labels. Without an index, the classes are numbered.

    Raises DataError for a tar that is damaged or holds anything but samples, and where it does not fit the index.
    """
    index = _read_index(home / INDEX)
    samples_of: dict[str, list[_Sample]] = {}
    for split, shards in parts.items():
        samples: list[_Sample] = []
        for shard in shards:
            samples.extend(_samples(shard))
        samples_of[split] = samples
    highest = 0
    for split, samples in samples_of.items():
        if not samples:
            raise DataError(f"the shards of {home} hold no samples in {split}; a sample is KEY.jpg and KEY.cls")
        highest_of_split = max(target for _, target in samples)
        highest = max(highest, highest_of_split)
    if index is None:
        labels = tuple(str(number) for number in range(highest + 1))
        index = _Index(home.resolve().name, labels, mirrors=True, pictures={})
    if highest >= len(index.labels):
        classes = counted(len(index.labels), "class")
        raise DataError(f"{home / INDEX} names {classes}, but the shards have a class {highest}")
    _check_counts(index, parts, samples_of, home)
    splits = {split: _split_of_samples(samples) for split, samples in samples_of.items()}
    return Source(index.name, index.labels, splits, mirrors=index.mirrors)


def _check_counts(
    index: _Index, parts: dict[str, list[Path]], samples_of: dict[str, list[_Sample]], home: Path
) -> None:
    """Raises DataError where the number of pictures of a split is not that of the index.

    Splits of which only some shards were named are left out.
    """
    for split, count in index.pictures.items():
        if split not in samples_of:
            continue
        all_shards = shards_in(home).get(split, [])
        is_whole = len(parts[split]) == len(all_shards)
        found = len(samples_of[split])
        if is_whole and found != count:
            pictures = counted(found, "picture")
            raise DataError(
                f"the shards of {home} hold {pictures} in {split}, but {INDEX} counts {count:,}; "
                "pack or copy them again"
            )


def _split_of_samples(samples: Sequence[_Sample]) -> Split:
    """The split of some samples."""
    members = [member for member, _ in samples]
    targets = [target for _, target in samples]
    return Split(ShardPictures(members), np.array(targets, np.int64))


def _tars(folder: Path) -> list[Path]:
    """The tar files in a folder, in natural order, without hidden ones."""
    if not folder.is_dir():
        return []
    found = []
    for entry in folder.iterdir():
        is_hidden = entry.name.startswith(".")
        if entry.suffix == ".tar" and not is_hidden and entry.is_file():
            found.append(entry)
    return sorted(found, key=lambda file: natural_key(file.name))


def _read_index(file: Path) -> _Index | None:
    """The index of shards; None where there is no such file. Raises DataError for a damaged one."""
    if not file.is_file():
        return None
    try:
        plain = json.loads(read_bounded(file, _MAX_INDEX_BYTES).decode())
        _check_index(plain)
        return _Index(plain["name"], tuple(plain["labels"]), plain["mirrors"], plain["pictures"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(
            f"{file} is no index of shards; restore it, or delete it to go by the classes' numbers"
        ) from None


def _check_index(plain: Any) -> None:
    """Raises ValueError, KeyError, TypeError or AttributeError unless plain JSON is an index."""
    has_types = isinstance(plain["name"], str) and isinstance(plain["mirrors"], bool)
    labels = plain["labels"]
    if not has_types or not isinstance(labels, list):
        raise ValueError
    for label in labels:
        if not isinstance(label, str):
            raise ValueError
    for count in plain["pictures"].values():
        if type(count) is not int:
            raise ValueError


def _samples(file: Path) -> Iterator[_Sample]:
    """The pictures of a shard with their classes. Raises DataError."""
    picture: TarMember | None = None
    label: TarMember | None = None
    target = 0
    for member, data in _members(file):
        if data is not None:
            label = member
            target = _class_of(data, f"{file}:{member.key}")
        elif _is_picture(member):
            if picture is not None:
                raise _lone_picture(picture)
            picture = member
        else:
            # Samples may have other files, too, such as .json.
            continue
        if picture is None or label is None:
            continue
        if _sample_key(picture.key) != _sample_key(label.key):
            raise _lone_picture(picture)
        yield picture, target
        picture = label = None
    if picture is not None:
        raise DataError(f"{file}:{picture.key} stands alone; each KEY.jpg needs a KEY.cls beside it")
    if label is not None:
        raise DataError(f"{file}:{_sample_key(label.key)}.cls stands alone; each KEY.jpg needs a KEY.cls beside it")


def _lone_picture(picture: TarMember) -> DataError:
    """The error for a picture whose neighbour is not its class."""
    return DataError(f"{picture.shard}:{picture.key} has no class beside it; each KEY.jpg needs a KEY.cls")


def _is_picture(member: TarMember) -> bool:
    """Whether a member is a picture by its name."""
    _, _, ending = PurePosixPath(member.key).name.partition(".")
    return f".{ending.lower()}" in SUFFIXES


def _sample_key(name: str) -> str:
    """The key of the sample that a member belongs to. It ends at the first dot of the last part of the name."""
    path = PurePosixPath(name)
    stem, _, _ = path.name.partition(".")
    return str(path.parent / stem)


def _class_of(data: bytes, where: str) -> int:
    """The class in the content of a .cls file. Raises DataError."""
    text = data.strip()
    if not text.isdigit() or int(text) > _MAX_CLASS:
        raise DataError(f"{where} is no number of a class; give digits such as 7")
    return int(text)


def _members(file: Path) -> Iterator[tuple[TarMember, bytes | None]]:
    """The files in a tar, and for each .cls its content. Raises DataError for a tar that is damaged or cut off."""
    try:
        length = file.stat().st_size
        with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            for entry in tar:
                if entry.isdir():
                    continue
                _check_entry(file, entry, length)
                content = None
                if entry.name.lower().endswith(".cls"):
                    if entry.size > _MAX_CLASS_BYTES:
                        raise DataError(f"{file}:{entry.name} is no number of a class; give digits such as 7")
                    content = os.pread(raw.fileno(), entry.size, entry.offset_data)
                yield TarMember(file, entry.name, entry.offset_data, entry.size), content
                # tarfile would keep the headers of all members in memory.
                tar.members = []  # type: ignore[attr-defined]
            # tarfile takes a damaged header for the end. A true end is a block of zeros.
            end = os.pread(raw.fileno(), _TAR_BLOCK, tar.offset)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"{file} is no whole tar file ({cause}); pack or copy it again") from None
    if end != bytes(_TAR_BLOCK):
        raise DataError(f"{file} is damaged or cut off at byte {tar.offset:,}; pack or copy it again")


def _check_entry(file: Path, entry: tarfile.TarInfo, length: int) -> None:
    """Raises DataError unless an entry of a tar is a plain file that lies within the tar's `length` bytes."""
    is_plain = entry.isreg() and not entry.issparse()
    if not is_plain:
        raise DataError(f"{file}:{entry.name} is a link or no plain file; pack the pictures themselves")
    end = entry.offset_data + entry.size
    if entry.size > MAX_BYTES or end > length:
        raise DataError(f"{file}:{entry.name} claims {entry.size:,} bytes, which are not there; copy it again")
