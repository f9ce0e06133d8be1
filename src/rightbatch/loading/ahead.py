"""An epoch's rows, worked out a stretch ahead of the batches that are cut from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rightbatch.plan.plan import Plan
from rightbatch.plan.rank_plan import RankPlan
from rightbatch.plan.row_set import RowSet
from rightbatch.plan.token_plan import TokenPlan

# The order costs tens of NumPy calls whatever the length of the span: over a batch of 128 that
# is more than the gathering itself, over 65,536 positions it vanishes. 512 KiB of int64.
_STRETCH = 65_536
_GROWTH = 4


class RowsAhead:
    """Rows of a set in one epoch's order, read from a stretch that is kept.

    >>> from rightbatch.plan.order import Order
    >>> plan = Plan(length=10, batch_size=2, order=Order(kind="sequential"), seed=7)
    >>> RowsAhead(plan, RowSet.from_range(20, 10, 20), 0).span(2, 5)
    array([12, 13, 14])
    """

    def __init__(self, plan: Plan | RankPlan, rows: RowSet, epoch: int) -> None:
        self._plan = plan
        self._rows = rows
        self._epoch = epoch
        self._start = 0
        self._stretch: NDArray[np.int64] = np.empty(0, np.int64)

    def span(self, start: int, stop: int) -> NDArray[np.int64]:
        """The rows at positions `start` up to `stop` of the order, int64; not to be changed."""
        if start < self._start or stop > self._start + len(self._stretch):
            length, take = _STRETCH, self._rows.take
            if self._plan.order.kind in ("uniform", "weighted", "mixture"):
                # The first rows come at once: 65,536 out of a million take 1 ms, and out of a large
                # split, where each has to be worked out, 150 ms.
                length = min(length, _GROWTH * len(self._stretch))
                take = self._rows.take_far_apart
            end = min(self._plan.length, max(stop, start + length))
            positions = self._plan.positions(self._epoch, start, end)
            self._stretch = take(positions)
            self._start = start
        return self._stretch[start - self._start : stop - self._start]


class TokenRows:
    """The rows of a set in the order that a token plan has in one epoch."""

    def __init__(self, plan: TokenPlan, rows: RowSet, epoch: int) -> None:
        self._plan = plan
        self._rows = rows
        self._epoch = epoch

    def span(self, start: int, stop: int) -> NDArray[np.int64]:
        """The rows at positions `start` up to `stop`, int64."""
        return self._rows.take(self._plan.positions(self._epoch, start, stop))
