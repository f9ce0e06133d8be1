"""CSV files as people write them: with and without header, mixed line ends, spaces, gaps."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from rightbatch.data.missing import MARKERS
from rightbatch.data.table_file import TableFile, is_number
from rightbatch.errors import DataError

# Enough records to see whether numbers stand below a name that is a number.
_HEAD_RECORDS = 20
# Big enough for most rows; a row that is longer is read again in one block.
_BLOCK_BYTES = 2**22
_MOST_BLOCK_BYTES = 2**31 - 1
# A text longer than this is a quote that was never closed.
_MOST_FIELD_CHARACTERS = 2**26
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Record(NamedTuple):
    """The fields of one record, and the line on which it begins (from 1)."""

    fields: list[str]
    line: int


class CsvFile(TableFile):
    """A CSV file, plain or gzipped, whose header has been read and judged.

    `header` is True, False, or None for "yes, unless the first row looks like data". Fields are
    separated by commas; by tabs in a .tsv; by semicolons or tabs where the first line has no
    comma. Spaces around fields do not count.

    Raises DataError for a file that is empty, has a header alone, or a header in doubt.
    """

    def __init__(self, path: Path, *, header: bool | None) -> None:
        self.path = path
        self.label = str(path)
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
            self.names = tuple(f"column_{position}" for position in range(len(first)))
        elif len(head) == 1:
            raise DataError(
                f"{path} has a header alone and zero rows of values. If line {head[0].line} is "
                "data, say header=False (--no-header)."
            )
        else:
            self.names = self._judge_header(first, head, forced=header is True)
        for record in head:
            if len(record.fields) != len(first):
                raise self._ragged(record, len(first))

    def read(self, columns: Sequence[str]) -> Any:
        """The chosen columns, their types inferred from all rows, markers of missing as null."""
        import pyarrow as pa

        positions = [self.names.index(column) for column in columns]
        with self._buffer() as (buffer, has_quotes):
            try:
                table = _read_arrow(buffer, positions, len(self.names), self.delimiter, has_quotes)
            except pa.ArrowException as error:
                raise self._explain(error) from error
        tidied = [
            self._tidy(name, column) for name, column in zip(columns, table.columns, strict=True)
        ]
        return pa.table(tidied, names=list(columns))

    def locate(self, row: int) -> str:
        """The file and the line of data row `row`; the file is read again up to there."""
        counted = " (the header counts)" if self.has_header else ""
        for record in islice(self._records(), row + self.has_header, None):
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
        with _open_text(self.path) as text:
            reader = csv.reader(text, delimiter=self.delimiter, skipinitialspace=skip_initial_space)
            before = 0
            try:
                while (fields := _next_record(reader)) is not None:
                    if fields:
                        yield Record(fields, before + 1)
                    before = reader.line_num
            except csv.Error as error:
                raise DataError(
                    f"{self.path}, line {before + 1}: {error}. Is a quote never closed?"
                ) from error
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise _broken_gzip(self.path, error) from error

    @contextmanager
    def _buffer(self) -> Iterator[tuple[Any, bool]]:
        """The bytes of the data rows as an Arrow buffer, and whether quotes occur in them."""
        import pyarrow as pa

        if self.path.suffix == ".gz":
            try:
                with gzip.open(self.path) as file:
                    yield from self._prepared(pa.py_buffer(file.read()))
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise _broken_gzip(self.path, error) from error
        else:
            with pa.memory_map(str(self.path)) as file:
                yield from self._prepared(file.read_buffer())

    def _prepared(self, buffer: Any) -> Iterator[tuple[Any, bool]]:
        import pyarrow as pa

        has_quotes = re.search(rb'"', buffer) is not None
        space_before_quote = re.escape(self.delimiter).encode() + rb'[ ]+"'
        if has_quotes and re.search(space_before_quote, buffer):
            # Arrow takes a quote after a space for text; the standard library reads it right.
            rewritten = io.StringIO()
            writer = csv.writer(rewritten, delimiter=self.delimiter, lineterminator="\n")
            for record in islice(self._records(), int(self.has_header), None):
                if len(record.fields) != len(self.names):
                    raise self._ragged(record, len(self.names))
                writer.writerow(record.fields)
            yield pa.py_buffer(rewritten.getvalue().encode("utf-8")), True
            return
        yield buffer.slice(self._header_bytes(buffer)), has_quotes

    def _header_bytes(self, buffer: Any) -> int:
        """Where the first data row begins."""
        if not self.has_header:
            return 0
        records = self._records()
        next(records)
        lines = next(records).line - 1
        end = 0
        for _, match in zip(range(lines), re.finditer(rb"\r\n|\r|\n", buffer), strict=False):
            end = match.end()
        return end

    def _tidy(self, name: str, column: Any) -> Any:
        """Text without the spaces around it; a marker behind spaces is a missing value too."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_binary(column.type):
            for row, value in enumerate(column.to_pylist()):
                try:
                    (value or b"").decode("utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{self.locate(row)}: column {name!r} is no UTF-8 text ({error.reason} "
                        f"in {value!r}). Save the file as UTF-8."
                    ) from error
        if not pa.types.is_string(column.type):
            return column
        trimmed = pc.utf8_trim_whitespace(column)
        if not pc.any(pc.not_equal(column, trimmed)).as_py():
            return column
        is_marker = pc.is_in(trimmed, value_set=pa.array(MARKERS))
        marked = pc.if_else(is_marker, pa.scalar(None, pa.string()), trimmed)
        return _infer(marked)

    def _explain(self, error: Exception) -> DataError:
        """Arrow says that a row is wrong, but not always which: find it."""
        for record in self._records(skip_initial_space=False):
            if len(record.fields) != len(self.names):
                return self._ragged(record, len(self.names))
        return DataError(f"{self.path} cannot be read as CSV: {str(error).splitlines()[0]}")

    def _ragged(self, record: Record, expected: int) -> DataError:
        counted = " (the header counts)" if self.has_header else ""
        is_long = any("\n" in field for field in record.fields)
        hint = " A quote that is never closed would do this." if is_long else ""
        fields = f"{len(record.fields)} field{'s' if len(record.fields) != 1 else ''}"
        return DataError(
            f"{self.path}, line {record.line}{counted}: {fields} found, {expected} expected as in "
            f"the first row.{hint} Repair or delete the line; a field that holds "
            f"{self.delimiter!r} needs quotes around it."
        )


