"""Row sets of several data sets as one, without a copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rightbatch.plan.row_set import RowSet


class JoinedRows:
    """Row sets of several data sets, whose rows are numbered one data set after another.

    >>> from rightbatch.plan.row_set import RowSet
    >>> rows = RowSet.joined([RowSet.from_rows(4, [1, 3]), RowSet.from_range(3, 0, 1)])
    >>> rows.take(np.array([2, 0])), rows.contains(np.array([3, 4, 5]))
    (array([4, 1]), array([ True,  True, False]))
    """

    def __init__(self, members: Sequence[RowSet]) -> None:
        self._members = tuple(members)
        self.total = sum(member.total for member in members)
        totals, lengths = ([0], [0])
        for member in members:
            totals.append(totals[-1] + member.total)
            lengths.append(lengths[-1] + len(member))
        self._totals, self._lengths = np.array(totals), np.array(lengths)

    def __len__(self) -> int:
        return int(self._lengths[-1])

    @property
    def nbytes(self) -> int:
        """The bytes that the members take."""
        return sum(member.nbytes for member in self._members)

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows at valid `positions` of the ascending list."""
        rows = np.empty(len(positions), np.int64)
        of = np.searchsorted(self._lengths, positions, side="right") - 1
        for number, member in enumerate(self._members):
            here = np.flatnonzero(of == number)
            if len(here):
                own = member.take(positions[here] - self._lengths[number])
                own += self._totals[number]
                rows[here] = own
        return rows

    def contains(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of `rows`, all of them below the total, belongs to its member."""
        found = np.empty(len(rows), np.bool_)
        of = np.searchsorted(self._totals, rows, side="right") - 1
        for number, member in enumerate(self._members):
            here = np.flatnonzero(of == number)
            found[here] = member.contains(rows[here] - self._totals[number])
        return found

    def chunks(self) -> Iterator[NDArray[np.int64]]:
        """All rows, ascending."""
        for number, member in enumerate(self._members):
            for chunk in member.chunks():
                yield chunk + self._totals[number]

    @property
    def is_arithmetic(self) -> bool:
        """Whether a member is worked out rather than stored."""
        return any(member.is_arithmetic for member in self._members)

    @property
    def scattered(self) -> JoinedRows:
        """The same rows in a form for random access."""
        return JoinedRows([member.scattered for member in self._members])

    @property
    def description(self) -> str:
        """What the rows are, for a fingerprint."""
        return ",".join(member.fingerprint for member in self._members)
