"""One picture file in, the picture that a person sees out: the only place where files are decoded, but for the plain
JPEGs of `jpeg.py`, which leaves every doubt to this one."""

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

# Only formats decoded by Pillow's own code: EPS, for one, would start another program. MPO files open as JPEG.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
)

# Twice Pillow's own warning threshold: from here on Pillow itself refuses.
MAX_PIXELS = 178_956_970

# More than an uncompressed 16-bit picture of that many pixels would take.
MAX_BYTES = 2**30 + 2**29
_PART = 2**20  # bytes to ask an open file for at once: some make room for as many as they are asked

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
    """Ignores warnings while any thread is inside.

    `warnings.catch_warnings` swaps the filters of the whole process: two threads that overlap would put them back in
    the wrong order and leave the process silent for good. Here the first one in swaps and the last one out restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings(action="ignore")
                self._caught.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


SILENCE = _Silence()


class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes: ...


EncodedBytes = bytes | bytearray | memoryview


def open_picture(file: Path | str | EncodedBytes | Readable, name: str | None = None) -> Image.Image:
    """Decode a file, an open one or the bytes of one into an upright 8-bit picture in mode L or RGB.

    An open file is read from its start where it can be rewound, as Pillow does, and stays open. Animations give their
    first frame. Transparency is laid on white. 16-bit depth is scaled to 8. EXIF rotation is applied. `name` stands in
    for the file in error messages. Raises PictureError for whatever is no whole picture.
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
        with SILENCE:  # Pillow warns about odd metadata; the pixels decide here
            return _decode(data)
    except UnidentifiedImageError:
        raise PictureError(label, "is no picture in a known format; re-save it as JPEG or PNG") from None
    except Image.DecompressionBombError:
        raise PictureError(
            label, f"has more than {MAX_PIXELS:,} pixels (a decompression bomb?); scale it down"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # decoders meet hostile bytes: each of their failures means a bad picture
        raise PictureError(label, f"is damaged ({_reason(error)}); restore or delete it") from None


def read_bytes(file: Path, label: str) -> bytes:
    """Bytes of a regular file of bearable size: a pipe would never end, a sparse file would take all memory. Raises
    PictureError."""
    try:
        return _read(file, label)
    except OSError as error:
        raise PictureError(label, f"cannot be read ({error.strerror}); check the path and its permissions") from None
    except ValueError as error:  # a name with a zero byte
        raise PictureError(label, f"cannot be read ({error}); check the path") from None


def read_open_file(file: Readable, label: str) -> bytes:
    """All bytes of an open file, if they are no more than a picture may have. Raises PictureError."""
    found = bytearray()
    try:
        seekable = getattr(file, "seekable", None)
        if seekable is not None and seekable():
            file.seek(0)  # type: ignore[attr-defined]  # what says that it can
        while len(found) <= MAX_BYTES:
            part = file.read(min(MAX_BYTES + 1 - len(found), _PART))
            if not isinstance(part, bytes):
                raise PictureError(label, f"gives {type(part).__name__}, not bytes; open the file with mode 'rb'")
            if not part:
                return bytes(found)
            found += part
    except (OSError, ValueError) as error:  # ValueError: it has been closed
        raise PictureError(label, f"cannot be read ({_reason(error)}); open it again") from None
    raise PictureError(label, f"has more than {MAX_BYTES:,} bytes; re-save it smaller")


def _read(file: Path, label: str) -> bytes:
    found = file.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise PictureError(label, "is no regular file; give the picture itself")
    if found.st_size > MAX_BYTES:
        raise PictureError(label, f"has more than {MAX_BYTES:,} bytes; re-save it smaller")
    return file.read_bytes()


def _decode(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        if opened.width * opened.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        opened.seek(0)
        opened.load()
        flat = flattened(upright(opened))
        flat.info = {}  # its orientation has been followed: nobody may turn the picture again
        return flat


def upright(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF says. `ImageOps.exif_transpose` also writes the EXIF anew and fails where that is odd."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # EXIF that cannot be read turns nothing
        return picture
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def flattened(picture: Image.Image) -> Image.Image:
    """Any mode as L (grey) or RGB."""
    mode = picture.mode
    clear = picture.has_transparency_data
    if mode in {"L", "RGB"} and not clear:
        return picture.copy()
    if mode.startswith("I") or mode == "F":
        return _scale_deep(np.asarray(picture), mode, picture.info.get("transparency"))
    if clear:
        grey = mode in {"1", "L", "LA", "La"}
        visible = picture.convert("RGBA")
        white = Image.new("RGBA", visible.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, visible).convert("L" if grey else "RGB")
    return picture.convert("L" if mode == "1" else "RGB")


def _scale_deep(values: np.ndarray, mode: str, clear: object) -> Image.Image:
    """Deep grey as 8 bits, with `clear`, a PNG's transparent count, on white. Pillow's own conversion clips at 255,
    which turns a 16-bit picture white."""
    wide = np.nan_to_num(values.astype(np.float64))
    if mode == "F":
        scaled = wide * 255 if wide.max(initial=0.0) <= 1.0 else wide
    else:  # 32-bit "I" is how some 16-bit files open; small values there are plain 8-bit counts
        deep = mode.startswith("I;16") or wide.max(initial=0.0) > 255
        scaled = wide / 257 if deep else wide
    counts = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return Image.fromarray(np.where(values == clear, 255, counts).astype(np.uint8) if clear is not None else counts)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:120]


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts `10` after `9`: digits compare as numbers, the rest as lower-case text; ties such as `1` and `01` as they
    are spelt, so that no order depends on the file system."""
    parts = re.split(r"(\d+)", text)
    compared = tuple((0, int(part)) if part.isdecimal() else (1, part.lower()) for part in parts if part)
    return (*compared, (-1, text))


def is_picture_name(file: Path) -> bool:
    """Whether the name promises a picture. Hidden files, such as macOS's `._a.jpg`, do not count."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
