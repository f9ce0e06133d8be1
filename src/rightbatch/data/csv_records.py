"""Records of a CSV file, read the slow and exact way: one by one, each with its line."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from rightbatch.data.unzipped import open_unzipped
from rightbatch.errors import DataError

# A text longer than this is a quote that was never closed.
MOST_FIELD_CHARACTERS = 2**26
GZIP_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Record(NamedTuple):
    """The fields of one record, and the lines on which it begins and ends (from 1)."""

    fields: list[str]
    line: int
    last_line: int


def records_of(
    lines: Iterable[str],
    path: Path,
    delimiter: str,
    *,
    skip_initial_space: bool = True,
    lines_before: int = 0,
) -> Iterator[Record]:
    """Every record of `lines` that is not a blank line; `lines_before` went before them.

    Raises DataError, naming the line, where a field has no end.
    """
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=skip_initial_space)
    before = 0
    try:
        while (fields := _next_record(reader)) is not None:
            if fields:
                yield Record(fields, lines_before + before + 1, lines_before + reader.line_num)
            before = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{path}, line {lines_before + before + 1}: {error}. Is a quote never closed?"
        ) from error


def _next_record(reader: Iterator[list[str]]) -> list[str] | None:
    """The next record, or None at the end.

    The limit on fields belongs to the whole process, so it is lifted for one record at a time.
    """
    usual = csv.field_size_limit(MOST_FIELD_CHARACTERS)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(usual)


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """The text of a file, plain or gzipped; DataError for UTF-16 and Parquet."""
    with open_unzipped(path) as file:
        start = file.read(4)
        if start[:2] in _UTF16_MARKS:
            raise DataError(f"{path} is UTF-16 text; save it as UTF-8.")
        if start == b"PAR1":
            raise DataError(f"{path} is a Parquet file; give it the ending .parquet.")
        file.seek(0)
        # Bytes that are no UTF-8 are reported with their column once the values are read.
        yield io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")


def broken_gzip(path: Path, error: Exception) -> DataError:
    """The error that a gzip file cannot be read."""
    return DataError(f"{path} is no readable gzip file ({error}). Fetch it anew.")
