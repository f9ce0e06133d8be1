"""Rows of the wrong length: where they stand, how many are borne, and the note that lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import DataError

_MOST_LISTED = 20


class BadRow(NamedTuple):
    """A row that was left out: its number among the file's data rows (from 0), and its lines."""

    row: int
    line: int
    last_line: int

    def __str__(self) -> str:
        return str(self.line) if self.line == self.last_line else f"{self.line}-{self.last_line}"


@dataclass(frozen=True, kw_only=True)
class BadRowsOfFile:
    """The rows of one file that were left out, among `rows` data rows with them."""

    label: str
    rows: int
    bad: tuple[BadRow, ...]


def row_in_file(row: int, bad: Sequence[BadRow]) -> int:
    """The number in the file of data row `row` of those that were kept.

    >>> row_in_file(2, [BadRow(0, 2, 2), BadRow(3, 5, 5)])
    4
    """
    left_before = np.asarray([each.row for each in bad], np.int64) - np.arange(len(bad))
    return row + int(np.searchsorted(left_before, row, side="right"))


def rows_kept(rows: int, bad: Sequence[BadRow]) -> NDArray[np.int64]:
    """The numbers of the rows that are kept, of `rows` in all."""
    return np.delete(np.arange(rows, dtype=np.int64), [each.row for each in bad])


def settle_bad_rows(
    source: str, files: Sequence[BadRowsOfFile], max_bad: int | float | None
) -> list[str]:
    """The note that rows were left out, none where none were.

    Raises DataError, naming the first of them, where they are more than `max_bad`: a count, or a
    share of all rows.
    """
    count = sum(len(file.bad) for file in files)
    if not count:
        return []
    rows = sum(file.rows for file in files)
    if count > most_bad(rows, max_bad):
        raise too_many_bad_rows(source, files, max_bad)
    if count == rows:
        raise DataError(
            f"{source}: every row has the wrong length, which leaves zero samples. Is the first "
            "row one of the table?"
        )
    return [f"Left out {_counted(count)} of the wrong length: {_listed(files, _MOST_LISTED)}."]


def most_bad(rows: int, max_bad: int | float | None) -> int:
    """How many of `rows` rows may be left out."""
    return int(rows * max_bad) if isinstance(max_bad, float) else max_bad or 0


def too_many_bad_rows(
    source: str, files: Sequence[BadRowsOfFile], max_bad: int | float | None
) -> DataError:
    """The error that more rows have the wrong length than `max_bad` bears."""
    return DataError(
        f"{source}: more rows have the wrong length than max_bad={max_bad} bears. The first stand "
        f"in {_listed(files, 5)}. Repair or delete them, or raise max_bad (--max-bad)."
    )


def _listed(files: Sequence[BadRowsOfFile], most: int) -> str:
    places = [(file.label, bad) for file in files for bad in file.bad]
    texts = []
    shown = list(islice(places, most))
    for label in dict.fromkeys(label for label, _ in shown):
        lines = [str(bad) for name, bad in shown if name == label]
        texts.append(f"{label} line{'s' if len(lines) > 1 else ''} {', '.join(lines)}")
    more = f", … {len(places) - most:,} more" if len(places) > most else ""
    return "; ".join(texts) + more


def _counted(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"
