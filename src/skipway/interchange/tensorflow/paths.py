"""Which checkpoint of TensorFlow a path means: a prefix, one of its files, a folder or its state file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skipway.errors import ModelFileError
from skipway.files import read_error
from skipway.interchange.foreign import checked_head, describe_foreign
from skipway.interchange.tensorflow.sstable import is_table
from skipway.reporting import agreeing, counted

STATE_FILE = "checkpoint"
_STATE = re.compile(rb'^\s*model_checkpoint_path\s*:\s*"([^"\\\n]{1,4096})"', re.MULTILINE)
_DATA = re.compile(r"(?P<prefix>.+)\.data-\d{5}-of-\d{5}")
_SHARD = re.compile(r"(?P<prefix>.+)-(?:\d{5}|\?{5})-of-(?P<count>\d{5})")


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint on disk.

    `tables` is the index of a V2 checkpoint, or the file or files of a V1 checkpoint. `description` says in words what
    was found.
    """

    version: Literal["V1", "V2"]
    prefix: Path
    tables: tuple[Path, ...]
    description: str


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an error that occurs while a file is read into a ModelFileError of one line that names the file."""
    try:
        yield
    except OSError as error:
        reason = read_error(path, error)
        raise ModelFileError(str(reason)) from None
    except ValueError as error:
        reason_line = _one_line(error)
        raise ModelFileError(f"{path} is damaged ({reason_line}); download or copy it again") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a ValueError about arrays that a file cannot hold into a ModelFileError of one line that names the file."""
    try:
        yield
    except ValueError as error:
        reason = _one_line(error)
        raise ModelFileError(f"{path} cannot be written ({reason}); give arrays that TensorFlow knows") from None


def _one_line(error: ValueError) -> str:
    """The text of an error as one line, without what a name in a file could do to a terminal."""
    text = str(error)[:300]
    shown: list[str] = []
    for character in text:
        if character.isprintable():
            shown.append(character)
        else:
            escaped = character.encode("unicode_escape")
            shown.append(escaped.decode())
    return "".join(shown)


def find(path: Path) -> CheckpointFiles:
    """Find the checkpoint that a path means. Raises ModelFileError where there is none; it says what is there."""
    with reading(path):
        if path.is_dir():
            return _in_folder(path)
        if path.is_file():
            return _at_file(path)
        return _at_prefix(path)


def _at_file(path: Path, *, follow: bool = True) -> CheckpointFiles:
    """The checkpoint that a file belongs to. Where `follow` is set, a state file leads to the one that it names."""
    shard_of_values = _DATA.fullmatch(path.name)
    if shard_of_values is not None:
        return _beside_values(path, shard_of_values["prefix"])
    if path.suffix == ".meta":
        prefix = path.with_suffix("")
        return _at_prefix(prefix, follow=follow)
    is_index = path.suffix == ".index"
    if not is_index and _with_ending(path, ".index").is_file():  # as TensorFlow does where both are there
        return _v2(path)
    head = checked_head(path)
    if is_table(path):
        return _at_table(path)
    state = _STATE.search(head)
    if follow and state is not None:
        return _from_state(path, state[1])
    description = _describe_file(head, "no checkpoint of TensorFlow, or cut off at its end; download or copy it again")
    raise ModelFileError(f"{path} is {description}")


def _beside_values(file: Path, prefix_name: str) -> CheckpointFiles:
    """The V2 checkpoint that a shard of values belongs to."""
    prefix = file.with_name(prefix_name)
    index = _with_ending(prefix, ".index")
    if not index.is_file():
        raise ModelFileError(f"{file} holds values alone; put {index.name} beside it")
    return _v2(prefix)


def _at_table(path: Path) -> CheckpointFiles:
    """The checkpoint that a table belongs to: as the index of a V2 one, as a shard of a V1 one, or as all of it."""
    if path.suffix == ".index":
        prefix = path.with_suffix("")
        return _v2(prefix)
    shard = _SHARD.fullmatch(path.name)
    if shard is not None:
        prefix = path.with_name(shard["prefix"])
        count = int(shard["count"])
        return _sharded(prefix, count)
    return CheckpointFiles("V1", path, (path,), f"V1 checkpoint {path}")


def _at_prefix(prefix: Path, *, follow: bool = True) -> CheckpointFiles:
    """The checkpoint of a prefix, which may be a file itself. `follow` is that of `_at_file`."""
    if prefix.is_file():
        return _at_file(prefix, follow=follow)
    if _with_ending(prefix, ".index").exists():
        return _v2(prefix)
    count = _count_shards(prefix)
    if count is not None:
        return _sharded(prefix, count)
    several = _SHARD.fullmatch(prefix.name)  # as a state file names them, with question marks
    is_shard_of_values = _DATA.fullmatch(prefix.name) is not None
    if several is not None and not is_shard_of_values:
        prefix_of_all = prefix.with_name(several["prefix"])
        count = int(several["count"])
        return _sharded(prefix_of_all, count)
    raise _absent(prefix)


