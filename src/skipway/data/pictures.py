"""A picture file in, the picture that a person sees out.

All files are decoded here, except for plain JPEG files that `jpeg.py` decodes; it leaves every doubtful file to this
module.
"""

from __future__ import annotations

import errno
import io
import re
import stat
import threading
import warnings
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from skipway.errors import PictureError

# Only formats that Pillow decodes itself: for EPS, as an example, it starts another program. MPO files open as JPEG.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
)

# Twice the number at which Pillow warns. Pillow refuses larger pictures.
MAX_PIXELS = 178_956_970

# More than an uncompressed 16-bit picture of that many pixels would take.
MAX_BYTES = 2**30 + 2**29
_PART = 2**20  # bytes to read from an open file at once: some allocate memory for all that is asked for
_LONGEST_REASON = 120  # characters of a decoder's error

# Bands of pictures as Pillow names them: one bit, 8-bit grey, and grey with transparency.
_GREY_MODES = frozenset(("1", "L", "LA", "La"))

# How to turn a picture upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Silence:
    """A context in which warnings are ignored, for the whole process, while any thread is inside.

    `warnings.catch_warnings` changes the filters of the whole process. Two threads that overlap would restore them in
    the wrong order, and all later warnings would be lost. Here the first thread that enters changes the filters, and
    the last one that leaves restores them.
    """

    def __init__(self) -> None:
        """A context that no thread has entered."""
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        """Ignore warnings, if this thread is the first inside."""
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings(action="ignore")
                self._caught.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        """Restore the filters, if this thread is the last inside."""
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


SILENCE = _Silence()


