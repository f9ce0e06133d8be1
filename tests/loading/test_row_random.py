"""Draws that belong to the row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.errors import OptionError
from rightbatch.loading.row_random import RowRandom

ROWS = np.arange(100_000)


def draws(rows, **options) -> RowRandom:
    return RowRandom(**{"seed": 7, "epoch": 3, **options}, rows=np.asarray(rows, np.int64))


@given(st.lists(st.integers(-1, 2**48), min_size=1, max_size=20), st.randoms())
def test_a_row_draws_the_same_in_any_company(rows: list[int], random) -> None:
    together = draws(rows)
    first, second = together.uniform(shape=(2, 3)), together.normal()
    order = list(range(len(rows)))
    random.shuffle(order)
    for position in order:
        alone = draws(rows[position : position + 1])
        np.testing.assert_array_equal(alone.uniform(shape=(2, 3))[0], first[position])
        np.testing.assert_array_equal(alone.normal()[0], second[position])


@pytest.mark.parametrize("other", [{"seed": 8}, {"epoch": 4}, {"stream": 1}])
def test_seed_epoch_and_stream_change_every_draw(other) -> None:
    assert not np.any(draws(ROWS).bits() == draws(ROWS, **other).bits())


def test_draws_and_elements_and_rows_differ() -> None:
    rng = draws(np.arange(500))
    words = np.concatenate([rng.bits((4, 5)).ravel(), rng.bits((4, 5)).ravel()])
    assert len(np.unique(words)) == len(words) == 2 * 500 * 20


def test_seed_and_epoch_are_not_added() -> None:
    assert not np.any(draws(ROWS, seed=42, epoch=1).bits() == draws(ROWS, seed=43, epoch=0).bits())


def test_uniform_is_uniform() -> None:
    values = draws(ROWS).uniform(2.0, 5.0)
    assert values.dtype == np.float64
    assert 2.0 <= values.min() < values.max() < 5.0
    counts = np.histogram(values, bins=50, range=(2.0, 5.0))[0]
    chi_squared = ((counts - 2000) ** 2 / 2000).sum()
    assert chi_squared < 100  # 49 degrees of freedom: 100 is beyond the 99.99th percentile


def test_neighbouring_rows_and_draws_are_uncorrelated() -> None:
    rng = draws(ROWS)
    first, second = rng.uniform(), rng.uniform()
    bound = 5 / np.sqrt(len(ROWS))
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < bound
    assert abs(np.corrcoef(first, second)[0, 1]) < bound


def test_normal_has_the_moments_of_a_normal() -> None:
    values = draws(ROWS).normal(3.0, 2.0)
    standard = (values - 3.0) / 2.0
    assert np.isfinite(values).all()
    assert [abs(standard.mean()), abs(standard.std() - 1)] == pytest.approx([0, 0], abs=0.02)
    assert (standard**4).mean() == pytest.approx(3.0, abs=0.15)
    assert (np.abs(standard) < 1.959964).mean() == pytest.approx(0.95, abs=0.005)


def test_integers_cover_their_range_and_nothing_else() -> None:
    values = draws(ROWS).integers(-3, 4, shape=(2,))
    assert values.dtype == np.int64
    assert values.shape == (len(ROWS), 2)
    found, counts = np.unique(values, return_counts=True)
    assert found.tolist() == list(range(-3, 4))
    assert counts == pytest.approx(2 * len(ROWS) / 7, rel=0.05)


@pytest.mark.parametrize(("low", "high"), [(3, 3), (4, 3)])
def test_an_empty_range_of_integers_is_refused(low: int, high: int) -> None:
    with pytest.raises(OptionError, match="low must be below high"):
        draws([1]).integers(low, high)
