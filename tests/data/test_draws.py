"""Random numbers that depend on nothing but their coordinates."""

from __future__ import annotations

import numpy as np
import torch

from skipway.data.draws import hashed, permutation, seed_torch, uniform

SAMPLES = np.arange(2000)


def test_a_sample_draws_the_same_in_any_company() -> None:
    whole = uniform(7, 3, SAMPLES, 1, 5)
    shuffled = np.random.default_rng(0).permutation(SAMPLES)
    np.testing.assert_array_equal(uniform(7, 3, shuffled, 1, 5), whole[shuffled])
    np.testing.assert_array_equal(uniform(7, 3, np.array([42]), 1, 5)[0], whole[42])
    np.testing.assert_array_equal(uniform(7, 3, SAMPLES, 1, 2), whole[:, :2])  # more draws change no earlier one


def test_every_coordinate_matters() -> None:
    base = uniform(7, 3, SAMPLES, 1, 4)
    for other in (uniform(8, 3, SAMPLES, 1, 4), uniform(7, 4, SAMPLES, 1, 4), uniform(7, 3, SAMPLES, 2, 4)):
        assert not np.any(other == base)
    # Swapping two coordinates must not give the same numbers either.
    assert not np.any(uniform(3, 7, SAMPLES, 1, 4) == base)


def test_draws_are_uniform() -> None:
    values = uniform(0, 0, np.arange(20_000), 5, 3)
    assert values.shape == (20_000, 3)
    assert values.dtype == np.float64
    assert values.min() >= 0
    assert values.max() < 1
    np.testing.assert_allclose(values.mean(0), 0.5, atol=0.01)  # 5 standard errors
    np.testing.assert_allclose(values.var(0), 1 / 12, atol=0.003)
    counts, _ = np.histogram(values, 20, (0, 1))
    assert np.abs(counts - 3000).max() < 5 * np.sqrt(3000)
    # Draws of one sample, and of neighbours, are unrelated.
    assert abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 0.035
    assert abs(np.corrcoef(values[1:, 0], values[:-1, 0])[0, 1]) < 0.035


def test_negative_and_large_seeds_are_seeds_too() -> None:
    seeds = (-1, 0, 1, 2**31, 2**63, 2**64 - 2)
    assert len({int(hashed(seed, 0, np.array([0]), 1, 1)[0, 0]) for seed in seeds}) == len(seeds)


def test_draws_are_pinned() -> None:
    """A change here changes every run that is resumed: it needs a new file format, not a new number."""
    assert hashed(1, 2, np.array([3]), 4, 2).tolist() == [[5861181005560605610, 5993826013470901353]]
    assert permutation(1, 2, 8).tolist() == [6, 0, 7, 5, 1, 4, 3, 2]


def test_permutations_hold_each_sample_once_and_differ_between_epochs() -> None:
    first, again, second = permutation(5, 0, 1000), permutation(5, 0, 1000), permutation(5, 1, 1000)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    assert np.mean(first == second) < 0.02
    assert np.mean(first == permutation(6, 0, 1000)) < 0.02


def test_seeding_torch_for_a_step() -> None:
    def drawn(*coordinates: int) -> list[float]:
        seed_torch(*coordinates)
        return torch.rand(3).tolist()

    first = drawn(1, 10)
    torch.rand(100)
    assert drawn(1, 10) == first
    assert drawn(1, 10, 0) == first
    assert first not in (drawn(2, 10), drawn(1, 11), drawn(1, 10, 1))
