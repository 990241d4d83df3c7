"""Checks of the files to be written: no file of the user's is replaced unasked, and none that is being read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from skipway.errors import ModelFileError, RunError
from skipway.interchange.forms import FORMS
from skipway.interchange.tensorflow import checkpoint as tf_checkpoint
from skipway.interchange.tensorflow.paths import find

_MODEL = ".safetensors"


def check_model_path(to: Path) -> None:
    """Raises ModelFileError unless `to` ends as a model file does."""
    if to.suffix.lower() != _MODEL:
        raise ModelFileError(f"{to} becomes a skipway model, which is a {_MODEL} file; call it {to.stem}{_MODEL}")


def check_outputs(files: Iterable[Path], read: Iterable[Path | None], *, overwrite: bool) -> None:
    """Raises RunError where one of `files` must not be written.

    It exists already (unless `overwrite`), or it is, lies in or belongs to what is read: a file, a folder, the prefix
    of a checkpoint.
    """
    inputs = [path for path in read if path is not None]
    for file in files:
        for path in inputs:
            if _is_read(file, path):
                raise RunError(f"{file} belongs to what is read; give another path")
        if overwrite:
            continue
        if _exists(file):
            raise RunError(f"{file} exists already; give another path, or --overwrite")


def form_files(to: Path, form: str) -> tuple[Path, ...]:
    """The files that `to` may stand for by its ending, before it is known which network goes into them."""
    files: list[Path] = []
    for known in FORMS:
        if not known.takes(to, form):
            continue
        for file in known.files(to):
            if file not in files:
                files.append(file)
    if not files:
        return (to,)
    return tuple(files)


def _is_read(file: Path, path: Path) -> bool:
    """Whether `file` is a part of what is read at `path`."""
    try:
        if path.is_dir():
            folder = path.resolve()
            return file.resolve().is_relative_to(folder)
        if not file.exists():
            return False
        for other in _read_with(path):
            if other.exists() and file.samefile(other):
                return True
    except (OSError, ValueError):  # a name that cannot be: reading or writing will say so
        return False
    return False


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # a name that cannot be: writing will say so
        return False


def _read_with(path: Path) -> Iterator[Path]:
    """A file and those that are read with it: a caffemodel's prototxt, a checkpoint's shards, those of an index."""
    yield path
    yield path.with_suffix(".prototxt")
    if path.name.endswith(".index.json"):
        yield from path.parent.iterdir()
        return
    if path.is_file() and not tf_checkpoint.looks_like(b"", path):
        return
    try:
        prefix = find(path).prefix
    except (OSError, ValueError, ModelFileError):  # no checkpoint: reading it will say what it is
        return
    beginning = f"{prefix.name}."
    for other in prefix.parent.iterdir():
        if other.name.startswith(beginning):
            yield other
