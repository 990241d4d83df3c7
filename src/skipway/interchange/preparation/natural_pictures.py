"""Pictures of the world outside, to try networks with: three photographs that dependencies carry, or a folder of yours.

They are matplotlib's portrait of Grace Hopper and scikit-learn's two samples, a temple and a flower, read as files.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from skipway.data.pictures import is_picture_name, natural_key, open_picture
from skipway.errors import DataError, PictureError

_CARRIED = (
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)
_MOST_FILES = 96  # of a folder: more would only take longer to decode
_LEAST_SHARE = 0.25  # of a photograph's short side, that a crop shows


def natural_pictures(folder: Path | None = None) -> tuple[Image.Image, ...]:
    """The photographs of `folder` and the folders in it, evenly chosen where there are many, or the carried ones.

    Files that cannot be read are passed over. Raises DataError where nothing is left.
    """
    found = tuple(_readable(_files(folder))) if folder else _carried()
    if not found:
        where = f"no picture in {folder} can be read" if folder else "the photographs of the dependencies are missing"
        raise DataError(f"{where}; give a folder of photographs with --pictures DIR")
    return found


def crops(pictures: Sequence[Image.Image], count: int, size: int, seed: int = 0) -> list[Image.Image]:
    """`count` square cuts, in turn from each picture, at random places and of random sides: a quarter of the short side
    to all of it, but not fewer than `size` pixels where the picture has them. The same for the same seed.
    """
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        short = min(picture.size)
        side = max(round(short * draw.uniform(_LEAST_SHARE, 1.0)), min(size, short))
        left = int(draw.integers(0, picture.width - side + 1))
        top = int(draw.integers(0, picture.height - side + 1))
        found.append(picture.crop((left, top, left + side, top + side)))
    return found


@cache
def _carried() -> tuple[Image.Image, ...]:
    files = []
    for package, path in _CARRIED:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            files.append(Path(spec.origin).parent / path)
    return tuple(_readable(files))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give one of photographs with --pictures DIR")
    files = [file for file in folder.rglob("*") if is_picture_name(file)]
    files.sort(key=lambda file: natural_key(str(file)))
    step = max(len(files) / _MOST_FILES, 1.0)
    chosen = range(min(len(files), _MOST_FILES))
    return [files[int(number * step)] for number in chosen]


def _readable(files: Sequence[Path]) -> Iterator[Image.Image]:
    for file in files:
        try:
            yield open_picture(file)
        except PictureError:
            continue
