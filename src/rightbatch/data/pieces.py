"""A column that lies in memory piece by piece, and perhaps in another order than its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError

# A batch of 128 takes 0.3 ms from a thousand pieces, and a few microseconds from one array. Columns
# that are larger stay where they are, perhaps in a memory map.
_MOST_JOINED_BYTES = 1 << 28


class Pieces:
    """The values of a column in consecutive pieces, arrays or `Ragged`s of one dtype and shape.

    `order` (N,) int64 are the places of the rows among the values; None where they stand in row
    order. One piece in row order is used as it is, without a copy; several, or another order, are
    joined into one up to 256 MiB, and read piece by piece beyond.

    >>> pieces = Pieces([np.array([1, 2]), np.array([3])], order=np.array([2, 0]))
    >>> len(pieces), pieces.take(np.array([1, 0, 1]))
    (2, array([1, 3, 1]))
    """

    def __init__(
        self,
        pieces: Sequence[Any],
        order: NDArray[np.int64] | None = None,
        *,
        joined_bytes: int = _MOST_JOINED_BYTES,
    ) -> None:
        kept = [piece for piece in pieces if len(piece)]
        self._pieces: list[Any] = kept or list(pieces[:1])
        self._starts = np.cumsum([0, *map(len, self._pieces)])
        self._order = order
        self.is_copied = False
        held = int(self._starts[-1])
        if order is not None and len(order) and (order.min() < 0 or order.max() >= held):
            raise DataError(f"an order of rows points outside of the {held:,} values")
        if order is None and len(self._pieces) == 1:
            return
        value_bytes = sum(piece.nbytes for piece in self._pieces) / max(1, held)
        if len(self) * value_bytes <= joined_bytes:
            joined = self.take(np.arange(len(self)))
            self._pieces, self._order, self.is_copied = [joined], None, True
            self._starts = np.array([0, len(joined)])

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._order is None else len(self._order)

    @property
    def like(self) -> Any:
        """A piece, for its dtype and shape."""
        return self._pieces[0]

    @property
    def whole(self) -> Any:
        """All values as one array or `Ragged`; None where they lie in several pieces."""
        return self._pieces[0] if len(self._pieces) == 1 and self._order is None else None

    def take(self, rows: NDArray[np.int64]) -> Any:
        """Copies of the values of `rows`, which have to be valid."""
        places = rows if self._order is None else self._order[rows]
        if len(self._pieces) == 1:
            return _taken(self._pieces[0], places)
        numbers = np.searchsorted(self._starts, places, side="right") - 1
        by_piece = np.argsort(numbers, kind="stable")
        bounds = np.flatnonzero(np.diff(numbers[by_piece])) + 1
        groups = [group for group in np.split(by_piece, bounds) if len(group)]
        found = [
            _taken(self._pieces[number], places[group] - self._starts[number])
            for group in groups
            for number in [int(numbers[group[0]])]
        ]
        if not found:
            return _taken(self._pieces[0], places)
        back = np.empty(len(rows), np.int64)
        back[by_piece] = np.arange(len(rows))
        if isinstance(self.like, Ragged):
            return Ragged.concatenate(found).take(back)
        return np.concatenate(found)[back]

    def span(self, start: int, stop: int) -> Any:
        """The values from row `start` up to `stop`; a view where one piece holds them in order."""
        if self._order is None:
            number = int(np.searchsorted(self._starts, start, side="right")) - 1
            number = min(number, len(self._pieces) - 1)
            first = int(self._starts[number])
            if stop <= self._starts[number + 1]:
                return self._pieces[number][start - first : stop - first]
        return self.take(np.arange(start, stop))


def _taken(piece: Any, places: NDArray[np.int64]) -> Any:
    return piece.take(places) if isinstance(piece, Ragged) else piece.take(places, axis=0)
