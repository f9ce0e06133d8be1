"""The pair of gradient norms that ranks have: its mean over all draws is the exact value."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.advice.gradient_pair import GradientPairs

# The gradients of a whole population: three samples, two weights.
POPULATION = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])
MEAN = POPULATION.mean(axis=0)
TRACE = float(np.square(POPULATION - MEAN).sum(axis=1).mean())


def pairs_of(draws: np.ndarray, shares: list[int]) -> GradientPairs:
    """The estimates from batches of gradients, (steps, samples, weights), cut into shares."""
    squares, samples, first = [], [], 0
    for share in shares:
        part = draws[:, first : first + share]
        first += share
        means = part.mean(axis=1) if share else np.zeros((len(draws), draws.shape[2]))
        squares.append(np.square(means).sum(axis=1))
        samples.append(np.full(len(draws), share))
    whole = np.square(draws.mean(axis=1)).sum(axis=1)
    return GradientPairs.of(squares, samples, whole)


@pytest.mark.parametrize("shares", [[2, 2], [3, 1], [2, 1, 1], [1, 1, 0], [2, 2, 1, 0]])
def test_over_all_draws_the_estimates_are_the_exact_values(shares: list[int]) -> None:
    count = sum(shares)
    draws = POPULATION[np.array(list(itertools.product(range(3), repeat=count)))]
    pairs = pairs_of(draws, shares)
    assert len(pairs) == 3**count
    assert pairs.trace.mean() == pytest.approx(TRACE, rel=1e-12)
    assert pairs.gradient_square.mean() == pytest.approx(float(MEAN @ MEAN), rel=1e-12)


@given(
    shares=st.lists(st.integers(0, 9), min_size=2, max_size=5).filter(
        lambda shares: sum(share > 0 for share in shares) > 1
    ),
    seed=st.integers(0, 1000),
)
def test_both_squares_follow_from_the_estimates_again(shares: list[int], seed: int) -> None:
    draws = np.random.default_rng(seed).normal(size=(1, sum(shares), 3))
    pairs = pairs_of(draws, shares)
    whole = np.square(draws.mean(axis=1)).sum()
    assert pairs.gradient_square[0] + pairs.trace[0] / sum(shares) == pytest.approx(whole)


def test_a_batch_that_one_rank_holds_alone_tells_nothing() -> None:
    pairs = GradientPairs.of([[3.0, 4.0], [0.0, 2.0]], [[1, 2], [0, 2]], [3.0, 2.5])
    assert len(pairs) == 1
    assert pairs.samples.tolist() == [4.0]


def test_the_interval_holds_the_truth_and_narrows_with_more_steps() -> None:
    generator = np.random.default_rng(7)
    gradient = np.full(50, 0.2)
    truth = float(gradient @ gradient) / 50.0
    widths = []
    for steps in (64, 1024):
        draws = gradient + generator.normal(size=(steps, 16, 50))
        estimate, low, high = pairs_of(draws, [8, 8]).inverse_interval()
        assert low < estimate < high
        assert low < truth < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_stretches_of_steps_are_joined_in_order() -> None:
    draws = np.random.default_rng(3).normal(size=(10, 6, 4))
    parts = [pairs_of(draws[:4], [3, 3]), pairs_of(draws[4:], [3, 3])]
    joined, whole = GradientPairs.joined(parts), pairs_of(draws, [3, 3])
    assert joined.trace.tolist() == whole.trace.tolist()
    assert joined.inverse_interval() == whole.inverse_interval()
