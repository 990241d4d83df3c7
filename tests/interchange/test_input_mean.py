"""The mean of a network's training pictures, found again in the statistics that its stem has kept."""

from __future__ import annotations

import numpy as np
import pytest

from skipway.interchange.preparation.input_mean import InputMean, convention, input_mean


@pytest.mark.parametrize("bias", [None, np.linspace(-1, 1, 8)])
def test_the_mean_of_the_input_is_found_in_what_a_norm_has_kept(bias: np.ndarray | None) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (8, 3, 3, 3))
    kept = weight.sum((2, 3)) @ [0.5, 0.4, 0.3] + (0 if bias is None else bias)
    found = input_mean(weight, bias, kept)
    assert found is not None
    assert np.allclose(found.channels, [0.5, 0.4, 0.3])
    assert found.unexplained < 1e-9
    noise = input_mean(weight, bias, np.random.default_rng(1).normal(0, 1, 8))
    assert noise is not None
    assert noise.unexplained > 0.3


def test_no_mean_is_found_where_nothing_was_kept() -> None:
    weight = np.random.default_rng(0).normal(0, 1, (8, 3, 3, 3))
    assert input_mean(weight, None, np.zeros(8)) is None  # untouched statistics
    assert input_mean(weight[:4], None, np.ones(4)) is None
    assert input_mean(np.repeat(weight[:, :1], 3, 1), None, np.ones(8)) is None  # channels that cannot be told apart
    assert input_mean(weight, None, np.full(8, np.nan)) is None


@pytest.mark.parametrize(
    ("channels", "unexplained", "name"),
    [
        ((0.49, 0.48, 0.44), 0.07, "unit"),
        ((117.5, 117.7, 108.3), 0.1, "counts"),
        ((-0.2, -0.2, -0.2), 0.1, None),
        ((0.49, 0.48, 0.44), 0.5, None),
        ((3.0, 4.0, 5.0), 0.1, None),
    ],
)
def test_a_mean_names_its_convention(channels: tuple[float, ...], unexplained: float, name: str | None) -> None:
    assert convention(InputMean(channels, unexplained)) == name
