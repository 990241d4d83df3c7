"""What `skipway predict` takes and prints."""

from __future__ import annotations

import glob
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch

from skipway.data.pictures import is_picture_name, natural_key, open_picture
from skipway.errors import DataError, PictureError
from skipway.inference.classifier import CHUNK, Classifier
from skipway.reporting import joined_lines

File = tuple[str, Path | bytes]

MAX_STDIN = 256 << 20  # bytes

# How the formats that are read begin; anything else on stdin is a list of names.
_PORTABLE_MAPS = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*", *_PORTABLE_MAPS)


def find_pictures(given: Sequence[str], stdin: BinaryIO) -> list[File]:
    """Names and files of everything that was asked for, folders and globs expanded in natural order.

    `-` reads stdin once, 256 MiB at the most: one encoded picture, or file names, one a line. A name without a file
    stays in the list, for its row to carry the error. Raises DataError when a folder or pattern holds no pictures.
    """
    files: list[File] = []
    for text in given:
        if text == "-":
            data = _all_of(stdin)
            files += _from_stdin(data)
            continue
        if text and _is(Path.is_dir, text):
            files += _below(Path(text))
            continue
        is_pattern = glob.has_magic(text) and not _is(Path.exists, text)
        if is_pattern:
            files += _matching(text)
        else:
            files.append((text, Path(text)))
    return files


def _is(kind: Callable[[Path], bool], text: str) -> bool:
    """Whether a text is the path of a folder, or of anything that exists, as `kind` asks."""
    try:
        return kind(Path(text))
    except OSError:  # a name too long, a folder that may not be entered: reading it will say so
        return False


def _all_of(stdin: BinaryIO) -> bytes:
    """All of stdin. Raises DataError where it is endless, or as good as that."""
    data = stdin.read(MAX_STDIN + 1)
    if len(data) > MAX_STDIN:
        raise DataError(
            f"stdin holds more than {MAX_STDIN >> 20} MiB, which no picture and no list of names takes; name the files "
            "instead"
        )
    return data


def _from_stdin(data: bytes) -> list[File]:
    """The picture on stdin, or the files that it names. Raises DataError where it is neither."""
    text = data.decode("utf-8-sig", "surrogateescape")
    text = io.StringIO(text, newline=None).read()  # all kinds of newlines become "\n"
    names = [line for line in text.split("\n") if line.strip()]
    if data.startswith(_MAGIC):
        # A list may begin with a picture named BMW.jpg; no picture begins with a line of text that ends so.
        first = names[0]
        is_list = "\0" not in first and is_picture_name(Path(first))
        if not is_list:
            return [("-", data)]
    is_binary = "\0" in "".join(names)
    if is_binary or not names:
        raise DataError("stdin holds neither a picture nor names of pictures; pipe one of them in")
    return [(name, Path(name)) for name in names]


def _below(folder: Path) -> list[File]:
    """The pictures of a folder and of all folders in it. Raises DataError for none."""
    pictures = []
    for file in folder.rglob("*"):
        if not is_picture_name(file) or not file.is_file():
            continue
        # Hidden folders, such as Jupyter's checkpoints, hold copies; in training they do not count either.
        parts = file.relative_to(folder).parts
        is_hidden = any(part.startswith(".") for part in parts)
        if not is_hidden:
            pictures.append(file)
    if not pictures:
        raise DataError(f"{folder} holds no pictures; give another folder")
    return _in_natural_order(pictures)


def _matching(pattern: str) -> list[File]:
    """The files that match a pattern. Raises DataError for none."""
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute patterns)
    files = [Path(name) for name in names]
    files = [file for file in files if file.is_file()]
    if not files:
        raise DataError(f"no file matches {pattern}; check the pattern")
    return _in_natural_order(files)


def _in_natural_order(files: list[Path]) -> list[File]:
    """Files with their names, `2.png` before `10.png`."""
    named: list[File] = [(str(file), file) for file in files]
    return sorted(named, key=lambda entry: natural_key(entry[0]))


def predict_files(classifier: Classifier, files: Sequence[File], top: int) -> list[dict[str, Any]]:
    """One row for each file: its predictions, or the error that kept it from having any."""
    rows: list[dict[str, Any]] = []
    for start in range(0, len(files), CHUNK):
        rows += _predict_chunk(classifier, files[start : start + CHUNK], top)
    return rows


def _predict_chunk(classifier: Classifier, files: Sequence[File], top: int) -> list[dict[str, Any]]:
    """The rows of files that are classified at once."""
    rows: list[dict[str, Any]] = []
    readable_rows = []
    readable = []
    for name, file in files:
        row: dict[str, Any] = {"file": name}
        rows.append(row)
        try:
            picture = open_picture(file, name)
            pixels = classifier.preprocessing.pixels(picture)
        except PictureError as error:
            row["error"] = error.reason
            continue
        readable_rows.append(row)
        readable.append(pixels)
    if not readable:
        return rows
    answers = classifier.best(torch.stack(readable), top)
    for row, predictions in zip(readable_rows, answers, strict=True):
        row["predictions"] = [vars(prediction) for prediction in predictions]
    return rows


def describe_predictions(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text: a picture, then its answers, best first.

    The probabilities of all pictures stand below each other.
    """
    lines: list[str] = []
    for row in rows:
        lines.append(row["file"])
        if "error" in row:
            lines.append(f"  not read: {row['error']}")
            continue
        for prediction in row["predictions"]:
            lines.append(f"  {prediction['probability']:7.2%}  {prediction['label']}")
    return joined_lines(lines)
