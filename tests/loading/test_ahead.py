"""The order, read from a stretch that is kept, is the order."""

from __future__ import annotations

import numpy as np
import pytest

from rightbatch.loading.ahead import RowsAhead
from rightbatch.plan.order import Order
from rightbatch.plan.row_set import RowSet


@pytest.mark.parametrize("window", [None, 100, 70_000])
def test_spans_anywhere_equal_the_order_s_own(window: int | None) -> None:
    length = 150_000
    order = Order.resolve(shuffle=True, window=window, length=length)
    whole = order.positions(length, 7, 2, 0, length)
    ahead = RowsAhead(order, RowSet.from_range(length + 5, 5, length + 5), 7, 2)
    spans = [(0, 10), (10, 20), (65_000, 66_000), (140_000, 150_000), (3, 5), (0, 150_000), (9, 9)]
    for start, stop in spans:
        np.testing.assert_array_equal(ahead.span(start, stop), 5 + whole[start:stop])
