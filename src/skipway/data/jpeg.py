"""Plain JPEG files, decoded no further than needed: a fast path that gives what `pictures.open_picture` gives.

simplejpeg and Pillow both use libjpeg-turbo with its accurate transform and smooth upsampling, and are equal bit for
bit. simplejpeg returns an array without a copy, reports where a file is damaged, and accepts a file whose header states
fewer rows than the file has.
"""

from __future__ import annotations

import importlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from skipway.data.pictures import SILENCE

try:
    _simplejpeg: Any = importlib.import_module("simplejpeg")
except ImportError:
    # There is no wheel for this machine. Pillow decodes the same, slower.
    _simplejpeg = None

_START_OF_FILE, _END_OF_FILE = b"\xff\xd8", b"\xff\xd9"
_SCAN, _APP1, _BASELINE, _PROGRESSIVE = 0xDA, 0xE1, 0xC0, 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # without the tables and reserved codes among them

_BLOCK = 16  # rows of a block with halved chroma, the tallest that is common
_MARGIN = 16  # rows below the last one wanted, which smooth upsampling reads; at 1/8 they are still two


@dataclass(frozen=True)
class Header:
    """The facts in the header of a plain JPEG."""

    width: int
    height: int
    depth: int  # the number of channels
    height_at: int  # the position of the height in the file
    by_rows: bool  # whether the only scan holds row after row, so that decoding may end before the last


def plain_header(data: bytes) -> Header | None:
    """The header of an upright 8-bit grey or colour JPEG that is complete; None for any other data."""
    # A file that was cut off lacks its last two bytes. The message about it is left to Pillow.
    content = data.rstrip(b"\0")
    if not content.endswith(_END_OF_FILE):
        return None
    try:
        return _read_header(data)
    except IndexError:
        return None


def _read_header(data: bytes) -> Header | None:
    """As `plain_header`, without the check of the end. Raises IndexError where the data end before the first scan."""
    if not data.startswith(_START_OF_FILE):
        return None
    position = 2
    frame = None
    has_exif = False
    while True:
        if data[position] != 0xFF:
            return None
        # A marker may have more bytes 0xFF in front of it.
        while data[position + 1] == 0xFF:
            position += 1
        marker = data[position + 1]
        length = _number(data, position + 2)
        if marker == _SCAN:
            break
        if marker in _FRAMES:
            is_second = frame is not None
            if is_second or not _is_plain_frame(data, position):
                return None
            frame = position
        if marker == _APP1:
            has_exif = True
        position += 2 + length
    if frame is None:
        return None
    if has_exif and not _is_upright(data):
        return None
    return _frame_header(data, frame, position)


def _frame_header(data: bytes, frame: int, scan: int) -> Header | None:
    """The facts in the frame header at `frame` and the scan header at `scan`; None for an unusual number of channels
    or a side without pixels.
    """
    height_at = frame + 5
    height = _number(data, height_at)
    width = _number(data, frame + 7)
    depth = data[frame + 9]
    if depth not in {1, 3}:
        return None
    if width == 0 or height == 0:
        return None
    by_rows = False
    if data[frame + 1] == _BASELINE:
        channels_in_scan = data[scan + 4]
        by_rows = channels_in_scan == depth
    return Header(width, height, depth, height_at, by_rows)


def _number(data: bytes, position: int) -> int:
    """The two bytes at a position as a number. Raises IndexError beyond the end."""
    return data[position] << 8 | data[position + 1]


def _is_plain_frame(data: bytes, position: int) -> bool:
    """Whether a frame header is of a baseline or progressive JPEG with 8 bits."""
    kind = data[position + 1]
    bits = data[position + 4]
    return kind in {_BASELINE, _PROGRESSIVE} and bits == 8


def _is_upright(data: bytes) -> bool:
    """Whether the EXIF of a JPEG does not turn it. False where it cannot be read: then Pillow decides."""
    try:
        with SILENCE, Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
            orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        # Hostile bytes can fail in many ways.
        return False
    return orientation == 1


def decoded_rows(data: bytes, header: Header, *, grey: bool, bottom: int, shrink: int = 1) -> np.ndarray | None:
    """The upper rows of a plain JPEG, exactly as in the whole picture.

    Arguments:
        data: the file.
        header: what `plain_header` gives for it.
        grey: whether to return one channel. The file must then have one. Without it, a grey file gives three equal
            channels.
        bottom: how many rows of the file are needed. There may be more in the result.
        shrink: 1, 2, 4 or 8: the decoder's transform divides both sides by it and rounds them up.

    Returns uint8 counts (H, W, 1 or 3); None for a damaged file.
    """
    try:
        if _simplejpeg is None:
            return _decoded_by_pillow(data, header, grey=grey, shrink=shrink)
        height = _ceil_divided(bottom + _MARGIN, _BLOCK) * _BLOCK
        is_shortened = header.by_rows and height < header.height
        if is_shortened:
            data = _with_height(data, header, height)
        else:
            height = header.height
        least_sides = {}
        if shrink > 1:
            least_sides = {
                "min_height": _ceil_divided(height, shrink),
                "min_width": _ceil_divided(header.width, shrink),
                "min_factor": shrink,
            }
        colours = "GRAY" if grey else "RGB"
        # A strict decoder would refuse the rest of a shortened file.
        return _simplejpeg.decode_jpeg(data, colours, strict=not is_shortened, **least_sides)
    except MemoryError:
        raise
    except Exception:
        # Hostile bytes can fail in many ways. Pillow decides about them.
        return None


def _with_height(data: bytes, header: Header, height: int) -> bytes:
    """The file with another height in its header, so that decoding ends there."""
    changed = bytearray(data)
    at = header.height_at
    changed[at : at + 2] = height.to_bytes(2, "big")
    return bytes(changed)


def _ceil_divided(number: int, divisor: int) -> int:
    """A quotient, rounded up."""
    return -(-number // divisor)


def _decoded_by_pillow(data: bytes, header: Header, *, grey: bool, shrink: int) -> np.ndarray:
    """All rows of a plain JPEG, with the arguments of `decoded_rows`."""
    mode = "L" if grey else "RGB"
    with SILENCE, Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
        if shrink > 1:
            opened.draft(None, (header.width // shrink, header.height // shrink))
        image: Image.Image = opened
        if opened.mode != mode:
            image = opened.convert(mode)
        array = np.asarray(image)
    if grey:
        return array[:, :, None]
    return array
