"""An epoch's order, worked out a stretch ahead of the batches that are cut from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rightbatch.plan.order import Order

# The order costs tens of NumPy calls whatever the length of the span: over a batch of 128 that
# is more than the gathering itself, over 65,536 positions it vanishes. 512 KiB of int64.
_STRETCH = 65_536


class PositionsAhead:
    """Spans of one epoch's order, read from a stretch that is kept.

    >>> ahead = PositionsAhead(Order.resolve(shuffle=False, window=None, length=10), 10, 7, 0)
    >>> ahead.span(2, 5).tolist()
    [2, 3, 4]
    """

    def __init__(self, order: Order, length: int, seed: int, epoch: int) -> None:
        self._order = order
        self._length = length
        self._seed = seed
        self._epoch = epoch
        self._start = 0
        self._stretch: NDArray[np.int64] = np.empty(0, np.int64)

    def span(self, start: int, stop: int) -> NDArray[np.int64]:
        """The positions from `start` up to `stop` of the order, int64."""
        if start < self._start or stop > self._start + len(self._stretch):
            end = min(self._length, max(stop, start + _STRETCH))
            self._stretch = self._order.positions(self._length, self._seed, self._epoch, start, end)
            self._start = start
        return self._stretch[start - self._start : stop - self._start]
