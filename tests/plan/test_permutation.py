from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.plan.hashing import key_stream
from rightbatch.plan.permutation import MAXIMUM_LENGTH, permute_span

KEYS = (0, 1, 2**64 - 1)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "length", [0, 1, 2, 3, 255, 65_535, 65_536, 65_537, 66_049, 100_003, 2**17, 2**18 + 1]
)
def test_every_number_stands_at_exactly_one_position(length, key):
    assert np.array_equal(np.sort(permute_span(length, key, 0, length)), np.arange(length))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("length", [1, 1000, 16_383, 16_384, 16_385, 32_768, 60_000, 65_536])
def test_a_short_permutation_is_the_sort_of_hashed_positions(length, key):
    positions = np.arange(length)
    by_hash = np.argsort(key_stream(key, positions) >> np.uint64(16), kind="stable")
    assert np.array_equal(permute_span(length, key, 0, length), by_hash)


@pytest.mark.parametrize("length", [2**27 + 1, 180_000_000, 2**32, 10**12, 2**48 + 1, 2**62])
def test_spans_of_huge_lengths_are_distinct_and_inside(length):
    head = permute_span(length, 7, 0, 40_000)
    tail = permute_span(length, 7, length - 40_000, length)
    both = np.concatenate([head, tail])
    assert both.dtype == np.int64
    assert both.min() >= 0
    assert both.max() < length
    assert len(np.unique(both)) == 80_000


@given(
    st.sampled_from([1, 17, 65_536, 65_537, 10**6, 2**27 + 1, 10**12, MAXIMUM_LENGTH]),
    st.integers(0, 2**64 - 1),
    st.data(),
)
def test_a_span_is_the_slice_of_a_longer_span(length, key, data):
    start = data.draw(st.integers(0, length))
    stop = data.draw(st.integers(start, min(length, start + 40_000)))
    inner_start = data.draw(st.integers(start, stop))
    inner_stop = data.draw(st.integers(inner_start, stop))
    outer = permute_span(length, key, start, stop)
    inner = permute_span(length, key, inner_start, inner_stop)
    assert np.array_equal(inner, outer[inner_start - start : inner_stop - start])


def test_other_keys_and_lengths_give_other_orders():
    first = permute_span(70_000, 1, 0, 100)
    assert not np.array_equal(first, permute_span(70_000, 2, 0, 100))
    assert not np.array_equal(permute_span(50, 1, 0, 50), permute_span(50, 2, 0, 50))


@pytest.mark.parametrize("length", [100, 10**6])
def test_what_the_caller_writes_into_a_span_changes_no_later_span(length):
    span = permute_span(length, 3, 0, 50)
    expected = span.copy()
    span[:] = -1
    assert np.array_equal(permute_span(length, 3, 0, 50), expected)


@pytest.mark.parametrize(
    ("length", "start", "stop"), [(10, -1, 3), (10, 4, 3), (10, 0, 11), (2**62 + 1, 0, 1)]
)
def test_a_span_outside_is_refused(length, start, stop):
    with pytest.raises(IndexError, match="lies outside"):
        permute_span(length, 0, start, stop)


def _peak_bytes(length: int, start: int, stop: int) -> int:
    tracemalloc.start()
    try:
        permute_span(length, 11, start, stop)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_seek_costs_the_same_at_zero_and_near_ten_to_the_twelfth():
    length = 10**12
    peaks = [_peak_bytes(length, at, at + 10_000) for at in (0, length // 3, length - 10_000)]
    # Alike but for small Python integers.
    assert max(peaks) - min(peaks) < 4_096


def test_memory_follows_the_span_and_not_the_length():
    span = 100_000
    peaks = [_peak_bytes(length, 5, 5 + span) for length in (10**6, 180_000_000, 10**12)]
    # 8 bytes a position for the result, 1 for the test of range, one chunk's buffers below 1 MiB.
    assert max(peaks) < 9 * span + 2**20
