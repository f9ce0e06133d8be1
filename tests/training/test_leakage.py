"""Leakage is measured from the rows that were read."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import rightbatch as rb
from rightbatch.training.leakage import ReadRows


@given(total=st.integers(1, 50), data=st.data())
def test_marks_count_distinct_rows_and_survive_packing(total, data):
    rows = st.lists(st.integers(0, total - 1), max_size=30)
    read, asked = data.draw(rows), data.draw(rows)
    marks = ReadRows(total)
    marks.mark(np.array(read, np.int64))
    wanted = len([row for row in asked if row in read])
    assert marks.count(np.array(asked, np.int64)) == wanted
    restored = ReadRows(total)
    restored.restore(marks.packed())
    assert restored.count(np.arange(total)) == len(set(read))


def test_held_out_samples_that_were_read_are_counted():
    parts = rb.split(rb.open("iris"), val=20, test=10)
    marks = ReadRows(150)
    marks.mark(parts.train.rows.take(np.arange(120)))
    assert marks.leaked(parts) == 0
    marks.mark(parts.val.rows.take(np.arange(3)))
    marks.mark(parts.test.rows.take(np.arange(2)))
    assert marks.leaked(parts) == 5
