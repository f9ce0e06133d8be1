"""Block-window order: blocks of neighbours are permuted, then the samples of several blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rightbatch.plan.hashing import derive_key
from rightbatch.plan.permutation import permute_span


@dataclass(frozen=True, kw_only=True)
class BlockWindows:
    """One epoch of the block-window order of `length` samples, as arithmetic.

    Samples are cut into blocks of `block` neighbours, the last of which may be shorter. The
    blocks are permuted by a keyed bijection; those that follow one another in their new order
    form windows, of as nearly equal numbers of blocks as `window / block` at most allows, and the
    samples of a window are permuted by a key of its own. Whoever reads window after window reads
    whole blocks and holds one window, `window` samples at most, at a time.

    The short block gets its place by a hash of its own, so that every window but one holds whole
    blocks, and where a window begins is a product and not a sum. This leaves the permutation of
    the blocks uniform: a random place for one of them, and a random order of the rest.

    >>> windows = BlockWindows(length=10, block=2, window=4, key=7)
    >>> windows.positions(0, 10)
    array([9, 8, 4, 2, 5, 3, 1, 0, 6, 7])
    >>> windows.bounds(4)
    (2, 6)
    """

    length: int
    block: int
    window: int
    key: int

    def positions(self, start: int, stop: int) -> NDArray[np.int64]:
        """The samples at places `start` up to `stop` of the epoch, int64 (stop - start,)."""
        span = np.empty(stop - start, np.int64)
        at = start
        while at < stop:
            begin, end = self.bounds(at)
            until = min(stop, end)
            own_key = derive_key(self.key, "window", begin)
            places = permute_span(end - begin, own_key, at - begin, until - begin)
            span[at - start : until - start] = self._samples(begin, end, places)
            at = until
        return span

    def bounds(self, place: int) -> tuple[int, int]:
        """Where the window that holds the place begins and ends.

        Raises IndexError unless 0 <= place < length.
        """
        if not 0 <= place < self.length:
            raise IndexError(f"place {place} lies outside 0 <= place < {self.length}")
        blocks, windows = self._block_count, self._window_count
        number = ((self._slot(place) + 1) * windows - 1) // blocks
        begin, end = (
            self._first_place(blocks * window // windows) for window in (number, number + 1)
        )
        return begin, end

    @property
    def _block_count(self) -> int:
        return -(-self.length // self.block)

    @property
    def _window_count(self) -> int:
        return -(-self._block_count // (self.window // self.block))

    @property
    def _missing(self) -> int:
        """How many samples the last block lacks."""
        return self._block_count * self.block - self.length

    @property
    def _short_slot(self) -> int:
        """The place of the last block among the permuted ones."""
        if not self._missing:
            return self._block_count - 1
        return derive_key(self.key, "short") % self._block_count

    def _slot(self, place: int) -> int:
        """The slot, of one block each, that the place lies in."""
        short = self._short_slot
        # From the short block's end on, places lie as if there were more before them.
        is_behind = place >= (short + 1) * self.block - self._missing
        return (place + (self._missing if is_behind else 0)) // self.block

    def _first_place(self, slot: int) -> int:
        return slot * self.block - (self._missing if slot > self._short_slot else 0)

    def _samples(self, begin: int, end: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples at `places` of the window from `begin` up to `end`, before it is permuted."""
        slots = range(self._slot(begin), self._slot(end - 1) + 1)
        short, missing = self._short_slot, self._missing
        if missing and short in slots:
            until = (short - slots.start + 1) * self.block - missing
            places = places + missing * (places >= until)
        slot, offset = np.divmod(places, self.block)
        samples: NDArray[np.int64] = self._blocks(slots)[slot]
        samples *= self.block
        samples += offset
        return samples

    def _blocks(self, slots: range) -> NDArray[np.int64]:
        """The blocks that stand in `slots`."""
        count, short = self._block_count, self._short_slot
        if not self._missing:
            return permute_span(count, derive_key(self.key, "blocks"), slots.start, slots.stop)
        blocks = np.empty(len(slots), np.int64)
        key = derive_key(self.key, "blocks")
        inside = short in slots
        # The whole blocks are permuted among themselves; the short one stands in between.
        start = slots.start - (short < slots.start)
        stop = slots.stop - (short < slots.stop)
        others = permute_span(count - 1, key, start, stop)
        if inside:
            at = short - slots.start
            blocks[:at], blocks[at], blocks[at + 1 :] = others[:at], count - 1, others[at:]
        else:
            blocks[:] = others
        return blocks
