"""Any batch by its epoch and number, for libraries that ask for batches instead of iterating."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from rightbatch.errors import OptionError
from rightbatch.loading.batches import Batches


class BatchAccess:
    """Batch k of epoch e, whoever asks in whatever order.

    Consecutive batches come from one iteration with its prefetching; any other is reached
    directly, at the cost of starting another iteration. Any thread may ask.

    >>> import rightbatch as rb
    >>> access = BatchAccess(rb.Batches([10, 11, 12, 13, 14], 2, shuffle=False))
    >>> access.get(0, 1), access.get(0, 2), access.get(3, 0)
    (array([12, 13]), array([14]), array([10, 11]))
    """

    def __init__(self, batches: Batches) -> None:
        if not isinstance(batches, Batches):
            raise OptionError(
                f"an rb.Batches is wanted, and {type(batches).__name__} was given: "
                "rb.Batches(parts.train, 32)"
            )
        self.batches = batches
        self._lock = threading.Lock()
        self._iterator: Iterator[Any] = iter(())
        self._next = (-1, -1)

    def get(self, epoch: int, number: int) -> Any:
        """Batch `number` (from 0) of epoch `epoch`; IndexError past the last one."""
        if not 0 <= number < len(self.batches):
            raise IndexError(f"batch {number} of an epoch of {len(self.batches):,} batches")
        with self._lock:
            if (epoch, number) != self._next:
                self._iterator = iter(self.batches.epoch(epoch, first_batch=number))
            self._next = (epoch, number + 1)
            return next(self._iterator)
