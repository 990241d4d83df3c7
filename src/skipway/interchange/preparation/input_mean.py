"""What pictures a network was trained on, read from its weights: the mean that its first normalization has kept.

The mean of a convolution is linear in the mean of its input: the first normalization's running means are equations for
the mean of each input channel, many for three unknowns. About 0.47 tells values from 0 to 1, about 120 counts, about
zero centred ones, and a mean that falls from the first channel to the last RGB rather than BGR.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class InputMean:
    """The mean of each input channel, and the share of the kept means that it leaves unexplained, 0 to 1: from 0.3 on
    the statistics say nothing (untouched, or of another network).
    """

    channels: tuple[float, ...]
    unexplained: float


def input_mean(weight: np.ndarray, bias: np.ndarray | None, running_mean: np.ndarray) -> InputMean | None:
    """From the stem's convolution (out, in, H, W) and its normalization; None where the equations do not suffice.

    Padding with zeros pulls the estimate towards zero by a few percent for small pictures.
    """
    sums = weight.astype(np.float64).sum((2, 3))
    kept = running_mean.astype(np.float64) - (0.0 if bias is None else bias.astype(np.float64))
    size = float(np.linalg.norm(kept))
    if sums.shape[0] < 2 * sums.shape[1] or not np.isfinite(sums).all() or not np.isfinite(size) or size == 0.0:
        return None
    found, _, rank, _ = np.linalg.lstsq(sums, kept, rcond=1e-6)
    if rank < sums.shape[1]:
        return None
    unexplained = float(np.linalg.norm(sums @ found - kept)) / size
    return InputMean(tuple(float(one) for one in found), unexplained)


def convention(mean: InputMean) -> str | None:
    """The preset that gives such pictures: `unit` for values from 0 to 1, `counts` for 0 to 255; None where the mean
    is that of neither, as with centred pictures, or explains too little.
    """
    low, high = min(mean.channels), max(mean.channels)
    if mean.unexplained > 0.3:
        return None
    if low > 0.2 and high < 0.8:
        return "unit"
    return "counts" if low > 50 and high < 200 else None