def _count_shards(prefix: Path) -> int | None:
    """How many files a V1 checkpoint has, by the name of the first that is there. None where no file is there."""
    folder = prefix.parent
    if not folder.is_dir():
        return None
    for file in sorted(folder.iterdir()):
        shard = _SHARD.fullmatch(file.name)
        if shard is not None and shard["prefix"] == prefix.name:
            return int(shard["count"])
    return None


def _absent(prefix: Path) -> ModelFileError:
    """The error for a prefix without a checkpoint. It names what is there instead."""
    for ending in (".meta", ".data-00000-of-00001"):
        if _with_ending(prefix, ending).exists():
            return ModelFileError(f"{prefix}{ending} is there without {prefix.name}.index; put it beside")
    if prefix.is_symlink():
        return ModelFileError(f"{prefix} is a link to a file that is gone; give the path of a checkpoint")
    return ModelFileError(f"no checkpoint {prefix}: neither that file nor {prefix.name}.index exists; correct the path")


def _in_folder(folder: Path) -> CheckpointFiles:
    """The checkpoint of a folder: the one that its state file names, or else the only one."""
    state = folder / STATE_FILE
    if state.is_file():
        return _at_file(state)
    indexes = sorted(folder.glob("*.index"))
    if not indexes:
        indexes = sorted(folder.glob("variables/variables.index"))
    if not indexes:
        raise ModelFileError(f"{folder} is a folder without a file 'checkpoint' or *.index; give the checkpoint's path")
    if len(indexes) > 1:
        names = ", ".join(index.stem for index in indexes[:5])
        raise ModelFileError(f"{folder} holds {len(indexes)} checkpoints ({names}); give the path of one")
    prefix = indexes[0].with_suffix("")
    return _v2(prefix)


def _from_state(state: Path, name: bytes) -> CheckpointFiles:
    """The newest checkpoint that a state file names. It may have been moved, and may not lead out of its folder."""
    text = name.decode("utf-8", "replace")
    if not text.isprintable():
        raise ValueError("it names a checkpoint in characters that no name has")
    stated = Path(text)
    is_inside = not stated.is_absolute() and ".." not in stated.parts
    if is_inside:
        prefix = state.parent / stated
    else:
        prefix = state.parent / stated.name
    try:
        return _at_prefix(prefix, follow=False)
    except ModelFileError as error:
        raise ModelFileError(f"{state} leads to a checkpoint that cannot be read: {error}") from None


def _v2(prefix: Path) -> CheckpointFiles:
    """The V2 checkpoint of a prefix. Raises ModelFileError where its index is no table."""
    index = _with_ending(prefix, ".index")
    head = checked_head(index)
    if not is_table(index):
        description = _describe_file(head, "cut off or damaged; download or copy it again")
        raise ModelFileError(f"{index} is {description}")
    return CheckpointFiles("V2", prefix, (index,), f"V2 checkpoint {prefix}")


def _sharded(prefix: Path, count: int) -> CheckpointFiles:
    """The V1 checkpoint of `count` files. Raises ModelFileError where one of them is missing or no table."""
    files: list[Path] = []
    missing: list[str] = []
    for number in range(count):
        file = prefix.with_name(f"{prefix.name}-{number:05d}-of-{count:05d}")
        files.append(file)
        if not file.is_file():
            missing.append(file.name)
    if missing or not files:
        gone = f"{len(missing)} {agreeing(len(missing), 'is', 'are')} missing {missing[:2]}"
        raise ModelFileError(f"{prefix} is a V1 checkpoint of {counted(count, 'file')}; {gone}")
    for file in files:
        if not is_table(file):
            raise ModelFileError(f"{file} is no checkpoint of TensorFlow, or cut off at its end; copy it again")
    return CheckpointFiles("V1", prefix, tuple(files), f"V1 checkpoint {prefix} of {counted(count, 'file')}")


def _describe_file(head: bytes, unknown: str) -> str:
    """Say what a file is that is no table; `unknown` where its first bytes are those of no other format either."""
    description = describe_foreign(head)
    if description.startswith("something else"):
        return unknown
    return description


def _with_ending(path: Path, ending: str) -> Path:
    """The path with an ending behind its name, whatever ending that has."""
    return path.with_name(path.name + ending)
