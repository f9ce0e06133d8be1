from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.errors import OptionError
from rightbatch.plan.block_split import BlockSplit
from rightbatch.plan.row_set import LISTED_ROWS, RowSet

row_sets = st.integers(1, 400).flatmap(
    lambda total: st.tuples(st.just(total), st.sets(st.integers(0, total - 1)))
)


@given(row_sets)
def test_every_way_to_build_a_set_gives_the_same_set(drawn):
    total, members = drawn
    rows = sorted(members)
    listed = RowSet.from_rows(total, rows[::-1])
    masked = RowSet.from_mask_bits(total, listed.mask_bits())
    assert listed == masked
    assert hash(listed) == hash(masked)
    for found in (listed, masked):
        assert len(found) == len(rows)
        assert found.take(np.arange(len(rows))).tolist() == rows
        assert [int(row) for chunk in found.chunks() for row in chunk] == rows
        assert np.array_equal(
            found.contains(np.arange(-2, total + 2)), np.isin(np.arange(-2, total + 2), rows)
        )
        consecutive = not rows or rows[-1] - rows[0] == len(rows) - 1
        assert (found.is_range is not None) == consecutive
    if rows and listed.is_range:
        assert listed == RowSet.from_range(total, rows[0], rows[-1] + 1)


@given(
    st.integers(1, 60).flatmap(
        lambda n: st.tuples(st.just(n), *[st.sets(st.integers(0, n - 1))] * 2)
    )
)
def test_fingerprints_are_equal_exactly_when_rows_are_and_common_rows_are_counted(drawn):
    total, some, others = drawn
    one, other = RowSet.from_rows(total, sorted(some)), RowSet.from_rows(total, sorted(others))
    assert (one.fingerprint == other.fingerprint) == (some == others)
    assert one.count_common(other) == other.count_common(one) == len(some & others)


def test_a_fingerprint_is_pinned():
    # Runs keep it: a change refuses every cursor saved before.
    assert RowSet.from_range(10, 2, 5).fingerprint == "b8a687013e09444e5233a0ad34f8c02e"
    assert RowSet.from_rows(10, [7, 1, 4]).fingerprint == "934c530c9e9dfe723fff6f2dc050e570"


def test_sets_of_data_of_other_lengths_differ():
    assert RowSet.from_range(10, 0, 5) != RowSet.from_range(11, 0, 5)
    with pytest.raises(OptionError, match="different data"):
        RowSet.from_range(10, 0, 5).count_common(RowSet.from_range(11, 0, 5))


def test_a_range_costs_nothing_and_a_list_the_smallest_integers():
    assert RowSet.from_range(10**12, 5, 10**12).nbytes == 0
    assert RowSet.from_rows(2**32, [0, 2, 2**32 - 1]).nbytes == 12
    far = RowSet.from_rows(2**40, [0, 2, 2**40 - 1])
    assert far.nbytes == 24
    assert far.take(np.array([2])).tolist() == [2**40 - 1]


def test_more_rows_than_a_list_holds_become_a_bitmap():
    total = LISTED_ROWS + 1_000_000
    left_out = np.arange(0, 900_000, 3)
    rows = np.setdiff1d(np.arange(total), left_out, assume_unique=True)
    found = RowSet.from_rows(total, rows)
    assert found.is_range is None
    assert found.nbytes < total / 8 * 1.51
    at = np.array([0, 5, 299_999, 12_345_678, len(rows) - 1])
    assert np.array_equal(found.take(at), rows[at])
    assert found.contains(np.array([0, 1, total - 1, total])).tolist() == [False, True, True, False]
    assert found == RowSet.from_mask_bits(total, found.mask_bits())
    others = RowSet.from_rows(total, left_out)
    assert found.count_common(others) == 0
    assert found.count_common(found) == len(rows)
    assert found.count_common(RowSet.from_range(total, 0, 6)) == 4
    almost_all = RowSet.from_range(total, 1, total)
    assert RowSet.from_mask_bits(total, almost_all.mask_bits()).is_range == (1, total)


def test_positions_past_the_end_are_refused():
    for rows in (RowSet.from_range(10, 2, 5), RowSet.from_rows(10, [1, 5, 7])):
        for wrong in (-1, 3, 2**62):
            with pytest.raises(IndexError, match=f"position {wrong} lies outside"):
                rows.take(np.array([0, wrong]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([3, 1, 3], "row 3 is listed more than once"),
        ([0, 10], "row 10 lies outside"),
        ([-1, 2], "row -1 lies outside"),
        ([0.5], "give integers"),
        ([[1, 2]], "give integers"),
    ],
)
def test_rows_that_are_no_set_are_refused(rows, message):
    with pytest.raises(OptionError, match=message):
        RowSet.from_rows(10, rows)


def test_ranges_and_masks_outside_the_data_are_refused():
    with pytest.raises(OptionError, match="outside the 10 rows"):
        RowSet.from_range(10, 3, 11)
    for mask in ([0xFF], [0xFF, 0x04], [0, 0, 1]):
        with pytest.raises(OptionError, match="does not describe 10 rows"):
            RowSet.from_mask_bits(10, np.array(mask, np.uint8))


def test_a_mask_may_be_as_short_as_the_data():
    assert RowSet.from_mask_bits(10, np.array([0b101, 0b10], np.uint8)).take(
        np.arange(3)
    ).tolist() == [0, 2, 9]


def test_repr_says_how_many_and_where():
    assert repr(RowSet.from_range(1_000, 10, 20)) == "<RowSet: 10 of 1,000 rows, 10 up to 20>"


@given(st.lists(row_sets, min_size=1, max_size=4))
def test_joined_sets_are_the_rows_of_each_after_the_other(drawn):
    members = [RowSet.from_rows(total, sorted(rows)) for total, rows in drawn]
    joined = RowSet.joined(members)
    starts = np.cumsum([0, *(member.total for member in members)])
    expected = np.concatenate(
        [
            member.take(np.arange(len(member))) + start
            for member, start in zip(members, starts, strict=False)
        ]
    )
    assert joined.total == starts[-1]
    assert len(joined) == len(expected)
    assert np.array_equal(joined.take(np.arange(len(expected))), expected)
    assert np.array_equal(np.concatenate([np.empty(0, np.int64), *joined.chunks()]), expected)
    every_row = np.arange(joined.total)
    assert np.array_equal(joined.contains(every_row), np.isin(every_row, expected))
    assert joined.count_common(RowSet.from_range(joined.total, 0, joined.total)) == len(expected)
    assert np.array_equal(joined.scattered.take(np.arange(len(expected))), expected)
    again = RowSet.from_mask_bits(joined.total, joined.mask_bits())
    assert np.array_equal(again.take(np.arange(len(expected))), expected)


def test_a_share_stays_arithmetic_when_it_is_joined():
    split = BlockSplit(length=10_000, val=1_000, test=0, key=7)
    share = RowSet.from_share(10_000, split.part(1))
    joined = RowSet.joined([RowSet.from_range(5, 0, 5), share])
    assert joined.is_arithmetic
    assert joined.nbytes < 1_000
    assert not joined.scattered.is_arithmetic
    last, first = (share.take(np.array([999, 0])) + 5).tolist()
    assert joined.take(np.array([1_004, 3, 5])).tolist() == [last, 3, first]
    assert joined.fingerprint != RowSet.joined([share, RowSet.from_range(5, 0, 5)]).fingerprint
