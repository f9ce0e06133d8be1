"""CSV files as people write them: with and without header, mixed line ends, spaces, gaps."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from rightbatch.data.bad_rows import BadRow, row_in_file
from rightbatch.data.csv_arrow import cast_texts, inferred_type, read_arrow, trimmed_texts
from rightbatch.data.csv_records import GZIP_ERRORS, Record, broken_gzip, open_text, records_of
from rightbatch.data.missing import MARKERS
from rightbatch.data.table_file import TableFile, is_number
from rightbatch.errors import DataError

# Enough records to see whether numbers stand below a name that is a number.
_HEAD_RECORDS = 20
LINE_END = rb"\r\n|\r|\n"


class CsvFile(TableFile):
    """A CSV file, plain or gzipped, whose header has been read and judged.

    `header` is True, False, or None for "yes, unless the first row looks like data". Fields are
    separated by commas; by tabs in a .tsv; by semicolons or tabs where the first line has no
    comma. Spaces around fields do not count. With `skip_ragged`, rows of the wrong length are left
    out and listed in `bad_rows` once the file was read; without it they are refused. `names` are
    those of the columns of a file without a header, where they are known from elsewhere.

    Raises DataError for a file that is empty, has a header alone, or a header in doubt.
    """

    def __init__(
        self,
        path: Path,
        *,
        header: bool | None,
        skip_ragged: bool = False,
        names: tuple[str, ...] | None = None,
    ) -> None:
        self.path = path
        self.label = str(path)
        self.skip_ragged = skip_ragged
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty; a CSV file needs one row of values at least.")
        self.delimiter = _delimiter(path)
        if self.delimiter != "," and not _is_tsv(path):
            self.notes = (f"Fields of {path.name} are separated by {self.delimiter!r}.",)
        head = list(islice(self._records(), _HEAD_RECORDS + 1))
        if not head:
            raise DataError(f"{path} has blank lines alone; a CSV file needs a row of values.")
        self.has_header = header is not False
        first = [field.strip() for field in head[0].fields]
        if not self.has_header:
            self.names = names or tuple(f"column_{position}" for position in range(len(first)))
        elif len(head) == 1:
            raise DataError(
                f"{path} has a header alone and zero rows of values. If line {head[0].line} is "
                "data, say header=False (--no-header)."
            )
        else:
            self.names = self._judge_header(first, head, forced=header is True)
        for record in head:
            if len(record.fields) != len(self.names) and not skip_ragged:
                raise self.ragged(record)

    def read(self, columns: Sequence[str]) -> Any:
        """The chosen columns, their types inferred from all rows, markers of missing as null."""
        import pyarrow as pa

        positions = [self.names.index(column) for column in columns]
        with self._buffer() as (buffer, has_quotes):
            try:
                table, skipped = read_arrow(
                    buffer,
                    positions,
                    width=len(self.names),
                    delimiter=self.delimiter,
                    has_quotes=has_quotes,
                    skip_ragged=self.skip_ragged,
                )
            except pa.ArrowException as error:
                raise self._explain(error) from error
        if skipped:
            records = islice(self._records(skip_initial_space=False), int(self.has_header), None)
            self.bad_rows = self.find_bad_rows(records, skipped)
        tidied = [
            self._tidy(name, column) for name, column in zip(columns, table.columns, strict=True)
        ]
        return pa.table(tidied, names=list(columns))

    def locate(self, row: int) -> str:
        """The file and the line of data row `row`; the file is read again up to there."""
        counted = " (the header counts)" if self.has_header else ""
        in_file = row_in_file(row, self.bad_rows) + self.has_header
        for record in islice(self._records(), in_file, None):
            return f"{self.path}, line {record.line}{counted}"
        return f"{self.path}, data row {row + 1}"

    def _judge_header(
        self, first: list[str], head: list[Record], *, forced: bool
    ) -> tuple[str, ...]:
        """The names of the columns; DataError where the first row looks like data."""
        doubt = None
        twice = sorted({name for name in first if name and first.count(name) > 1})
        if twice:
            doubt = f"the name {twice[0]!r} stands there twice"
        elif "" in first and not forced:
            doubt = f"the name of column {first.index('') + 1} is empty"
        elif not forced:
            for position, name in enumerate(first):
                below = [r.fields[position] for r in head[1:] if position < len(r.fields)]
                values = [text.strip() for text in below if text.strip() not in MARKERS]
                if is_number(name) and values and all(is_number(text) for text in values):
                    doubt = f"{name!r} is a number above a column of numbers"
                    break
        if doubt is None:
            return tuple(name or f"column_{position}" for position, name in enumerate(first))
        if forced:
            raise DataError(
                f"{self.path}: the header cannot name the columns: {doubt} (line {head[0].line}). "
                "Rename one of them, or say header=False (--no-header) if the line is data."
            )
        raise DataError(
            f"{self.path}: the first row does not look like a header: {doubt} (line "
            f"{head[0].line}). If it is data, say header=False (--no-header); if it holds the "
            "names, say header=True (--header)."
        )

    def _records(self, *, skip_initial_space: bool = True) -> Iterator[Record]:
        """Every record that is not a blank line, read the slow and exact way."""
        with open_text(self.path) as text:
            try:
                yield from records_of(
                    text, self.path, self.delimiter, skip_initial_space=skip_initial_space
                )
            except GZIP_ERRORS as error:
                raise broken_gzip(self.path, error) from error

    @contextmanager
    def _buffer(self) -> Iterator[tuple[Any, bool]]:
        """The bytes of the data rows as an Arrow buffer, and whether quotes occur in them."""
        import pyarrow as pa

        if self.path.suffix == ".gz":
            try:
                with gzip.open(self.path) as file:
                    yield from self._prepared(pa.py_buffer(file.read()))
            except GZIP_ERRORS as error:
                raise broken_gzip(self.path, error) from error
        else:
            with pa.memory_map(str(self.path)) as file:
                yield from self._prepared(file.read_buffer())

    def _prepared(self, buffer: Any) -> Iterator[tuple[Any, bool]]:
        import pyarrow as pa

        has_quotes = re.search(rb'"', buffer) is not None
        if has_quotes and self.has_spaced_quotes(buffer):
            records = islice(self._records(), int(self.has_header), None)
            rewritten, self.bad_rows = self.rewrite(records)
            yield pa.py_buffer(rewritten), True
            return
        yield buffer.slice(self._header_bytes(buffer)), has_quotes

    def has_spaced_quotes(self, buffer: Any) -> bool:
        """Whether a quote stands after spaces, which Arrow would take for text."""
        return re.search(re.escape(self.delimiter).encode() + rb'[ ]+"', buffer) is not None

    def rewrite(self, records: Iterable[Record]) -> tuple[bytes, tuple[BadRow, ...]]:
        """The data records as Arrow reads them right, and those of the wrong length.

        Arrow takes a quote after a space for text; the standard library reads it right.
        """
        rewritten = io.StringIO()
        # The writer quotes a field where it holds a character of the line end.
        writer = csv.writer(rewritten, delimiter=self.delimiter, lineterminator="\r\n")
        bad = []
        for row, record in enumerate(records):
            if len(record.fields) == len(self.names):
                writer.writerow(record.fields)
            elif self.skip_ragged:
                bad.append(self._borne(row, record))
            else:
                raise self.ragged(record)
        return rewritten.getvalue().encode("utf-8"), tuple(bad)

    def find_bad_rows(self, records: Iterable[Record], count: int) -> tuple[BadRow, ...]:
        """The `count` data records of the wrong length, whose lines Arrow does not tell."""
        bad = tuple(
            self._borne(row, record)
            for row, record in enumerate(records)
            if len(record.fields) != len(self.names)
        )
        if len(bad) != count:
            raise DataError(
                f"{self.path} has rows of the wrong length whose lines cannot be told: {count:,} "
                f"were met, and {len(bad):,} are found. Look for quotes inside of fields."
            )
        return bad

    def _borne(self, row: int, record: Record) -> BadRow:
        """The record as one that is left out; DataError where it may hold others within."""
        if any("\n" in field or "\r" in field for field in record.fields):
            raise self.ragged(record)
        return BadRow(row, record.line, record.last_line)

    def header_lines(self) -> int:
        """How many lines go before the first data row."""
        if not self.has_header:
            return 0
        records = self._records()
        next(records)
        return next(records).line - 1

    def _header_bytes(self, buffer: Any) -> int:
        """Where the first data row begins."""
        end = 0
        ends = re.finditer(LINE_END, buffer)
        for _, match in zip(range(self.header_lines()), ends, strict=False):
            end = match.end()
        return end

    def _tidy(self, name: str, column: Any) -> Any:
        """Text without the spaces around it; a marker behind spaces is a missing value too."""
        import pyarrow as pa

        if pa.types.is_binary(column.type):
            refuse_bytes(name, column, self.locate)
        if not pa.types.is_string(column.type):
            return column
        trimmed, had_spaces = trimmed_texts(column)
        return cast_texts(trimmed, inferred_type(trimmed)) if had_spaces else column

    def _explain(self, error: Exception) -> DataError:
        """Arrow says that a row is wrong, but not always which: find it."""
        for record in self._records(skip_initial_space=False):
            if len(record.fields) != len(self.names) and not self.skip_ragged:
                return self.ragged(record)
        return self.unreadable(error)

    def unreadable(self, error: Exception) -> DataError:
        """The error that Arrow cannot read the file, for a reason that it alone knows."""
        return DataError(f"{self.path} cannot be read as CSV: {str(error).splitlines()[0]}")

    def ragged(self, record: Record) -> DataError:
        """The error that a record has the wrong number of fields."""
        counted = " (the header counts)" if self.has_header else ""
        is_long = any("\n" in field for field in record.fields)
        hint = " A quote that is never closed would do this." if is_long else ""
        fields = f"{len(record.fields)} field{'s' if len(record.fields) != 1 else ''}"
        return DataError(
            f"{self.path}, line {record.line}{counted}: {fields} found, {len(self.names)} expected "
            f"as in the first row.{hint} Repair or delete the line; a field that holds "
            f"{self.delimiter!r} needs quotes around it."
        )


def refuse_bytes(name: str, column: Any, locate: Callable[[int], str]) -> None:
    """Raise DataError, naming the row, where a value is no UTF-8 text."""
    for row, value in enumerate(column.to_pylist()):
        try:
            (value or b"").decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{locate(row)}: column {name!r} is no UTF-8 text ({error.reason} "
                f"in {value!r}). Save the file as UTF-8."
            ) from error


def _is_tsv(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab"))


def _delimiter(path: Path) -> str:
    if _is_tsv(path):
        return "\t"
    try:
        with open_text(path) as text:
            first = next((line for line in text if line.strip()), "")
    except GZIP_ERRORS as error:
        raise broken_gzip(path, error) from error
    return next((mark for mark in (",", ";", "\t") if mark in first), ",")
