"""The closed forms of a uniform shuffle against all draws, one by one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from rightbatch.plan.uniform_shuffle import (
    mean_distinct_blocks,
    mean_imbalance,
    mean_travel,
    travel_quantile,
)


@pytest.mark.parametrize(("length", "places"), [(1, [0]), (7, [0, 3, 6]), (10, range(10))])
def test_the_mean_travel_is_the_mean_over_all_places(length, places) -> None:
    expected = np.mean([abs(p - x) / length for p in places for x in range(length)])
    assert mean_travel(np.array(places), length) == pytest.approx(expected)


def test_the_mean_travel_of_a_long_epoch_is_a_third() -> None:
    length = 10**12
    middles = (np.arange(1000) * 2 + 1) * (length // 2000)
    assert mean_travel(middles, length) == pytest.approx(1 / 3, abs=1e-6)


def test_the_quantiles_of_travel_are_those_of_two_independent_places() -> None:
    rng = np.random.default_rng(0)
    travelled = np.abs(rng.random(200_000) - rng.random(200_000))
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(travelled, share) == pytest.approx(travel_quantile(share), abs=0.005)


@pytest.mark.parametrize(
    ("batch_size", "length", "block"),
    [(1, 8, 2), (3, 8, 2), (3, 8, 3), (5, 9, 4), (8, 8, 3), (2, 3, 5), (7, 8, 2)],
)
def test_distinct_blocks_are_the_mean_over_all_draws(batch_size, length, block) -> None:
    draws = list(combinations(range(length), batch_size))
    expected = np.mean([len({row // block for row in draw}) for draw in draws])
    assert mean_distinct_blocks(batch_size, length, block) == pytest.approx(expected)


@pytest.mark.parametrize("counts", [(4, 4), (1, 7), (2, 3, 3), (8,), (1, 1, 2, 4)])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 8])
def test_the_imbalance_is_the_mean_over_all_draws(batch_size, counts) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    shares = np.array(counts) / 8
    distances = [
        np.abs(np.bincount(labels[list(draw)], minlength=len(counts)) / batch_size - shares).sum()
        / 2
        for draw in combinations(range(8), batch_size)
    ]
    expected = np.mean(distances)
    assert mean_imbalance(batch_size, 8, np.array(counts)) == pytest.approx(expected, abs=1e-12)


def test_the_imbalance_of_many_samples_goes_over_into_the_binomial_one() -> None:
    counts = np.array([3, 5, 1, 7])
    below, above = (mean_imbalance(100, length, counts) for length in (2**26, 2**26 + 64))
    assert below == pytest.approx(above, rel=1e-5)
    assert mean_imbalance(100, 10**15, counts) == pytest.approx(above, rel=1e-5)
