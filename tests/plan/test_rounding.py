from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.plan.rounding import largest_remainder, stratum_quotas


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.integers(1, 500))
def test_largest_remainder_keeps_the_sum_and_stays_within_one(weights, total):
    if sum(weights) == 0:
        weights = [1] * len(weights)
    quotas = [Fraction(weight * total, sum(weights)) for weight in weights]
    sizes = largest_remainder(quotas)
    assert sum(sizes) == total
    assert all(abs(size - quota) < 1 for size, quota in zip(sizes, quotas, strict=True))


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=40).filter(any),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_every_stratum_is_exact_to_one_sample_and_every_total_exact(counts, shares):
    total = sum(counts)
    first, second = sorted(round(share * total) for share in shares)
    sizes = [first, second - first, total - second]
    quotas = stratum_quotas(np.array(counts), sizes)
    assert quotas.sum(axis=0).tolist() == sizes
    assert quotas.sum(axis=1).tolist() == counts
    exact = np.outer(counts, sizes)
    assert np.all(np.abs(quotas * total - exact) < total)
    assert quotas.min() >= 0


def test_a_unit_passes_through_the_third_part_where_none_can_move_at_once():
    # Found by search: after the first rounding no stratum can move a unit where one is missing.
    counts, sizes = np.array([3, 3, 2, 3, 2, 2, 3, 1, 2, 3]), [5, 8, 11]
    quotas = stratum_quotas(counts, sizes)
    assert quotas.sum(axis=0).tolist() == sizes
    assert quotas.sum(axis=1).tolist() == counts.tolist()
    assert np.all(np.abs(quotas * counts.sum() - np.outer(counts, sizes)) < counts.sum())
