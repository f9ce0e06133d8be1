"""Random numbers that belong to the sample: a pure function of seed, epoch, row and draw."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import OptionError
from rightbatch.plan.hashing import GOLDEN_GAMMA, derive_key, key_stream, mix


class RowRandom:
    """Draws for the rows of one batch that do not change with threads, ranks, batch size or resume.

    Each draw gives one array whose first axis is the batch. The value for a row is
    `mix(mix(key(seed, epoch, draw) + (row + 1) γ) + element · γ)`, SplitMix64 in counter mode
    (Steele, Lea and Flood 2014), so nothing is stored and rows may come in any order.
    `rows` is int64 (B); a padding row has the id -1. `stream` tells apart the functions that draw
    for the same rows.

    >>> alone = RowRandom(seed=7, epoch=0, rows=np.array([5]))
    >>> together = RowRandom(seed=7, epoch=0, rows=np.array([3, 5, 8]))
    >>> bool(alone.uniform()[0] == together.uniform()[1])
    True
    """

    def __init__(self, *, seed: int, epoch: int, rows: NDArray[np.int64], stream: int = 0) -> None:
        self.rows = rows
        self._words = (seed, epoch, stream)
        self._draws = 0

    def bits(self, shape: tuple[int, ...] = ()) -> NDArray[np.uint64]:
        """64 random bits, uint64 (B, *shape)."""
        width = math.prod(shape)
        key = derive_key("row", *self._words, self._draws)
        self._draws += 1
        # The row is hashed before the element is added, so that the streams of two rows can not
        # overlap as they would if row · width + element were one counter.
        row_keys = key_stream(key, self.rows)
        steps = np.arange(width, dtype=np.uint64) * np.uint64(GOLDEN_GAMMA)
        values = mix(row_keys[:, None] + steps[None, :])
        return values.reshape(len(self.rows), *shape)

    def uniform(
        self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()
    ) -> NDArray[np.float64]:
        """Uniform numbers in [low, high), float64 (B, *shape)."""
        fractions = (self.bits(shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + (high - low) * fractions

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> NDArray[np.int64]:
        """Whole numbers from low up to, without, high, int64 (B, *shape).

        Raises OptionError unless low < high. The bias is below (high - low) / 2^53.
        """
        if low >= high:
            raise OptionError(f"integers({low}, {high}): low must be below high")
        return low + np.floor(self.uniform(0.0, float(high - low), shape)).astype(np.int64)

    def normal(
        self, mean: float = 0.0, std: float = 1.0, shape: tuple[int, ...] = ()
    ) -> NDArray[np.float64]:
        """Normal numbers, float64 (B, *shape), by the Box-Muller transform.

        `mean + std · sqrt(-2 ln(1 - u)) · cos(2 π v)` with u and v uniform in [0, 1).
        """
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(shape=shape)))
        return mean + std * radius * np.cos(2.0 * np.pi * self.uniform(shape=shape))
