"""Plain JPEG files, decoded no further than needed: the fast path beside `pictures.open_picture`, equal bit for bit.

simplejpeg and Pillow both hand the work to libjpeg-turbo with its accurate transform and smooth upsampling. What
simplejpeg adds: it gives an array without a detour, it says where a file is damaged, and it is content with a file
that announces fewer rows than it has.
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
except ImportError:  # no wheel for this machine: Pillow decodes the same, slower
    _simplejpeg = None

_SCAN, _APP1, _BASELINE, _PROGRESSIVE = 0xDA, 0xE1, 0xC0, 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # tables and reserved codes lie among them

_BLOCK = 16  # rows of a block with halved chroma, the tallest that is common
_MARGIN = 16  # rows below the last one wanted, which smooth upsampling looks at, at 1/8 still two


@dataclass(frozen=True)
class Header:
    """What a plain JPEG says of itself. `depth` is its number of channels; `height_at` where in the file its height
    stands; `by_rows` says that its one scan holds row after row, so that decoding may end before the last."""

    width: int
    height: int
    depth: int
    height_at: int
    by_rows: bool


def plain_header(data: bytes) -> Header | None:
    """Header of an upright 8-bit grey or colour JPEG that is there to its end; None for all else, whatever it is."""
    try:
        found = _walked(data)
    except IndexError:
        return None
    # A file that was cut off lacks its last two bytes: how to complain about it is left to Pillow.
    if found is None or not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return None
    return found


def _walked(data: bytes) -> Header | None:
    """Follow the markers up to the first scan. Raises IndexError where the bytes end first."""
    if data[:2] != b"\xff\xd8":
        return None
    at, frame, told = 2, None, False
    while True:
        if data[at] != 0xFF:
            return None
        while data[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker, length = data[at + 1], data[at + 2] << 8 | data[at + 3]
        if marker == _SCAN:
            break
        if marker in _FRAMES:
            if frame is not None or marker not in {_BASELINE, _PROGRESSIVE} or data[at + 4] != 8:
                return None
            frame = at
        told = told or marker == _APP1
        at += 2 + length
    if frame is None or (told and not _upright(data)):
        return None
    height, width, depth = (
        data[frame + 5] << 8 | data[frame + 6],
        data[frame + 7] << 8 | data[frame + 8],
        data[frame + 9],
    )
    if depth not in {1, 3} or 0 in {width, height}:
        return None
    by_rows = data[frame + 1] == _BASELINE and data[at + 4] == depth
    return Header(width, height, depth, frame + 5, by_rows)


def _upright(data: bytes) -> bool:
    try:
        with SILENCE, Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
            return opened.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # hostile bytes fail in many ways; the slow path knows what to say
        return False


def decoded_rows(data: bytes, header: Header, *, grey: bool, bottom: int, shrink: int = 1) -> np.ndarray | None:
    """uint8 (H, W, 1 or 3) of at least the rows above `bottom`, exactly as in the whole picture; None if damaged.

    `bottom` counts rows of the file. `shrink`, 1, 2, 4 or 8, divides both sides, rounded up, within the transform of
    the decoder. `grey` wants a file of depth 1; a grey file otherwise comes as three equal channels.
    """
    try:
        if _simplejpeg is None:
            return _by_pillow(data, header, grey=grey, shrink=shrink)
        height = -(-(bottom + _MARGIN) // _BLOCK) * _BLOCK
        shortened = header.by_rows and height < header.height
        if shortened:
            changed = bytearray(data)
            changed[header.height_at : header.height_at + 2] = height.to_bytes(2, "big")
            data = bytes(changed)
        else:
            height = header.height
        sides = {} if shrink == 1 else _least(height, header.width, shrink)
        # Not strict where the rest of the file is unexpected by design.
        return _simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", strict=not shortened, **sides)
    except MemoryError:
        raise
    except Exception:  # decoders meet hostile bytes; Pillow has the last word on them
        return None


def _least(height: int, width: int, shrink: int) -> dict[str, int]:
    return {"min_height": -(-height // shrink), "min_width": -(-width // shrink), "min_factor": shrink}


def _by_pillow(data: bytes, header: Header, *, grey: bool, shrink: int) -> np.ndarray:
    mode = "L" if grey else "RGB"
    with SILENCE, Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
        if shrink > 1:
            opened.draft(None, (header.width // shrink, header.height // shrink))
        array = np.asarray(opened if opened.mode == mode else opened.convert(mode))
    return array[:, :, None] if grey else array
