"""A handful of very different pictures: a network that answers the same for all of them recognizes none."""

from __future__ import annotations

from itertools import product

import numpy as np

from skipway.data.preprocessing import Preprocessing


def varied_pictures(rule: Preprocessing) -> list[np.ndarray]:
    """Twelve uint8 pictures (H, W, depth) of the rule's size: plain, graded, striped, chequered, round, noisy ones."""
    side = rule.size
    y, x = np.mgrid[0:side, 0:side] / max(side - 1, 1)
    noise = np.random.default_rng(0).random((side, side, 3))
    disc = ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1).astype(float)
    stripes = np.sin(40 * y) / 2 + 0.5
    squares = np.floor(8 * x) % 2 == np.floor(8 * y) % 2
    forms = [x, stripes, squares, disc]
    inks = [((0.9, 0.2, 0.1), (0.1, 0.3, 0.8)), ((0.1, 0.5, 0.2), (1.0, 1.0, 0.6))]
    pictures = []
    for form, (front, back) in product(forms, inks):
        share = np.asarray(form, dtype=float)[:, :, None]
        pictures.append(share * np.array(front) + (1 - share) * np.array(back))
    pictures += [noise, np.zeros_like(noise), np.ones_like(noise), (noise > 0.9).astype(float)]
    return [np.round(255 * picture[:, :, : rule.depth]).astype(np.uint8) for picture in pictures]
