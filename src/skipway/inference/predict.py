"""What `skipway predict` takes and tells."""

from __future__ import annotations

import glob
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from skipway.data.pictures import is_picture_name, natural_key, open_picture
from skipway.errors import DataError, PictureError
from skipway.inference.classifier import CHUNK, Classifier
from skipway.reporting import joined_lines

File = tuple[str, Path | bytes]

MAX_STDIN = 256 << 20  # bytes

# How the formats that are read begin; anything else on stdin is a list of names.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*", *(b"P%d" % i for i in range(1, 7)))


def find_pictures(given: Sequence[str], stdin: BinaryIO) -> list[File]:
    """Names and files of everything that was asked for, folders and globs expanded in natural order.

    `-` reads stdin once, 256 MiB at the most: one encoded picture, or file names, one a line. A name without a file
    stays in the list, for its row to carry the error. Raises DataError when a folder or pattern holds no pictures.
    """
    found: list[File] = []
    for text in given:
        if text == "-":
            found += _from_stdin(_bounded(stdin))
        elif text and _is(Path.is_dir, text):
            found += _below(Path(text))
        elif glob.has_magic(text) and not _is(Path.exists, text):
            found += _matching(text)
        else:
            found.append((text, Path(text)))
    return found


def _is(kind: Callable[[Path], bool], text: str) -> bool:
    try:
        return kind(Path(text))
    except OSError:  # a name too long, a folder that may not be entered: reading it will say so
        return False


def _bounded(stdin: BinaryIO) -> bytes:
    """All of stdin. Raises DataError where it is endless, or as good as that."""
    data = stdin.read(MAX_STDIN + 1)
    if len(data) > MAX_STDIN:
        raise DataError(
            f"stdin holds more than {MAX_STDIN >> 20} MiB, which no picture and no list of names takes; name the files "
            "instead"
        )
    return data


def _from_stdin(data: bytes) -> list[File]:
    text = data.decode("utf-8-sig", "surrogateescape")
    names = [line for line in io.StringIO(text, newline=None).read().split("\n") if line.strip()]
    # A list may begin with a picture named BMW.jpg; no picture begins with a line of text that ends so.
    if data.startswith(_MAGIC) and ("\0" in names[0] or not is_picture_name(Path(names[0]))):
        return [("-", data)]
    if not names or any("\0" in name for name in names):
        raise DataError("stdin holds neither a picture nor names of pictures; pipe one of them in")
    return [(name, Path(name)) for name in names]


def _below(folder: Path) -> list[File]:
    found = (one for one in folder.rglob("*") if is_picture_name(one) and one.is_file())
    # Hidden folders, such as Jupyter's checkpoints, hold copies; in training they do not count either.
    seen = (one for one in found if not any(part.startswith(".") for part in one.relative_to(folder).parts))
    files = sorted(seen, key=_order)
    if not files:
        raise DataError(f"{folder} holds no pictures; give another folder")
    return [(str(one), one) for one in files]


def _matching(pattern: str) -> list[File]:
    # Path.glob takes no absolute patterns.
    files = sorted((Path(one) for one in glob.glob(pattern, recursive=True) if Path(one).is_file()), key=_order)  # noqa: PTH207
    if not files:
        raise DataError(f"no file matches {pattern}; check the pattern")
    return [(str(one), one) for one in files]


def _order(file: Path) -> tuple[tuple[int, int | str], ...]:
    return natural_key(str(file))


def predict_files(classifier: Classifier, files: Sequence[File], top: int) -> list[dict[str, Any]]:
    """One row for each file: its predictions, or the error that kept it from having any."""
    rows: list[dict[str, Any]] = []
    for start in range(0, len(files), CHUNK):
        chunk = [(name, _pixels(classifier, name, file)) for name, file in files[start : start + CHUNK]]
        readable = [pixels for _, pixels in chunk if isinstance(pixels, Tensor)]
        answers = iter(classifier.best(torch.stack(readable), top) if readable else [])
        for name, pixels in chunk:
            if isinstance(pixels, PictureError):
                rows.append({"file": name, "error": pixels.reason})
            else:
                rows.append({"file": name, "predictions": [vars(one) for one in next(answers)]})
    return rows


def _pixels(classifier: Classifier, name: str, file: Path | bytes) -> Tensor | PictureError:
    try:
        return classifier.preprocessing.pixels(open_picture(file, name))
    except PictureError as error:
        return error


def describe_predictions(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text: a picture, then its answers, best first."""
    lines: list[str] = []
    for row in rows:
        lines.append(row["file"])
        if "error" in row:
            lines.append(f"  not read: {row['error']}")
        lines += [f"  {one['probability']:7.2%}  {one['label']}" for one in row.get("predictions", [])]
    return joined_lines(lines)
