"""A split in the order of the rows: sizes as asked for, with a gap before what is held out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rightbatch.errors import OptionError
from rightbatch.plan.row_set import RowSet
from rightbatch.plan.split import contiguous_rows


@given(
    train=st.integers(1, 40),
    val=st.integers(0, 20),
    test=st.integers(0, 20),
    gap=st.integers(0, 9),
    before=st.integers(0, 5),
    after=st.integers(0, 5),
)
def test_the_parts_follow_one_another_with_gaps_between(train, val, test, gap, before, after):
    gaps = gap * ((val > 0) + (test > 0))
    stop = before + train + val + test + gaps
    candidates = RowSet.from_range(stop + after, before, stop)
    parts = contiguous_rows(candidates, val=val, test=test, gap=gap)
    assert [len(parts[name]) for name in ("train", "val", "test")] == [train, val, test]
    at = before
    for name in ("train", "val", "test"):
        if len(parts[name]):
            start, end = parts[name].is_range
            assert start == at
            at = end + gap
    assert at - gap == stop


@pytest.mark.parametrize(("val", "test", "gap"), [(5, 5, 0), (4, 4, 1), (0.5, None, 5)])
def test_a_split_that_leaves_nothing_to_train_on_is_refused(val, test, gap):
    with pytest.raises(OptionError, match=r"leaves? none to train on"):
        contiguous_rows(RowSet.from_range(10, 0, 10), val=val, test=test, gap=gap)