def _next_record(reader: Iterator[list[str]]) -> list[str] | None:
    """The next record, or None at the end.

    The limit on fields belongs to the whole process, so it is lifted for one record at a time.
    """
    usual = csv.field_size_limit(_MOST_FIELD_CHARACTERS)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(usual)


def _read_arrow(
    buffer: Any, positions: Sequence[int], width: int, delimiter: str, has_quotes: bool
) -> Any:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names = [f"f{position}" for position in range(width)]
    parse = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=has_quotes)
    convert = arrow_csv.ConvertOptions(
        include_columns=[names[position] for position in positions],
        null_values=[*MARKERS, *(f" {marker}" for marker in MARKERS if marker)],
        strings_can_be_null=True,
    )
    for block_bytes in (_BLOCK_BYTES, _MOST_BLOCK_BYTES):
        read = arrow_csv.ReadOptions(
            column_names=names, block_size=min(block_bytes, buffer.size + 1)
        )
        try:
            return arrow_csv.read_csv(
                pa.BufferReader(buffer),
                read_options=read,
                parse_options=parse,
                convert_options=convert,
            )
        except pa.ArrowInvalid as error:
            is_too_long = "straddling" in str(error)
            if not is_too_long or block_bytes == _MOST_BLOCK_BYTES:
                raise
    raise AssertionError("the last block size either reads or raises")


def _infer(column: Any) -> Any:
    """What Arrow would have inferred, had the spaces not been there."""
    import pyarrow as pa

    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column))])
    present = column.drop_null()
    for kind in (pa.int64(), pa.float64(), pa.timestamp("s"), pa.timestamp("us")):
        try:
            # Arrow is slow to fail, so one value is tried before all of them.
            present.slice(0, 1).cast(kind)
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    values = {text.lower() for text in column.unique().to_pylist() if text is not None}
    return column.cast(pa.bool_()) if values <= {"true", "false"} else column


def _is_tsv(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab"))


def _delimiter(path: Path) -> str:
    if _is_tsv(path):
        return "\t"
    try:
        with _open_text(path) as text:
            first = next((line for line in text if line.strip()), "")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _broken_gzip(path, error) from error
    return next((mark for mark in (",", ";", "\t") if mark in first), ",")


@contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        start = file.read(4)
        if start[:2] in _UTF16_MARKS:
            raise DataError(f"{path} is UTF-16 text; save it as UTF-8.")
        if start == b"PAR1":
            raise DataError(f"{path} is a Parquet file; give it the ending .parquet.")
        file.seek(0)
        # Bytes that are no UTF-8 are reported with their column once the values are read.
        yield io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")


def _broken_gzip(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is no readable gzip file ({error}). Fetch it anew.")
