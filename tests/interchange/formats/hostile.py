"""What is done to files in the tests of their readers, and what must come of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from skipway.errors import ModelFileError
from skipway.interchange.source import WeightFile

Reader = Callable[[Path], WeightFile]

PAGE = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 243861814\n"


def read_all(read: Reader, path: Path) -> dict[str, np.ndarray]:
    """Every array, loaded; each is what the source says that it is."""
    loaded = {}
    for name, array in read(path).arrays.items():
        loaded[name] = array.read()
        assert loaded[name].shape == array.shape
        assert loaded[name].dtype == array.dtype
        assert loaded[name].dtype.isnative
    return loaded


def refused(read: Reader, path: Path, words: str = "") -> str:
    """The one line that refuses a file: it names the file and a fix."""
    with pytest.raises(ModelFileError) as caught:
        read_all(read, path)
    message = str(caught.value)
    assert str(path) in message or path.is_dir(), message
    assert "\n" not in message
    assert "; " in message
    assert words in message, message
    return message


def truncations(content: bytes, parts: int = 16) -> Iterator[bytes]:
    """The beginning of a file up to every sixteenth of it, and all but its last byte."""
    yield from (content[: len(content) * part // parts] for part in range(parts))
    yield content[:-1]


def refuses_what_is_no_file(read: Reader, folder: Path, name: str) -> None:
    """An absent, empty or foreign file, a folder, a link to nothing."""
    path = folder / name
    refused(read, path, "exist")
    path.symlink_to(folder / "gone")
    refused(read, path, "link")
    path.unlink()
    path.mkdir()
    refused(read, path, "folder")
    path.rmdir()
    for content, words in ((b"", "empty"), (PAGE, "web page"), (POINTER, "git lfs pull"), (b"\0" * 64, "")):
        path.write_bytes(content)
        refused(read, path, words)
    if os.geteuid():
        path.chmod(0)
        refused(read, path, "cannot be opened")
