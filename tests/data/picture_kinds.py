"""Picture files of every kind that the reader promises to understand, made with Pillow or, where it cannot, by hand.

Each kind is the bytes of a file, its suffix, and the counts (H, W) or (H, W, 3) that a person should see.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)

# Distinct corners, so that every turn and flip shows. Blocks of 8 survive JPEG's compression.
CORNERS = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)
GREYS = np.array([[0, 10, 100, 255]], np.uint8)
DEEP = np.array([[0, 257, 25_700, 65_535]], np.uint16)  # exactly 0, 1, 100, 255 of 255
SHALLOW = np.array([[0, 1, 100, 255]], np.uint8)


@dataclass(frozen=True)
class Kind:
    """`tolerance` is the largest difference in counts that the format's compression may cause."""

    data: bytes
    suffix: str
    seen: np.ndarray
    tolerance: int = 0


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """The bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def blocks(cells: np.ndarray, side: int = 8) -> np.ndarray:
    """Each cell as a square of pixels."""
    return cells.repeat(side, 0).repeat(side, 1)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG by hand: `rows` are the unfiltered lines, `chunks` go before the pixels."""
    parts = [("IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)), *chunks.items()]
    parts += [("IDAT", zlib.compress(rows)), ("IEND", b"")]
    body = [
        struct.pack(">I", len(data)) + name.encode() + data + struct.pack(">I", zlib.crc32(name.encode() + data))
        for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def exif(orientation: int, *more: bytes) -> bytes:
    """An EXIF block with an orientation and further raw 12-byte entries."""
    entries = [struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0), *more]
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + b"\0\0\0\0"


def _of_array(array: np.ndarray, form: str, suffix: str, seen: np.ndarray, **options: object) -> Kind:
    return Kind(encoded(Image.fromarray(array), form, **options), suffix, seen)


def _palette() -> Image.Image:
    image = Image.new("P", (4, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2, 0])
    return image


def _animation(form: str, suffix: str, **options: object) -> Kind:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    return Kind(data, suffix, np.full((4, 4, 3), RED, np.uint8))


def _half_red() -> Image.Image:
    return Image.new("RGBA", (2, 2), (*RED, 128))


def _half_grey() -> Image.Image:
    return Image.merge("LA", (Image.fromarray(GREYS), Image.new("L", (4, 1), 128)))


def _one_bit() -> Image.Image:
    image = Image.new("1", (4, 1))
    image.putdata([0, 255, 0, 255])
    return image


_PINK = np.full((2, 2, 3), (255, 127, 127), np.uint8)
_LIGHT = np.array([[127, 132, 177, 255]], np.uint8)  # GREYS under a white veil of one half
_BARS = np.array([[0, 255, 0, 255]], np.uint8)
_STRIPES = np.array([[RED, GREEN, BLUE, RED]], np.uint8)
_GREY_BLOCKS = blocks(np.array([[10, 200], [90, 250]], np.uint8))


def _lossy(array: np.ndarray, form: str, suffix: str, **options: object) -> Kind:
    return Kind(encoded(Image.fromarray(array), form, **options), suffix, array, tolerance=3)


def _jpeg_cmyk() -> Kind:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    return Kind(encoded(image, "JPEG", quality=100), ".jpg", np.full((8, 8, 3), RED, np.uint8), tolerance=2)


MAKERS: dict[str, Callable[[], Kind]] = {
    "jpeg": lambda: _lossy(blocks(CORNERS), "JPEG", ".jpg", quality=100, subsampling=0),
    "jpeg grey": lambda: _lossy(_GREY_BLOCKS, "JPEG", ".jpeg", quality=100),
    "jpeg progressive": lambda: _lossy(blocks(CORNERS), "JPEG", ".jpg", quality=100, subsampling=0, progressive=True),
    "jpeg cmyk": _jpeg_cmyk,
    "png rgb": lambda: _of_array(CORNERS, "PNG", ".png", CORNERS),
    "png named jpg": lambda: _of_array(CORNERS, "PNG", ".jpg", CORNERS),
    "png grey": lambda: _of_array(GREYS, "PNG", ".png", GREYS),
    "png grey transparent": lambda: _of_array(
        GREYS, "PNG", ".png", np.array([[0, 255, 100, 255]], np.uint8), transparency=10
    ),
    "png rgb transparent": lambda: _of_array(
        CORNERS, "PNG", ".png", np.array([[RED, GREEN], [WHITE, WHITE]], np.uint8), transparency=BLUE
    ),
    "png palette": lambda: Kind(encoded(_palette(), "PNG"), ".png", _STRIPES),
    "png palette transparent": lambda: Kind(
        encoded(_palette(), "PNG", transparency=bytes([0, 128, 255])),
        ".png",
        np.array([[WHITE, (127, 255, 127), BLUE, WHITE]], np.uint8),
    ),
    "png la": lambda: Kind(encoded(_half_grey(), "PNG"), ".png", _LIGHT),
    "png rgba": lambda: Kind(encoded(_half_red(), "PNG"), ".png", _PINK),
    "png 1-bit": lambda: Kind(encoded(_one_bit(), "PNG"), ".png", _BARS),
    "png 1-bit transparent": lambda: Kind(
        encoded(_one_bit(), "PNG", transparency=0), ".png", np.full((1, 4), 255, np.uint8)
    ),
    "png 2-bit": lambda: Kind(png(4, 1, 2, 0, b"\0\x1b"), ".png", np.array([[0, 85, 170, 255]], np.uint8)),
    "png 16-bit grey": lambda: _of_array(DEEP, "PNG", ".png", SHALLOW),
    "png 16-bit grey dark": lambda: _of_array(DEEP[:, :2], "PNG", ".png", SHALLOW[:, :2]),
    "png 16-bit grey transparent": lambda: _of_array(
        DEEP, "PNG", ".png", np.array([[0, 255, 100, 255]], np.uint8), transparency=257
    ),
    "png 16-bit rgb": lambda: Kind(
        png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 65_535, 25_700, 257)),
        ".png",
        np.array([[(255, 100, 1)]], np.uint8),
    ),
    "png 16-bit rgba": lambda: Kind(
        png(1, 1, 16, 6, b"\0" + struct.pack(">HHHH", 65_535, 0, 0, 32_896)), ".png", _PINK[:1, :1]
    ),
    "png animated": lambda: _animation("PNG", ".png"),
    "webp": lambda: _of_array(CORNERS, "WEBP", ".webp", CORNERS, lossless=True),
    "webp rgba": lambda: Kind(encoded(_half_red(), "WEBP", lossless=True), ".webp", _PINK),
    "webp animated": lambda: _animation("WEBP", ".webp", lossless=True),
    "bmp": lambda: _of_array(CORNERS, "BMP", ".bmp", CORNERS),
    "bmp grey": lambda: _of_array(GREYS, "BMP", ".bmp", GREYS),
    "gif": lambda: Kind(encoded(_palette(), "GIF"), ".gif", _STRIPES),
    "gif transparent": lambda: Kind(
        encoded(_palette(), "GIF", transparency=0), ".gif", np.array([[WHITE, GREEN, BLUE, WHITE]], np.uint8)
    ),
    "gif animated": lambda: _animation("GIF", ".gif"),
    "tiff": lambda: _of_array(CORNERS, "TIFF", ".tif", CORNERS),
    "tiff rgba": lambda: Kind(encoded(_half_red(), "TIFF"), ".tif", _PINK),
    "tiff la": lambda: Kind(encoded(_half_grey(), "TIFF"), ".tif", _LIGHT),
    "tiff 1-bit": lambda: Kind(encoded(_one_bit(), "TIFF"), ".tiff", _BARS),
    "tiff palette": lambda: Kind(encoded(_palette(), "TIFF"), ".tiff", _STRIPES),
    "tiff cmyk": lambda: Kind(
        encoded(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF"), ".tif", np.full((2, 2, 3), RED, np.uint8)
    ),
    "tiff 16-bit": lambda: _of_array(DEEP, "TIFF", ".tif", SHALLOW),
    "tiff 32-bit": lambda: _of_array(DEEP.astype(np.int32), "TIFF", ".tif", SHALLOW),
    "tiff 32-bit small": lambda: _of_array(GREYS.astype(np.int32), "TIFF", ".tif", GREYS),
    "tiff float": lambda: _of_array(
        np.array([[0, 0.5, 1, np.nan]], np.float32), "TIFF", ".tif", np.array([[0, 128, 255, 0]], np.uint8)
    ),
    "tiff float counts": lambda: _of_array(
        np.array([[0, 50.4, 100, 300]], np.float32), "TIFF", ".tif", np.array([[0, 50, 100, 255]], np.uint8)
    ),
    "ppm": lambda: _of_array(CORNERS, "PPM", ".ppm", CORNERS),
    "pgm 16-bit": lambda: Kind(b"P5 4 1 65535\n" + DEEP.astype(">u2").tobytes(), ".pgm", SHALLOW),
}

# EXIF orientation -> the stored picture seen upright.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}
WIDE = np.concatenate((CORNERS, CORNERS[:, :1] // 2), 1)  # 2 x 3: a turn changes the shape


def _oriented(orientation: int) -> Kind:
    return _of_array(WIDE, "PNG", ".png", np.ascontiguousarray(TURNS[orientation](WIDE)), exif=exif(orientation))


for _orientation in TURNS:
    MAKERS[f"exif {_orientation}"] = lambda orientation=_orientation: _oriented(orientation)


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Smooth shapes and some noise, in strong colours: chroma that is halved shows."""
    draw = np.random.default_rng(width)
    coarse = Image.fromarray(draw.integers(0, 256, (5, 6, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    noisy = np.asarray(coarse).astype(int) + draw.integers(-12, 13, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


# JPEGs as most are: the fast path takes them.
PLAIN_JPEGS: dict[str, bytes] = {
    "420": encoded(photo(67, 90), "JPEG", subsampling=2),
    "422": encoded(photo(67, 90), "JPEG", subsampling=1),
    "444": encoded(photo(70, 91), "JPEG", subsampling=0),
    "grey": encoded(photo(61, 90, "L"), "JPEG"),
    "progressive": encoded(photo(66, 90), "JPEG", progressive=True),
    "restarts": encoded(photo(64, 96), "JPEG", restart_marker_rows=1),
    "rgb": encoded(photo(33, 90), "JPEG", keep_rgb=True),
    "tiny": encoded(photo(1, 1), "JPEG"),
    "upright": encoded(photo(40, 90), "JPEG", exif=exif(1)),
}
