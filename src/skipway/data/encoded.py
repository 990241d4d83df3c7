"""A picture as it lies in a file, of which training decodes no more than what it cuts out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from skipway.data.jpeg import decoded_rows, plain_header
from skipway.data.pictures import MAX_PIXELS, open_picture

Box = tuple[int, int, int, int]  # left, top, right, bottom, in whole pixels
_SHRINKS = (8, 4, 2)


@dataclass(frozen=True)
class Encoded:
    """The bytes of a picture file, and what to call it in messages."""

    data: bytes
    name: str

    def decoded(self) -> Image.Image:
        """What `open_picture` gives for it. Raises PictureError."""
        return open_picture(self.data, self.name)

    def cut(self, choose: Callable[[tuple[int, int]], Box], *, grey: bool, least: int) -> np.ndarray | None:
        """The box that `choose` picks from (width, height), as uint8 counts (H, W, 1 or 3); None for all but a plain
        JPEG, or where grey is to be made of colours.

        Both sides may come divided by 2, 4 or 8 as long as they keep `least` pixels.
        """
        header = plain_header(self.data)
        if header is None or header.width * header.height > MAX_PIXELS or (grey and header.depth == 3):
            return None
        left, top, right, bottom = choose((header.width, header.height))
        side = min(right - left, bottom - top)
        shrink = next((one for one in _SHRINKS if side >= one * least), 1)
        rows = decoded_rows(self.data, header, grey=grey, bottom=bottom, shrink=shrink)
        if rows is None:
            return None
        if shrink > 1:
            left, top, right, bottom = (round(one / shrink) for one in (left, top, right, bottom))
        return rows[top:bottom, left:right]