class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size` of them."""
        ...


EncodedBytes = bytes | bytearray | memoryview


def open_picture(file: Path | str | EncodedBytes | Readable, name: str | None = None) -> Image.Image:
    """Decode a picture into an upright 8-bit image in mode L or RGB.

    An animation gives its first frame. Transparent pixels get a white background. A depth of 16 bits is scaled to 8.
    EXIF rotation is applied.

    Arguments:
        file: the path of a file, its bytes, or an open file. An open file is read from its start where it can be
            rewound, as Pillow does, and stays open.
        name: what to call the picture in error messages; the path by default.

    Raises PictureError for anything that is not a whole picture.
    """
    if isinstance(file, Path | str):
        label = name or str(file)
        data = read_bytes(Path(file), label)
    elif isinstance(file, EncodedBytes):
        label = name or "<bytes>"
        data = bytes(file)
    else:
        label = name or "<open file>"
        data = read_open_file(file, label)
    if not data:
        raise PictureError(label, "is empty (0 bytes); restore or delete it")
    try:
        # Pillow warns about odd metadata, but only the pixels matter here.
        with SILENCE:
            return _decode(data)
    except UnidentifiedImageError:
        raise PictureError(label, "is no picture in a known format; re-save it as JPEG or PNG") from None
    except Image.DecompressionBombError:
        raise PictureError(
            label, f"has more than {MAX_PIXELS:,} pixels (a decompression bomb?); scale it down"
        ) from None
    except MemoryError:
        raise
    except Exception as error:
        # Decoders can fail in many ways with hostile bytes, and each of them means a bad picture.
        raise PictureError(label, f"is damaged ({_reason(error)}); restore or delete it") from None


def read_bytes(file: Path, label: str) -> bytes:
    """The bytes of a regular file, if they are no more than a picture may have.

    A pipe would never end, and a sparse file would fill the memory.

    Arguments:
        file: its path.
        label: what to call it in error messages.

    Raises PictureError.
    """
    try:
        return _read_regular(file, label)
    except OSError as error:
        raise PictureError(label, f"cannot be read ({error.strerror}); check the path and its permissions") from None
    except ValueError as error:
        # A name with a zero byte.
        raise PictureError(label, f"cannot be read ({error}); check the path") from None


def read_open_file(file: Readable, label: str) -> bytes:
    """All bytes of an open file, if they are no more than a picture may have.

    Arguments:
        file: is read from its start where it can be rewound, and stays open.
        label: what to call it in error messages.

    Raises PictureError.
    """
    found = bytearray()
    try:
        seekable = getattr(file, "seekable", None)
        if seekable is not None and seekable():
            file.seek(0)  # type: ignore[attr-defined]  # it says that it can
        while len(found) <= MAX_BYTES:
            allowed = MAX_BYTES + 1 - len(found)
            part = file.read(min(allowed, _PART))
            if not isinstance(part, bytes):
                raise PictureError(label, f"gives {type(part).__name__}, not bytes; open the file with mode 'rb'")
            if not part:
                return bytes(found)
            found += part
    except (OSError, ValueError) as error:
        # A file that has been closed raises ValueError.
        raise PictureError(label, f"cannot be read ({_reason(error)}); open it again") from None
    raise PictureError(label, f"has more than {MAX_BYTES:,} bytes; re-save it smaller")


def _read_regular(file: Path, label: str) -> bytes:
    """As `read_bytes`. Raises OSError and ValueError, too."""
    facts = file.stat()
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    if not stat.S_ISREG(facts.st_mode):
        raise PictureError(label, "is no regular file; give the picture itself")
    if facts.st_size > MAX_BYTES:
        raise PictureError(label, f"has more than {MAX_BYTES:,} bytes; re-save it smaller")
    return file.read_bytes()


def _decode(data: bytes) -> Image.Image:
    """As `open_picture`, with the errors of Pillow."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        opened.seek(0)
        opened.load()
        flat = flattened(upright(opened))
        # The rotation has been applied. Without it here, nobody can apply it again.
        flat.info = {}
        return flat


def upright(picture: Image.Image) -> Image.Image:
    """A picture turned as its EXIF says. A picture whose EXIF cannot be read is not turned.

    `ImageOps.exif_transpose` would also write the EXIF again, and fails where it is odd.
    """
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return picture
    if orientation not in _TURNS:
        return picture
    return picture.transpose(_TURNS[orientation])


def flattened(picture: Image.Image) -> Image.Image:
    """A picture of any mode in mode L (grey) or RGB, on a white background."""
    mode = picture.mode
    is_transparent = picture.has_transparency_data
    if mode in {"L", "RGB"} and not is_transparent:
        return picture.copy()
    if mode.startswith("I") or mode == "F":
        return _scale_deep(np.asarray(picture), mode, picture.info.get("transparency"))
    if is_transparent:
        visible = picture.convert("RGBA")
        white = Image.new("RGBA", visible.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, visible)
    if mode == "1" or (is_transparent and mode in _GREY_MODES):
        return picture.convert("L")
    return picture.convert("RGB")


def _scale_deep(values: np.ndarray, mode: str, transparent: object) -> Image.Image:
    """Grey values of more than 8 bits as 8-bit counts. Pillow's own conversion would clip them at 255.

    Arguments:
        values: the values (H, W).
        mode: Pillow's mode, which begins with "I" for whole numbers or is "F" for floats.
        transparent: the value that a PNG declares transparent, which becomes white; None where there is none.
    """
    wide = np.nan_to_num(values.astype(np.float64))
    highest = wide.max(initial=0.0)
    scaled = wide
    if mode == "F":
        if highest <= 1.0:
            scaled = wide * 255
    elif mode.startswith("I;16") or highest > 255:
        # Pillow opens some 16-bit files in the 32-bit mode "I". Small values there are 8-bit counts.
        scaled = wide / 257
    counts = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    if transparent is not None:
        counts = np.where(values == transparent, 255, counts).astype(np.uint8)
    return Image.fromarray(counts)


def _reason(error: Exception) -> str:
    """The message of an error on one line, or the name of the error where it has no message."""
    message = " ".join(str(error).split())
    if not message:
        message = type(error).__name__
    return message[:_LONGEST_REASON]


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """The key by which names sort as people expect, with `10` after `9`.

    Digits compare as numbers, and the rest as lower-case text. Names that are equal so, such as `1` and `01`, compare
    as they are written, so that the order never depends on the file system.
    """
    key: list[tuple[int, int | str]] = []
    for part in re.split(r"(\d+)", text):
        if part.isdecimal():
            key.append((0, int(part)))
        elif part:
            key.append((1, part.lower()))
    key.append((-1, text))
    return tuple(key)


def is_picture_name(file: Path) -> bool:
    """Whether a file is a picture by its name. Hidden files, such as `._a.jpg` of macOS, are not."""
    is_hidden = file.name.startswith(".")
    return file.suffix.lower() in SUFFIXES and not is_hidden
