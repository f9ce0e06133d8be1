"""Which rows training has read: leakage is measured, not assumed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rightbatch.loading.parts import Parts


class ReadRows:
    """A mark for every row of a data set that a training step has read, one byte a row.

    >>> read = ReadRows(6)
    >>> read.mark(np.array([4, 1]))
    >>> read.count(np.array([1, 2]))
    1
    """

    def __init__(self, total: int) -> None:
        self._marks = np.zeros(total, np.bool_)

    def mark(self, rows: NDArray[np.int64]) -> None:
        """Note that `rows` were read."""
        self._marks[rows] = True

    def count(self, rows: NDArray[np.int64]) -> int:
        """How many of `rows` have been read."""
        return int(self._marks[rows].sum())

    def leaked(self, parts: Parts) -> int:
        """How many samples of the validation and test parts training has read."""
        return sum(
            self.count(part.rows.take(np.arange(len(part))))
            for name, part in parts.all.items()
            if name != "train"
        )

    def packed(self) -> NDArray[np.uint8]:
        """The marks, eight to a byte, for a checkpoint."""
        return np.packbits(self._marks)

    def restore(self, packed: NDArray[np.uint8]) -> None:
        """Take the marks back from a checkpoint."""
        self._marks = np.unpackbits(packed, count=len(self._marks)).astype(np.bool_)
