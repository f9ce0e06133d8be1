"""The plan of an epoch: which positions make up which batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import OptionError, did_you_mean
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.block_window import BlockWindows
from rightbatch.plan.checks import whole_number
from rightbatch.plan.order import Order
from rightbatch.plan.orders import AnyOrder

Remainder = Literal["keep", "drop", "pad"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How an epoch of `length` samples is cut into batches of `batch_size`, and in which order.

    The samples are those of range(`length`); a weighted or mixture order draws them from its own
    population.

    The last batch may be partial: `"keep"` keeps it smaller, `"drop"` leaves it out (`dropped`
    says how many samples that is), `"pad"` asks the loader to fill it up with samples of weight
    zero; its span still counts the real samples alone.

    Every method that takes `start` cuts the epoch from that many consumed samples on.

    Raises OptionError for options that are not valid or leave no batch.

    >>> plan = Plan(length=1000, batch_size=128, order=Order(kind="uniform"), seed=7)
    >>> plan.batch_count(), plan.span(7)
    (8, (896, 1000))
    """

    length: int
    batch_size: int
    order: AnyOrder
    seed: int
    remainder: Remainder = "keep"

    def __post_init__(self) -> None:
        length = whole_number("length", self.length)
        if length < 1:
            raise OptionError(f"a plan of {length} samples has no batch; give at least one sample")
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "batch_size", resolve_batch_size(self.batch_size, length))
        object.__setattr__(self, "seed", whole_number("seed", self.seed))
        choices = get_args(Remainder)
        if self.remainder not in choices:
            raise OptionError(
                f"remainder={self.remainder!r} is not valid."
                f"{did_you_mean(str(self.remainder), choices)} "
                f"Valid: {', '.join(choices)}."
            )
        if self.remainder == "drop" and self.batch_size > length:
            raise OptionError(
                f'remainder="drop" with batch_size={self.batch_size} would drop all {length} '
                f'samples; use a batch size of at most {length}, or remainder="keep"'
            )

    @property
    def dropped(self) -> int:
        """The samples that an epoch leaves out: those of the last batch under `"drop"`."""
        return self.length % self.batch_size if self.remainder == "drop" else 0

    def batch_count(self, start: int = 0, epoch: int = 0) -> int:
        """The batches of an epoch, or of its rest after `start` samples; alike in all epochs."""
        del epoch
        rest = self._rest(start)
        return rest // self.batch_size if self.remainder == "drop" else -(-rest // self.batch_size)

    def span(self, k: int, start: int = 0) -> tuple[int, int]:
        """The positions (start, stop) of batch `k`; IndexError past the last batch."""
        if not 0 <= k < self.batch_count(start):
            raise IndexError(f"batch {k} lies outside 0 <= k < {self.batch_count(start)}")
        first = start + k * self.batch_size
        return first, min(first + self.batch_size, self.length)

    def samples_before(self, batch: int, epoch: int = 0) -> int:
        """The samples of an epoch in the batches before number `batch`; all of them past the last.

        >>> order = Order(kind="uniform")
        >>> Plan(length=10, batch_size=4, order=order, seed=7).samples_before(2)
        8
        """
        del epoch
        return min(self.end(), batch * self.batch_size)

    def end(self, start: int = 0) -> int:
        """Where the last batch of an epoch that is cut from `start` on ends, in samples."""
        return min(self.length, start + self.batch_count(start) * self.batch_size)

    def spans(self, start: int = 0, epoch: int = 0) -> Iterator[tuple[int, int]]:
        """The positions (start, stop) of every batch, in order; alike in all epochs."""
        del epoch
        end = start + self.batch_count(start) * self.batch_size
        stops = chain(range(start + self.batch_size, end, self.batch_size), [min(end, self.length)])
        # An epoch that has no batch left has a stop without a start.
        return zip(range(start, end, self.batch_size), stops, strict=False)

    def stretches(self, epoch: int, start: int, most: int) -> Iterator[tuple[int, int]]:
        """The rest of an epoch from `start` on in stretches of at most so many positions.

        They end where the windows of a block-window order end, so that each is read on its own.
        Positions of batches that are dropped are left out.
        """
        end = self.end(start)
        windows = self.windows(epoch)
        while start < end:
            stop = min(end, start + most)
            if windows is not None:
                stop = min(stop, windows.bounds(start)[1])
            yield start, stop
            start = stop

    def windows(self, epoch: int) -> BlockWindows | None:
        """The windows of an epoch of block-window order; None where it has no or one window."""
        order = self.order
        if not isinstance(order, Order) or order.block is None or order.window is None:
            return None
        if order.window >= self.length:
            return None
        return order.windows(self.length, self.seed, epoch)

    def positions(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Which samples of the population stand at positions `start` up to `stop` of `epoch`.

        Raises IndexError unless 0 <= start <= stop <= length.
        """
        return self.order.positions(self.length, self.seed, epoch, start, stop)

    def to_json(self) -> dict[str, object]:
        """What decides the order of samples, as a dict for JSON; the batch size does not."""
        return {
            "length": self.length,
            "order": self.order.to_json(),
            "remainder": self.remainder,
            "seed": self.seed,
        }

    def _rest(self, start: int) -> int:
        if not 0 <= start <= self.length:
            raise IndexError(f"start {start} lies outside 0 <= start <= {self.length}")
        return self.length - start
