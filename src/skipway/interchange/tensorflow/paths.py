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
class Found:
    """A checkpoint on disk: `tables` is the index of a V2 checkpoint, or the file or files of a V1 checkpoint. `told`
    says in words what was found."""

    version: Literal["V1", "V2"]
    prefix: Path
    tables: tuple[Path, ...]
    told: str


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read into one line that names it."""
    try:
        yield
    except OSError as error:
        raise ModelFileError(str(read_error(path, error))) from None
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged ({_line(error)}); download or copy it again") from None


def _line(error: ValueError) -> str:
    """One line of it, without what a name in a file could do to a terminal."""
    told = str(error)[:300]
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in told)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what makes arrays unfit for a file into one line that names it."""
    try:
        yield
    except ValueError as error:
        raise ModelFileError(f"{path} cannot be written ({_line(error)}); give arrays that TensorFlow knows") from None


def find(path: Path) -> Found:
    """The checkpoint that a path means. Raises ModelFileError when there is none, saying what is there instead."""
    with reading(path):
        if path.is_dir():
            return _in_folder(path)
        if path.is_file():
            return _at_file(path)
        return _at_prefix(path)


def _at_file(path: Path, *, follow: bool = True) -> Found:
    if data := _DATA.fullmatch(path.name):
        prefix = path.with_name(data["prefix"])
        if not _with(prefix, ".index").is_file():
            raise ModelFileError(f"{path} holds values alone; put {prefix.name}.index beside it")
        return _v2(prefix)
    if path.suffix == ".meta":
        return _at_prefix(path.with_suffix(""), follow=follow)
    if path.suffix != ".index" and _with(path, ".index").is_file():  # as TensorFlow does where both are there
        return _v2(path)
    head = checked_head(path)
    if is_table(path):
        if path.suffix == ".index":
            return _v2(path.with_suffix(""))
        if shard := _SHARD.fullmatch(path.name):
            return _sharded(path.with_name(shard["prefix"]), int(shard["count"]))
        return Found("V1", path, (path,), f"V1 checkpoint {path}")
    if follow and (state := _STATE.search(head)):
        return _from_state(path, state[1])
    told = describe_foreign(head)
    if told.startswith("something else"):
        told = "no checkpoint of TensorFlow, or cut off at its end; download or copy it again"
    raise ModelFileError(f"{path} is {told}")


def _at_prefix(prefix: Path, *, follow: bool = True) -> Found:
    if prefix.is_file():
        return _at_file(prefix, follow=follow)
    if _with(prefix, ".index").exists():
        return _v2(prefix)
    if prefix.parent.is_dir():
        for file in sorted(prefix.parent.iterdir()):
            shard = _SHARD.fullmatch(file.name)
            if shard and shard["prefix"] == prefix.name:
                return _sharded(prefix, int(shard["count"]))
    several = _SHARD.fullmatch(prefix.name)  # as a state file names them, with question marks
    if several and not _DATA.fullmatch(prefix.name):
        return _sharded(prefix.with_name(several["prefix"]), int(several["count"]))
    for ending in (".meta", ".data-00000-of-00001"):
        if _with(prefix, ending).exists():
            raise ModelFileError(f"{prefix}{ending} is there without {prefix.name}.index; put it beside")
    if prefix.is_symlink():
        raise ModelFileError(f"{prefix} is a link to a file that is gone; give the path of a checkpoint")
    raise ModelFileError(f"no checkpoint {prefix}: neither that file nor {prefix.name}.index exists; correct the path")


def _in_folder(folder: Path) -> Found:
    state = folder / STATE_FILE
    if state.is_file():
        return _at_file(state)
    indexes = sorted(folder.glob("*.index")) or sorted(folder.glob("variables/variables.index"))
    if len(indexes) == 1:
        return _v2(indexes[0].with_suffix(""))
    if indexes:
        names = ", ".join(index.stem for index in indexes[:5])
        raise ModelFileError(f"{folder} holds {len(indexes)} checkpoints ({names}); give the path of one")
    raise ModelFileError(f"{folder} is a folder without a file 'checkpoint' or *.index; give the checkpoint's path")


def _from_state(state: Path, name: bytes) -> Found:
    """The newest checkpoint that a state file names. It may have been moved, and may not lead out of its folder."""
    text = name.decode("utf-8", "replace")
    if not text.isprintable():
        raise ValueError("it names a checkpoint in characters that no name has")
    stated = Path(text)
    inside = not stated.is_absolute() and ".." not in stated.parts
    prefix = state.parent / (stated if inside else stated.name)
    try:
        return _at_prefix(prefix, follow=False)
    except ModelFileError as error:
        raise ModelFileError(f"{state} leads to a checkpoint that cannot be read: {error}") from None


def _v2(prefix: Path) -> Found:
    index = _with(prefix, ".index")
    head = checked_head(index)
    if not is_table(index):
        told = describe_foreign(head)
        foreign = "cut off or damaged; download or copy it again" if told.startswith("something else") else told
        raise ModelFileError(f"{index} is {foreign}")
    return Found("V2", prefix, (index,), f"V2 checkpoint {prefix}")


def _sharded(prefix: Path, count: int) -> Found:
    files = [prefix.with_name(f"{prefix.name}-{number:05d}-of-{count:05d}") for number in range(count)]
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        gone = f"{len(missing)} {agreeing(len(missing), 'is', 'are')} missing {missing[:2]}"
        raise ModelFileError(f"{prefix} is a V1 checkpoint of {counted(count, 'file')}; {gone}")
    for file in files:
        if not is_table(file):
            raise ModelFileError(f"{file} is no checkpoint of TensorFlow, or cut off at its end; copy it again")
    return Found("V1", prefix, tuple(files), f"V1 checkpoint {prefix} of {counted(count, 'file')}")


def _with(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
