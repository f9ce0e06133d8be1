"""A rank's view of a plan: its own positions of an epoch, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import OptionError
from rightbatch.plan.checks import whole_number
from rightbatch.plan.order import Order
from rightbatch.plan.orders import AnyOrder
from rightbatch.plan.plan import Plan, Remainder
from rightbatch.plan.ranks import check_rank, rank_span

# So many positions of all ranks are worked out at once, where those of others lie in between: half
# a megabyte, and a thousandth of a second.
_STRETCH = 65_536
# A call for a span costs what some thousands of positions do: over more than these a rank jumps.
_FEW_POSITIONS = 4096


@dataclass(frozen=True, kw_only=True)
class RankPlan:
    """What a rank out of `world_size` holds of the batches of a plan.

    Its positions are local: those of the global epoch that are its own, numbered from 0, in the
    order of the epoch. So a batch is a run of neighbours here too, maybe an empty one, and whoever
    reads by a plan can read by this. Batches are cut from `start` consumed samples of the global
    epoch on, and the numbering begins there.

    Ranks share each batch evenly (`rank_span`), or, with `share`, one is filled after the other:
    rank r holds the places r · share up to (r + 1) · share of it, as far as there are samples.

    All of it is arithmetic: nothing is stored, and what a position takes to work out does not
    depend on where it is.

    Raises OptionError for a rank outside the world, a share that leaves samples without a rank, and
    `remainder="pad"`.

    >>> plan = Plan(length=10, batch_size=4, order=Order(kind="sequential"), seed=7)
    >>> ranks = [RankPlan(plan=plan, rank=rank, world_size=3) for rank in range(3)]
    >>> [[rank.positions(0, *span).tolist() for span in rank.spans()] for rank in ranks]
    [[[0, 1], [4, 5], [8]], [[2], [6], [9]], [[3], [7], []]]
    """

    plan: Plan
    rank: int
    world_size: int
    share: int | None = None
    start: int = 0

    def __post_init__(self) -> None:
        rank, world_size = check_rank(self.rank, self.world_size)
        object.__setattr__(self, "rank", rank)
        object.__setattr__(self, "world_size", world_size)
        if self.plan.remainder == "pad":
            raise OptionError(
                f'remainder="pad" fills the last batch up, and {world_size} ranks share it as it '
                'is: take remainder="keep", which weighs every sample alike, or "drop"'
            )
        if self.share is not None:
            share = whole_number("share", self.share, at_least=1)
            largest = min(self.plan.batch_size, self.plan.length)
            if share * world_size < largest:
                raise OptionError(
                    f"{world_size} ranks with a share of {share} samples do not hold a batch of "
                    f"{largest}; give a share of at least {-(-largest // world_size)}"
                )

    def after(self, start: int) -> RankPlan:
        """The view of the epoch's rest, once `start` samples of all ranks are consumed."""
        return replace(self, start=start)

    @property
    def seed(self) -> int:
        """The seed of the plan."""
        return self.plan.seed

    @property
    def order(self) -> AnyOrder:
        """The order of the global epoch."""
        return self.plan.order

    @property
    def remainder(self) -> Remainder:
        """What becomes of the last batch."""
        return self.plan.remainder

    @property
    def batch_size(self) -> int:
        """The rank's own samples of a full batch, the most it holds of any; 0 where it has none."""
        begin, end = self._full
        return end - begin

    @cached_property
    def length(self) -> int:
        """The rank's own samples of the rest of an epoch, those of dropped batches left out."""
        begin, end = self._last
        return self._full_count * self.batch_size + end - begin

    def most_within(self, samples: int) -> int:
        """A bound on how many of so many neighbours in the epoch are the rank's own."""
        batches = samples // self.plan.batch_size + 2
        return max(1, min(samples, self.length, batches * self.batch_size))

    def spans(self, start: int = 0, epoch: int = 0) -> Iterator[tuple[int, int]]:
        """The local positions (start, stop) of every batch, in order; of empty ones both are equal.

        From the batch on that holds the local position `start`; alike in all epochs.
        """
        del epoch
        size = self.batch_size
        first = min(start // size, self._full_count) if size else 0
        for k in range(first, self._full_count):
            yield k * size, (k + 1) * size
        if self._last_samples:
            yield self._full_count * size, self.length

    def stretches(self, epoch: int, start: int, most: int) -> Iterator[tuple[int, int]]:
        """The local positions from `start` on in stretches of at most so many, none of them empty.

        They end where the windows of a block-window order end.
        """
        windows = self.plan.windows(epoch)
        while start < self.length:
            stop = min(self.length, start + most)
            if windows is not None:
                stop = min(stop, self._own_before(windows.bounds(self._place(start))[1]))
            yield start, stop
            start = stop

    def positions(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """Which samples of the population stand at local positions `start` up to `stop`, int64.

        Raises IndexError unless 0 <= start <= stop <= length.
        """
        if not 0 <= start <= stop <= self.length:
            raise IndexError(
                f"span({start}, {stop}) lies outside 0 <= start <= stop <= {self.length}"
            )
        plan = self.plan
        if isinstance(plan.order, Order):
            found = plan.order.at(plan.length, plan.seed, epoch, lambda: self._places(start, stop))
            if found is not None:
                return found
        samples = np.empty(stop - start, np.int64)
        at = start
        while at < stop:
            until = min(stop, self._end_of_stretch(at))
            first = self._place(at)
            stretch = plan.positions(epoch, first, self._place(until - 1) + 1)
            own = self._places(at, until)
            own -= first
            samples[at - start : until - start] = stretch[own]
            at = until
        return samples

    @cached_property
    def _full(self) -> tuple[int, int]:
        """Which places of a full batch are the rank's own."""
        return self._own(self.plan.batch_size)

    @cached_property
    def _last(self) -> tuple[int, int]:
        """The same of a last batch that is smaller."""
        return self._own(self._last_samples)

    def _own(self, samples: int) -> tuple[int, int]:
        if self.share is None:
            return rank_span(0, samples, self.rank, self.world_size)
        begin = min(samples, self.rank * self.share)
        return begin, min(samples, begin + self.share)

    @cached_property
    def _full_count(self) -> int:
        """The full batches."""
        return (self.plan.end(self.start) - self.start) // self.plan.batch_size

    @cached_property
    def _last_samples(self) -> int:
        """The samples of a last batch that is smaller, of all ranks; 0 where there is none."""
        return (self.plan.end(self.start) - self.start) % self.plan.batch_size

    def _place(self, position: int) -> int:
        """Where a local position lies in the global epoch."""
        size = self.batch_size
        batch = min(position // size, self._full_count) if size else self._full_count
        begin = (self._full if batch < self._full_count else self._last)[0]
        return self.start + batch * self.plan.batch_size + begin + position - batch * size

    def _places(self, start: int, stop: int) -> NDArray[np.int64]:
        """Where local positions `start` up to `stop` lie in the global epoch."""
        places = np.arange(start, stop, dtype=np.int64)
        size = self.batch_size
        full = min(stop, self._full_count * size)
        if full > start:
            inside = places[: full - start]
            batches = inside // size
            batches *= self.plan.batch_size - size
            inside += batches
            inside += self.start + self._full[0]
        # Those of the last batch, which is shared at other places.
        last = max(full, start)
        if stop > last:
            places[last - start :] += self._place(last) - last
        return places

    def _own_before(self, place: int) -> int:
        """How many of the places before `place` of the global epoch are the rank's own."""
        batch, inside = divmod(place - self.start, self.plan.batch_size)
        begin, end = self._full
        if batch >= self._full_count:
            batch = self._full_count
            inside = place - self.start - batch * self.plan.batch_size
            begin, end = self._last
        return batch * self.batch_size + min(max(inside - begin, 0), end - begin)

    def _end_of_stretch(self, position: int) -> int:
        """How far to work the order out at once, from a local position on."""
        place = self._place(position)
        if self.plan.batch_size - self.batch_size < _FEW_POSITIONS:
            return self._own_before(place + _STRETCH)
        size = self.batch_size
        batch = min(position // size, self._full_count) if size else self._full_count
        return (batch + 1) * size if batch < self._full_count else self.length
