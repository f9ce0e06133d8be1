"""A random split by arithmetic: every block of neighbours gives its share to each part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rightbatch.plan.hashing import derive_key, key_stream

BLOCK_LENGTH = 128
"""How many neighbours share a block, as near as equal blocks come to it.

With 128 a window of 300,000 rows is found at 78 ns a row and one row far from the others at 1.4 us;
with 1,024 at 285 ns and 10 us, since a block is worked out whole for any of its samples.
"""

# Products of two numbers of blocks must stay below 2^63. From 2^38 samples on, blocks grow.
_MOST_BLOCKS = 2**31
# The hashes of so many samples are sorted at once: 1 MiB of them.
_MOST_SORTED = 2**17

_PAST_THE_END = 3


@dataclass(frozen=True, kw_only=True)
class BlockSplit:
    """Which of `length` samples belong to part 1 (val), 2 (test) and 0 (train, the rest).

    The samples are cut into blocks of neighbours, whose lengths differ by one at most. Part p, of
    s samples, takes from block i of m as many as floor((s (i + 1) + r) / m) - floor((s i + r) / m),
    which is s / m rounded up or down and adds up to s; r is a hash of the part. Which of the
    block's samples these are is decided by sorting hashes. So every sample is as likely as any
    other to be held out, neighbours stay in the neighbourhood, and a part takes no memory: who is
    the k-th of it, and whether a sample belongs to it, is worked out in the block concerned.

    Raises ValueError where fewer than two samples a block would be left to train on: there a
    block could be asked for more than it has.

    >>> split = BlockSplit(length=10_000, val=1_000, test=0, key=7)
    >>> [len(split.part(number)) for number in (0, 1, 2)]
    [9000, 1000, 0]
    >>> split.part(1).take(np.arange(3))
    array([ 1, 10, 26])
    """

    length: int
    val: int
    test: int
    key: int

    def __post_init__(self) -> None:
        if not self.is_possible(self.length, self.val, self.test):
            raise ValueError(f"{self.val} and {self.test} of {self.length} leave too few to train")

    @staticmethod
    def is_possible(length: int, val: int, test: int) -> bool:
        """Whether enough is left to train on for this kind of split."""
        return length - val - test >= 2 * _block_count(length) > 0

    def part(self, number: int) -> BlockShare:
        """The samples of part 0, 1 or 2, in ascending order."""
        return BlockShare(split=self, number=number)

    @cached_property
    def block_count(self) -> int:
        """Into how many blocks the samples are cut."""
        return _block_count(self.length)

    def size(self, number: int) -> int:
        """The number of samples of a part."""
        return (self.length - self.val - self.test, self.val, self.test)[number]

    def before(self, number: int, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many samples of a part stand before each of `blocks`."""
        if number == 0:
            rest: NDArray[np.int64] = self.samples_before(blocks)
            rest -= self.before(1, blocks)
            rest -= self.before(2, blocks)
            return rest
        return self._spread(self.size(number), self._phases[number], blocks)

    def guess(self, number: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The blocks near which the members at `positions` of a part stand; few lie off."""
        # From the formula above, solved for i in floating point.
        ends = (positions + 1.0) * self.block_count - self._phases[number]
        guess: NDArray[np.float64] = np.ceil(ends / max(1, self.size(number))) - 1
        return np.clip(guess, 0, self.block_count - 1).astype(np.int64)

    def samples_before(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first sample of each of `blocks`."""
        return self._spread(self.length, 0, blocks)

    def numbers(self, blocks: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The part of each sample of `blocks`, (blocks, longest block); 3 past a block's end."""
        firsts, ends = self.samples_before(blocks), self.samples_before(blocks + 1)
        width = -(-self.length // self.block_count)
        samples = firsts[:, None] + np.arange(width)
        hashes = key_stream(self.key, samples)
        # A sample's place in its block stands in the lowest bits of its hash and is sorted along.
        place_bits = np.uint64(2 ** max(1, (width - 1).bit_length()) - 1)
        hashes &= ~place_bits
        hashes |= np.arange(width, dtype=np.uint64)
        inside = samples < ends[:, None]
        hashes[~inside] |= ~place_bits
        hashes.sort(axis=1)
        places = (hashes & place_bits).astype(np.int64)
        val, test = (
            (self.before(number, blocks + 1) - self.before(number, blocks))[:, None]
            for number in (1, 2)
        )
        rank = np.arange(width)
        by_rank = (rank < val).astype(np.uint8)
        by_rank[(rank >= val) & (rank < val + test)] = 2
        numbers = np.empty(places.shape, np.uint8)
        np.put_along_axis(numbers, places, by_rank, axis=1)
        numbers[~inside] = _PAST_THE_END
        return numbers

    def blocks_at_once(self) -> int:
        """For how many blocks `numbers` may be asked in bounded memory."""
        return max(1, _MOST_SORTED // -(-self.length // self.block_count))

    @cached_property
    def _phases(self) -> tuple[int, int, int]:
        val, test = (derive_key(self.key, "phase", part) % self.block_count for part in (1, 2))
        return 0, val, test

    def _spread(self, total: int, phase: int, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """floor((total * block + phase) / block count), by numbers that fit in 63 bits."""
        each, rest = divmod(total, self.block_count)
        return each * blocks + (rest * blocks + phase) // self.block_count


@dataclass(frozen=True, kw_only=True)
class BlockShare:
    """One part of a `BlockSplit`: an ascending list of samples that is never written down."""

    split: BlockSplit
    number: int
    nbytes = 0

    def __len__(self) -> int:
        return self.split.size(self.number)

    @property
    def description(self) -> str:
        """What decides which samples these are, as text."""
        split = self.split
        return f"{split.length}:{split.val}:{split.test}:{split.key}:{self.number}"

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples at `positions`, each in range(len(self)), of the ascending list."""
        split = self.split
        guess = split.guess(self.number, positions)
        blocks = _locate(positions, guess, lambda block: split.before(self.number, block))
        found = np.empty(len(positions), np.int64)
        for numbers, present, inverse, where in self._by_blocks(blocks):
            before = split.before(self.number, present)
            counts = split.before(self.number, present + 1) - before
            members = np.flatnonzero(numbers.reshape(-1) == self.number)
            # Where the members of each block begin among all of them, less the ranks before it.
            starts = np.cumsum(counts) - counts - before
            # A member's place in the table, less that of its block's first sample, and that sample.
            firsts = split.samples_before(present) - np.arange(len(present)) * numbers.shape[1]
            found[where] = members[positions[where] + starts[inverse]] + firsts[inverse]
        return found

    def contains(self, samples: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of `samples`, none outside the split, belongs to this part."""
        split = self.split
        guess = (samples * (split.block_count / split.length)).astype(np.int64)
        blocks = _locate(samples, guess, split.samples_before)
        found = np.empty(len(samples), np.bool_)
        for numbers, present, inverse, where in self._by_blocks(blocks):
            place = samples[where] - split.samples_before(present)[inverse]
            found[where] = numbers[inverse, place] == self.number
        return found

    def chunks(self) -> Iterator[NDArray[np.int64]]:
        """All samples, ascending, as arrays of bounded length."""
        split = self.split
        step = split.blocks_at_once()
        for first in range(0, split.block_count, step):
            blocks = np.arange(first, min(first + step, split.block_count))
            numbers = split.numbers(blocks)
            members = np.flatnonzero(numbers[numbers != _PAST_THE_END] == self.number)
            if len(members):
                yield members + split.samples_before(blocks[:1])

    def _by_blocks(
        self, blocks: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.intp]]]:
        """Tables of `numbers`: the table, its blocks, and which row of it who of `blocks` needs."""
        order = np.argsort(blocks)
        in_order = blocks[order]
        is_first = np.diff(in_order, prepend=-1) > 0
        rows = np.cumsum(is_first) - 1
        distinct = in_order[is_first]
        step = self.split.blocks_at_once()
        for first in range(0, len(distinct), step):
            begin, end = np.searchsorted(rows, (first, first + step))
            present = distinct[first : first + step]
            yield self.split.numbers(present), present, rows[begin:end] - first, order[begin:end]


def _block_count(length: int) -> int:
    return min(-(-length // BLOCK_LENGTH), _MOST_BLOCKS)


def _locate(
    values: NDArray[np.int64],
    guess: NDArray[np.int64],
    before: Callable[[NDArray[np.int64]], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """The block i of each value for which before(i) <= value < before(i + 1), near `guess`."""
    blocks = guess
    while True:
        too_far = before(blocks) > values
        too_near = before(blocks + 1) <= values
        if not (too_far.any() or too_near.any()):
            return blocks
        blocks = blocks - too_far + too_near
