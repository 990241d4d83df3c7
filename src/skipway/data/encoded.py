"""A picture in the form of its file. Training decodes no more of it than it cuts out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from skipway.data.jpeg import Header, decoded_rows, plain_header
from skipway.data.pictures import MAX_PIXELS, open_picture

Box = tuple[int, int, int, int]  # left, top, right, bottom, in whole pixels
_SHRINKS = (8, 4, 2)  # what libjpeg-turbo can divide the sides by while it decodes


@dataclass(frozen=True)
class Encoded:
    """A picture file in memory."""

    data: bytes  # the bytes of the file
    name: str  # what to call the picture in messages

    def decoded(self) -> Image.Image:
        """The whole picture, as `open_picture` gives it. Raises PictureError."""
        return open_picture(self.data, self.name)

    def cut(self, choose: Callable[[tuple[int, int]], Box], *, grey: bool, least: int) -> np.ndarray | None:
        """A box of the picture, decoded without most of the rest.

        Arguments:
            choose: returns the box for a picture of (width, height).
            grey: whether the network wants grey pictures.
            least: both sides may be divided by 2, 4 or 8 as long as they keep this many pixels.

        Returns uint8 counts (H, W, 1 or 3). None for everything but a plain JPEG, and where grey would have to be made
        of colours: then decode the whole picture.
        """
        header = plain_header(self.data)
        if header is None or not _can_cut(header, grey=grey):
            return None
        left, top, right, bottom = choose((header.width, header.height))
        shortest = min(right - left, bottom - top)
        shrink = _largest_shrink(shortest, least)
        rows = decoded_rows(self.data, header, grey=grey, bottom=bottom, shrink=shrink)
        if rows is None:
            return None
        if shrink > 1:
            left, right = round(left / shrink), round(right / shrink)
            top, bottom = round(top / shrink), round(bottom / shrink)
        return rows[top:bottom, left:right]


def _can_cut(header: Header, *, grey: bool) -> bool:
    """Whether the picture has a permitted size, and needs no conversion from colour to grey."""
    if header.width * header.height > MAX_PIXELS:
        return False
    needs_conversion = grey and header.depth == 3
    return not needs_conversion


def _largest_shrink(side: int, least: int) -> int:
    """The largest divisor of a side that leaves at least `least` pixels; 1 where none does."""
    for shrink in _SHRINKS:
        if side >= shrink * least:
            return shrink
    return 1
