"""A keyed Feistel network with cycle walking: a permutation of range(n) by arithmetic alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rightbatch.plan.hashing import key_stream

ROUNDS = 6
"""Half of them for each side. With four, pairs are visibly not uniform; six leave a margin."""

# A chunk and its buffers, 32 bytes a number, lie in a second-level cache of 1 MiB.
_CHUNK_LENGTH = 32_768


class FeistelNetwork:
    """The permutation of range(`length`) that `key` names.

    A number x is cut into x = left * 2^r + right, with left in range(a), a = ceil(length / 2^r),
    so that both sides count about sqrt(length) numbers. Each round changes one side by a keyed
    hash F of the other, in turn

        left = (left + floor(F(right) * a / 2^31)) mod a
        right = right xor (F(left) shifted down to r bits)

    Whatever F is, a round can be undone, so the network is a bijection of range(a * 2^r): Luby
    and Rackoff, How to construct pseudorandom permutations (1988). An image of `length` or more
    is sent through the network again until it falls below, which leaves a bijection of
    range(length): the generalised Feistel cipher and the cycle walking of Black and Rogaway,
    Ciphers with arbitrary finite domains (2002). As a * 2^r exceeds the length by less than 2^r,
    few numbers walk: under one in a hundred, whatever the length.

    F works on 32-bit words: multiply by a keyed odd number, add a keyed number, fold the high
    half onto the low, multiply by another keyed odd number, keep the top bits.

    >>> FeistelNetwork(100_000, key=7).image(0, 4)
    array([11123, 92736, 36574, 67296])
    """

    def __init__(self, length: int, key: int, rounds: int = ROUNDS) -> None:
        self._length = length
        self._right_bits = ((length - 1).bit_length() + 1) // 2
        self._left_count = -(-length >> self._right_bits)
        words = key_stream(key, np.arange(2 * rounds, dtype=np.int64))
        self._constants = words.astype("<u8").view("<u4").astype(np.uint32).reshape(rounds, 4)
        self._constants[:, :2] |= np.uint32(1)

    def image(self, start: int, stop: int) -> NDArray[np.int64]:
        """The images of start, start + 1, ... stop - 1, as int64."""
        return self._in_place(np.arange(start, stop, dtype=np.int64))

    def images(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The images of any numbers in range(length), in their order, as int64."""
        return self._in_place(numbers.copy())

    def _in_place(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        self._encipher(images)
        walking = np.flatnonzero(images >= self._length)
        while len(walking):
            walked = images[walking]
            self._encipher(walked)
            images[walking] = walked
            walking = walking[walked >= self._length]
        return images

    def _encipher(self, values: NDArray[np.int64]) -> None:
        """Send `values` through the network once, in place, in chunks that stay in cache."""
        size = min(_CHUNK_LENGTH, len(values))
        words, scaled = np.empty((4, size), np.uint32), np.empty(size, np.float64)
        for first in range(0, len(values), _CHUNK_LENGTH):
            chunk = values[first : first + _CHUNK_LENGTH]
            self._encipher_chunk(chunk, words[:, : len(chunk)], scaled[: len(chunk)])

    def _encipher_chunk(
        self, chunk: NDArray[np.int64], words: NDArray[np.uint32], scaled: NDArray[np.float64]
    ) -> None:
        left, right, hashed, folded = words
        right[:] = chunk
        right &= np.uint32(2**self._right_bits - 1)
        chunk >>= self._right_bits
        left[:] = chunk
        left_count = np.uint32(self._left_count)
        for number, (multiplier, second_multiplier, addend, _) in enumerate(self._constants):
            left_changes = number % 2 == 0
            np.multiply(right if left_changes else left, multiplier, out=hashed)
            hashed += addend
            np.right_shift(hashed, np.uint32(16), out=folded)
            hashed ^= folded
            hashed *= second_multiplier
            if left_changes:
                # Signed 31-bit words: their conversions to and from float64 are vectorised.
                hashed >>= np.uint32(1)
                scaled[:] = hashed.view(np.int32)
                scaled *= self._left_count / 2**31
                hashed.view(np.int32)[:] = scaled
                left += hashed
                # Below left_count the difference wraps around to a huge number.
                np.subtract(left, left_count, out=folded)
                np.minimum(left, folded, out=left)
            else:
                hashed >>= np.uint32(32 - self._right_bits)
                right ^= hashed
        chunk[:] = left
        chunk <<= self._right_bits
        chunk |= right
