from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.plan.bitmap import (
    Bitmap,
    count_bits,
    empty_bits,
    fill_bits,
    first_and_last,
    set_bits,
    set_members,
)


def bits_of(total: int, members: list[int]) -> np.ndarray:
    bits = empty_bits(total)
    set_bits(bits, np.array(members, np.int64))
    return bits


@given(st.integers(1, 2_000), st.data())
def test_a_bitmap_answers_as_the_sorted_list_does(total, data):
    members = sorted(data.draw(st.sets(st.integers(0, total - 1), min_size=1)))
    bits = bits_of(total, members)
    assert count_bits(bits) == len(members)
    assert first_and_last(bits) == (members[0], members[-1])
    assert np.concatenate(list(set_members(bits))).tolist() == members
    bitmap = Bitmap(bits)
    assert len(bitmap) == len(members)
    assert bitmap.select(np.arange(len(members))).tolist() == members
    asked = np.arange(total)
    assert np.array_equal(bitmap.contains(asked), np.isin(asked, members))


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.5, 0.999])
def test_select_of_a_large_bitmap_in_random_order(share):
    rng = np.random.default_rng(7)
    members = np.flatnonzero(rng.random(3_000_000) < share)
    bits = empty_bits(3_000_000)
    set_bits(bits, members)
    positions = rng.permutation(len(members))
    assert np.array_equal(Bitmap(bits).select(positions), members[positions])


def test_select_where_all_members_crowd_at_both_ends():
    members = np.concatenate([np.arange(70), np.arange(9_999_000, 10_000_000)])
    bits = empty_bits(10_000_000)
    set_bits(bits, members)
    assert np.array_equal(Bitmap(bits).select(np.arange(len(members))), members)


@given(st.integers(0, 300), st.integers(0, 300))
def test_fill_sets_a_range(one, other):
    start, stop = sorted((one, other))
    bits = empty_bits(300)
    fill_bits(bits, start, stop)
    assert np.array_equal(bits, bits_of(300, list(range(start, stop))))


def test_common_members_are_counted():
    some, others = Bitmap(bits_of(1_000, [1, 5, 999])), Bitmap(bits_of(1_000, [5, 6, 999]))
    assert some.count_common(others) == 2


def test_the_directories_cost_at_most_half_of_the_bits():
    bits = empty_bits(10_000_000)
    bits[:] = 0xFF
    assert Bitmap(bits).nbytes < 1.51 * len(bits)


def test_bits_of_another_padding_are_refused():
    with pytest.raises(ValueError, match="empty_bits"):
        Bitmap(np.zeros(9, np.uint8))


def test_the_bits_of_very_many_are_mapped_from_a_file_that_has_no_name():
    bits = empty_bits(2**28)
    assert isinstance(bits.base, np.memmap)
    assert not bits[:1000].any()
    set_bits(bits, np.array([2**28 - 1]))
    members = Bitmap(bits)
    assert len(members) == 1
    assert members.select(np.array([0])).tolist() == [2**28 - 1]
