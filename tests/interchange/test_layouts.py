"""Layouts of other frameworks, there and back."""

from __future__ import annotations

import numpy as np
import pytest

from skipway.interchange.mapping.layouts import Layout, Place, source_shape, to_ours, to_source

OURS: dict[Layout, tuple[int, ...]] = {
    "same": (5, 3, 2, 4),
    "hwio": (5, 3, 2, 4),
    "io": (5, 3),
    "pixel_io": (5, 3),
    "pixel": (5, 3),
    "hwc_io": (5, 3 * 2 * 4),
}


@pytest.mark.parametrize("layout", OURS)
def test_there_and_back(layout: Layout) -> None:
    place = Place("any", layout, map_shape=(3, 2, 4))
    ours = np.random.default_rng(1).random(OURS[layout])
    theirs = to_source(ours, place)
    assert theirs.shape == source_shape(ours.shape, place)
    assert np.array_equal(to_ours(theirs, place), ours)


def test_a_map_flattened_by_pixels_is_reordered() -> None:
    """A dense layer that sums one channel of a map must sum the same one on our side."""
    channels, height, width = 3, 2, 4
    picture = np.random.default_rng(2).random((channels, height, width))
    theirs = np.random.default_rng(3).random((height * width * channels, 5))
    expected = picture.transpose(1, 2, 0).reshape(-1) @ theirs
    ours = to_ours(theirs, Place("fc", "hwc_io", map_shape=(channels, height, width)))
    assert np.allclose(ours @ picture.reshape(-1), expected, rtol=1e-12)
    plain = to_ours(theirs, Place("fc", "io"))
    assert not np.allclose(plain @ picture.reshape(-1), expected, rtol=1e-3)
