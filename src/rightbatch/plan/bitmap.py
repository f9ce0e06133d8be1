"""A set of integers below `total`, one bit each, with rank and select."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BITS_PER_BLOCK = 128
_BYTES_PER_BLOCK = _BITS_PER_BLOCK // 8
_HINT_DISTANCE = 128
_CHUNK_LENGTH = 65_536
_SELECT_LENGTH = 16_384


# Longer bits lie in a file without a name: the system may drop its pages when memory is short.
_MOST_IN_MEMORY_BYTES = 1 << 24


def empty_bits(total: int) -> NDArray[np.uint8]:
    """Packed bits for range(total), none set, padded to whole blocks of 128.

    More than 134 million are mapped into memory from a temporary file.
    """
    length = length_of_bits(total)
    if length <= _MOST_IN_MEMORY_BYTES:
        return np.zeros(length, np.uint8)
    with tempfile.TemporaryFile() as file:
        # The map keeps the file for as long as somebody holds the bits.
        return np.asarray(np.memmap(file, np.uint8, mode="w+", shape=(length,)))


def length_of_bits(total: int) -> int:
    """The bytes of `empty_bits(total)`."""
    return -(-total // _BITS_PER_BLOCK) * _BYTES_PER_BLOCK


def set_bits(bits: NDArray[np.uint8], members: NDArray[np.int64]) -> None:
    """Set the bits of `members` (repeats allowed)."""
    if not len(members):
        return
    first, end = int(members.min()) >> 3, (int(members.max()) >> 3) + 1
    if end - first > len(members):
        np.bitwise_or.at(bits, members >> 3, np.uint8(1) << (members & 7).astype(np.uint8))
        return
    # Close together they are packed: a quarter of the time.
    flags = np.zeros(8 * (end - first), np.bool_)
    flags[members - 8 * first] = True
    bits[first:end] |= np.packbits(flags, bitorder="little")


def fill_bits(bits: NDArray[np.uint8], start: int, stop: int) -> None:
    """Set the bits `start` up to `stop`."""
    first, last = -(-start // 8), stop // 8
    if first > last:
        set_bits(bits, np.arange(start, stop, dtype=np.int64))
        return
    bits[first:last] = 0xFF
    set_bits(bits, np.arange(start, 8 * first, dtype=np.int64))
    set_bits(bits, np.arange(8 * last, stop, dtype=np.int64))


def count_bits(bits: NDArray[np.uint8]) -> int:
    """How many bits are set."""
    chunks = range(0, len(bits), _CHUNK_LENGTH)
    return sum(
        int(np.bitwise_count(bits[at : at + _CHUNK_LENGTH]).sum(dtype=np.int64)) for at in chunks
    )


def first_and_last(bits: NDArray[np.uint8]) -> tuple[int, int]:
    """The lowest and the highest set bit, of bits from `empty_bits` of which some are set."""
    words = bits.view("<u8")
    occupied = words > 0
    first = int(np.argmax(occupied))
    last = len(words) - 1 - int(np.argmax(occupied[::-1]))
    low, high = int(words[first]), int(words[last])
    return 64 * first + (low & -low).bit_length() - 1, 64 * last + high.bit_length() - 1


def set_members(bits: NDArray[np.uint8]) -> Iterator[NDArray[np.int64]]:
    """The positions of the set bits, ascending, in chunks."""
    for first in range(0, len(bits), _CHUNK_LENGTH):
        unpacked = np.unpackbits(bits[first : first + _CHUNK_LENGTH], bitorder="little")
        members = np.flatnonzero(unpacked)
        if len(members):
            yield members + 8 * first


class Bitmap:
    """Packed bits (bit i of byte j stands for 8 j + i) that answer "which is member number p?".

    The rank directory holds the members before each block of 128 bits, and a hint for every
    128th member the block it lies in. `select` bisects the blocks between two hints and then
    halves the block: Jacobson, Space-efficient static trees and graphs (1989). Beside the bits
    this costs 4 bytes a block and 4 bytes for 128 members: at most half of the bits again, twice
    that from 2^32 members on.

    >>> bits = empty_bits(1000)
    >>> set_bits(bits, np.array([3, 500, 999]))
    >>> bitmap = Bitmap(bits)
    >>> len(bitmap), bitmap.select(np.array([2, 0, 1]))
    (3, array([999,   3, 500]))
    """

    def __init__(self, bits: NDArray[np.uint8]) -> None:
        if len(bits) % _BYTES_PER_BLOCK:
            raise ValueError("the bits must fill whole blocks: start from empty_bits(total)")
        bits.flags.writeable = False
        self.bits = bits
        self._words: NDArray[np.uint64] = bits.view("<u8").reshape(-1, 2)
        self._rank = self._count_before_blocks()
        self._hints = self._blocks_of_members()
        reach = int(np.diff(self._hints).max(initial=0))
        self._bisections = reach.bit_length()

    def _count_before_blocks(self) -> NDArray[np.int64]:
        counts = np.empty(len(self._words), np.uint8)
        for first in range(0, len(counts), _CHUNK_LENGTH):
            in_words = np.bitwise_count(self._words[first : first + _CHUNK_LENGTH])
            np.add(in_words[:, 0], in_words[:, 1], out=counts[first : first + _CHUNK_LENGTH])
        rank = np.zeros(len(counts) + 1, _smallest_dtype(8 * len(self.bits)))
        np.cumsum(counts, out=rank[1:])
        return rank

    def _blocks_of_members(self) -> NDArray[np.int64]:
        hinted = np.arange(0, len(self), _HINT_DISTANCE, dtype=self._rank.dtype)
        hints = np.full(len(hinted) + 1, len(self._words) - 1, _smallest_dtype(len(self._words)))
        for first in range(0, len(hinted), _CHUNK_LENGTH):
            chunk = hinted[first : first + _CHUNK_LENGTH]
            hints[first : first + len(chunk)] = np.searchsorted(self._rank, chunk, side="right") - 1
        return hints

    def __len__(self) -> int:
        return int(self._rank[-1])

    @property
    def nbytes(self) -> int:
        """The bytes that bits and directories take."""
        return self.bits.nbytes + self._rank.nbytes + self._hints.nbytes

    def select(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The members at `positions`, each in range(len(self)), of the ascending list."""
        selected = np.empty(len(positions), np.int64)
        for first in range(0, len(positions), _SELECT_LENGTH):
            chunk = slice(first, first + _SELECT_LENGTH)
            selected[chunk] = self._select(positions[chunk])
        return selected

    def _select(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        hint = positions // _HINT_DISTANCE
        block, last = self._hints[hint].astype(np.int64), self._hints[hint + 1].astype(np.int64)
        for _ in range(self._bisections):
            middle = (block + last + 1) >> 1
            reached = self._rank[middle] <= positions
            block = np.where(reached, middle, block)
            last = np.where(reached, last, middle - 1)
        rest = (positions - self._rank[block]).astype(np.uint8)
        words = self._words[block]
        in_first_word = np.bitwise_count(words[:, 0])
        second = rest >= in_first_word
        word = np.where(second, words[:, 1], words[:, 0])
        rest -= in_first_word * second
        bit = second * np.uint8(64)
        for width in (32, 16, 8, 4, 2, 1):
            in_low_half = np.bitwise_count(word & np.uint64(2**width - 1))
            high = rest >= in_low_half
            rest -= in_low_half * high
            step = high * np.uint8(width)
            word >>= step
            bit += step
        block *= _BITS_PER_BLOCK
        block += bit
        return block

    def contains(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of `numbers`, none of them outside the bits, is a member."""
        shifted = self.bits[numbers >> 3] >> (numbers & 7).astype(np.uint8)
        return np.asarray(shifted & 1, dtype=np.bool_)

    def count_common(self, other: Bitmap) -> int:
        """How many members are also members of `other`, a bitmap of as many bits."""
        chunks = range(0, len(self.bits), _CHUNK_LENGTH)
        return sum(
            count_bits(self.bits[at : at + _CHUNK_LENGTH] & other.bits[at : at + _CHUNK_LENGTH])
            for at in chunks
        )


def _smallest_dtype(largest: int) -> type[Any]:
    return np.uint32 if largest < 2**32 else np.int64
