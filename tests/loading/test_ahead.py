"""The order, read from a stretch that is kept, is the order."""

from __future__ import annotations

import numpy as np
import pytest

from rightbatch.loading.ahead import RowsAhead
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan
from rightbatch.plan.row_set import RowSet
from rightbatch.plan.weighted import WeightedOrder


@pytest.mark.parametrize("window", [None, 100, 70_000])
def test_spans_anywhere_equal_the_order_s_own(window: int | None) -> None:
    length = 150_000
    order = Order.resolve(shuffle=True, window=window, length=length)
    whole = order.positions(length, 7, 2, 0, length)
    plan = Plan(length=length, batch_size=10, order=order, seed=7)
    ahead = RowsAhead(plan, RowSet.from_range(length + 5, 5, length + 5), 2)
    spans = [(0, 10), (10, 20), (65_000, 66_000), (140_000, 150_000), (3, 5), (0, 150_000), (9, 9)]
    for start, stop in spans:
        np.testing.assert_array_equal(ahead.span(start, stop), 5 + whole[start:stop])


def test_draws_may_be_more_than_there_are_rows() -> None:
    order = WeightedOrder.from_weights(np.arange(1.0, 101), 150_000)
    whole = order.positions(150_000, 7, 2, 0, 150_000)
    plan = Plan(length=150_000, batch_size=10, order=order, seed=7)
    ahead = RowsAhead(plan, RowSet.from_range(105, 5, 105), 2)
    for start, stop in [(0, 10), (10, 20), (65_000, 66_000), (149_000, 150_000)]:
        np.testing.assert_array_equal(ahead.span(start, stop), 5 + whole[start:stop])
