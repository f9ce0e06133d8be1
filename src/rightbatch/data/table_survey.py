"""What the first pass over a table's chunks finds: how many rows each has, and where values lack.

The survey of a file is exact: types, missing values and texts are those that reading the file
whole would have found.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.arrow_columns import PlainColumn
from rightbatch.data.bad_rows import BadRow, BadRowsOfFile, row_in_file
from rightbatch.data.missing import Gaps
from rightbatch.data.table_file import TableFile

# Called with the bytes of a file that were read, and the bytes that it has.
Watcher = Callable[[int, int], None]


class Question(NamedTuple):
    """What the survey looks for: in which columns, with which target, and whether rows go.

    More than `most_bad` rows of the wrong length in a file end its survey there.
    """

    columns: tuple[str, ...]
    target: str | None
    drops: bool
    most_bad: int | None = None


@dataclass(kw_only=True)
class Chunk:
    """One chunk: `piece` is what its file finds it by; rows and columns are counted from 0.

    `rows` leaves out `bad_rows`, those of the wrong length. `gaps` and `first_gaps` are, for each
    column, the number of missing values and the first one's row. `kept` are the rows without any,
    as packed bits, where rows are dropped and some are; `kept_rows` counts them. `infinite` is
    the first row whose target is infinite.
    """

    piece: Any
    rows: int
    gaps: NDArray[np.int64]
    first_gaps: NDArray[np.int64]
    kept_rows: int
    kept: NDArray[np.uint8] | None
    infinite: int | None
    bad_rows: tuple[BadRow, ...] = ()

    def mask(self) -> NDArray[np.bool_] | None:
        """Which rows are kept; None where all are."""
        if self.kept is None:
            return None
        return np.unpackbits(self.kept, count=self.rows).view(bool)


@dataclass(kw_only=True)
class FileSurvey:
    """The chunks of a file, its columns' Arrow types when read whole, and their distinct texts."""

    chunks: list[Chunk] = field(default_factory=list)
    types: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, set[str]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The rows that were read, without those of the wrong length."""
        return sum(chunk.rows for chunk in self.chunks)

    def bad_rows(self, label: str) -> BadRowsOfFile:
        """The rows of the wrong length, numbered within the file."""
        bad = []
        before = 0
        for chunk in self.chunks:
            bad += [each._replace(row=each.row + before) for each in chunk.bad_rows]
            before += chunk.rows + len(chunk.bad_rows)
        return BadRowsOfFile(label=label, rows=before, bad=tuple(bad))


class TableChunks(ABC):
    """A file of a table that is read chunk by chunk, twice: once to survey it, once for good."""

    file: TableFile

    @abstractmethod
    def survey(self, question: Question, watch: Watcher | None = None) -> FileSurvey:
        """The first pass; DataError where reading the file whole would have raised it."""

    @abstractmethod
    def read(self, chunk: Chunk, columns: Sequence[str]) -> Any:
        """The chosen columns of a chunk that was surveyed, in the types that the file has."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file; the next read opens it again."""

    @abstractmethod
    def locate(self, chunk: Chunk, row: int) -> str:
        """Where row `row` of a chunk stands in the file, `bad_rows` counted."""


def locate_row(reader: TableChunks, chunks: Sequence[Chunk], row: int) -> str:
    """Where row `row` of a file stands, as a person would count."""
    for chunk in chunks:
        if row < chunk.rows:
            return reader.locate(chunk, row_in_file(row, chunk.bad_rows))
        row -= chunk.rows
    raise IndexError(f"{reader.file.label} has no such row")


def gaps_of(chunks: Sequence[Chunk], types: Mapping[str, Any]) -> dict[str, Gaps]:
    """What is missing of the columns, rows counted through all chunks; `types` are Arrow's."""
    counts = np.array([chunk.gaps for chunk in chunks])
    starts = np.cumsum([0, *(chunk.rows for chunk in chunks)])
    gaps = {}
    for index, (name, kind) in enumerate(types.items()):
        if counts[:, index].any():
            first = int(np.flatnonzero(counts[:, index])[0])
            row = int(starts[first] + chunks[first].first_gaps[index])
            gaps[name] = Gaps(int(counts[:, index].sum()), row, kind)
    return gaps


def examine(
    piece: Any,
    columns: Mapping[str, PlainColumn],
    question: Question,
    bad_rows: tuple[BadRow, ...],
    texts: Mapping[str, set[str]],
) -> Chunk:
    """What a chunk holds; the texts of its rows that are kept are added to those in `texts`."""
    import pyarrow.compute as pc

    rows = len(next(iter(columns.values())).values)
    gaps = np.zeros(len(columns), np.int64)
    first_gaps = np.zeros(len(columns), np.int64)
    kept = np.ones(rows, bool)
    for index, column in enumerate(columns.values()):
        gaps[index] = column.values.null_count
        if gaps[index]:
            is_null = column.values.is_null().to_numpy()
            first_gaps[index] = int(is_null.argmax())
            kept &= ~is_null
    drops = question.drops and not kept.all()
    for name, column in columns.items():
        if column.kind == "text":
            values = column.values.filter(kept) if drops else column.values
            texts[name].update(pc.unique(values.drop_null()).to_pylist())
    return Chunk(
        piece=piece,
        rows=rows,
        gaps=gaps,
        first_gaps=first_gaps,
        kept_rows=int(kept.sum()) if drops else rows,
        kept=np.packbits(kept) if drops else None,
        infinite=_first_infinite(columns, question.target),
        bad_rows=bad_rows,
    )


def _first_infinite(columns: Mapping[str, PlainColumn], target: str | None) -> int | None:
    import pyarrow as pa

    if target is None or not pa.types.is_floating(columns[target].values.type):
        return None
    infinite = np.isinf(columns[target].values.to_numpy())
    return int(infinite.argmax()) if infinite.any() else None
