"""A CSV file cut into chunks of whole records, each of which is read by itself."""

from __future__ import annotations

import gzip
import io
import re
import weakref
from collections.abc import Iterator, Sequence
from io import BufferedReader
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple

import numpy as np

from rightbatch.data.bad_rows import BadRow
from rightbatch.data.csv_arrow import read_arrow
from rightbatch.data.csv_files import LINE_END, CsvFile
from rightbatch.data.csv_records import (
    GZIP_ERRORS,
    MOST_FIELD_CHARACTERS,
    Record,
    broken_gzip,
    records_of,
)
from rightbatch.data.record_ends import last_record_end
from rightbatch.errors import DataError

Bytes = bytes | bytearray

_LINE_FEED = ord("\n")
_COUNTED_BYTES = 1 << 18
_HEAD_BYTES = 1 << 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class CsvPiece(NamedTuple):
    """Where a chunk lies: its first byte (unzipped), its size, and the lines that go before it."""

    offset: int
    size: int
    lines_before: int


class CsvRows(NamedTuple):
    """The rows of a chunk as an Arrow table, and those of the wrong length that were left out.

    The numbers of the latter count from the chunk's first row.
    """

    table: Any
    bad_rows: tuple[BadRow, ...]


class NeedsRewriting(Exception):  # noqa: N818  # no error: the survey begins anew, and goes on
    """A quote after spaces was met, so that all of the file is to be rewritten as it is read."""


class CsvChunks:
    """The chunks of `file`, of about `chunk_bytes` each; a longer record makes a longer chunk.

    `rewrites` says that the records go through the standard library's reader, because a quote
    stands after spaces somewhere in the file; see `CsvFile.rewrite`.
    """

    def __init__(self, file: CsvFile, chunk_bytes: int) -> None:
        self.file = file
        self.chunk_bytes = chunk_bytes
        self.rewrites = False
        self._first_offset = 0
        self._stream = _Stream(file.path)

    def pieces(self) -> Iterator[tuple[CsvPiece, Bytes]]:
        """Every chunk with its bytes, in order.

        Raises DataError where a quote is never closed, NeedsRewriting where the header says so.
        """
        header, pending = self._split_header()
        if not self.rewrites:
            self._look_for_spaced_quotes(header)
        offset = self._first_offset = len(header)
        lines = _lines_in(header)
        is_last = False
        while not is_last:
            data, end, is_last = self._whole_records(pending, offset, lines)
            # Cut where it lies: a copy would be as large again.
            pending = bytes(data[end:])
            del data[end:]
            lines_after = lines + _lines_in(data)
            # Blank lines alone are no table to Arrow.
            if not _is_blank(data):
                piece = CsvPiece(offset, end, lines)
                yield piece, data
            del data
            offset += end
            lines = lines_after

    def bytes_of(self, piece: CsvPiece) -> Bytes:
        """The bytes of a chunk, read again; DataError where the file has become shorter."""
        data = bytearray(piece.size)
        if self._stream.read_into(memoryview(data), piece.offset) < piece.size:
            raise DataError(f"{self.file.path} has become shorter since it was opened. Open anew.")
        return data

    def read(
        self,
        piece: CsvPiece,
        data: Bytes,
        columns: Sequence[str],
        types: Sequence[Any] | None = None,
    ) -> CsvRows:
        """The chosen columns of a chunk; their types are inferred from it, unless they are given.

        Raises DataError where a row has the wrong length and none is to be left out,
        NeedsRewriting where a quote stands after spaces, and pyarrow.ArrowInvalid where a value
        is not of the type that was given.
        """
        import pyarrow as pa

        file = self.file
        bad: tuple[BadRow, ...] = ()
        if self.rewrites:
            data, bad = file.rewrite(self.records(piece, data))
        else:
            self._look_for_spaced_quotes(data)
        sent = data
        if data.startswith(_BYTE_ORDER_MARK) and not self._is_first_to_arrow(piece):
            # Arrow takes such a mark away at the start; in the middle of a file it is text.
            sent = b"\n" + data
        positions = [file.names.index(column) for column in columns]
        if _is_blank(data):
            nothing = pa.table({column: pa.nulls(0) for column in columns})
            return CsvRows(nothing, bad)
        try:
            table, skipped = read_arrow(
                pa.py_buffer(sent),
                positions,
                width=len(file.names),
                delimiter=file.delimiter,
                has_quotes=b'"' in data,
                types=types,
                skip_ragged=file.skip_ragged,
            )
        except pa.ArrowInvalid as error:
            if types is None:
                raise self._explain(piece, data, error) from error
            raise
        if skipped:
            records = self.records(piece, data, skip_initial_space=False)
            bad = file.find_bad_rows(records, skipped)
        return CsvRows(table, bad)

    def look_for_spaced_quotes_from(self, offset: int) -> None:
        """Raise NeedsRewriting where a quote stands after spaces anywhere from `offset` on."""
        tail = b""
        while block := self._stream.read(offset, self.chunk_bytes):
            offset += len(block)
            block = tail + block
            self._look_for_spaced_quotes(block)
            # The spaces may begin in one block, and the quote in the next.
            tail = block[max(0, len(block.rstrip(b" ")) - 1) :]

    def records(
        self, piece: CsvPiece, data: Bytes, *, skip_initial_space: bool = True
    ) -> Iterator[Record]:
        """The records of a chunk one by one, with their lines in the file."""
        # Lines are as in a file: StringIO with newline="" splits at the same three ends.
        lines = io.StringIO(data.decode("utf-8", errors="replace"), newline="")
        return records_of(
            lines,
            self.file.path,
            self.file.delimiter,
            skip_initial_space=skip_initial_space,
            lines_before=piece.lines_before,
        )

    def locate(self, piece: CsvPiece, row: int) -> str:
        """The file and the line of row `row` of a chunk, those left out included."""
        counted = " (the header counts)" if self.file.has_header else ""
        for record in islice(self.records(piece, self.bytes_of(piece)), row, None):
            return f"{self.file.path}, line {record.line}{counted}"
        return f"{self.file.path}, after line {piece.lines_before}"

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        self._stream.close()

    @property
    def file_bytes_read(self) -> int:
        """How many bytes of the file, gzipped or not, have gone into what was read so far."""
        return self._stream.file_bytes_read

    def _split_header(self) -> tuple[bytes, bytes]:
        """The bytes before the first data row, and those behind that were read with them."""
        lines = self.file.header_lines()
        if not lines:
            mark = self._stream.read(0, len(_BYTE_ORDER_MARK))
            return (mark, b"") if mark == _BYTE_ORDER_MARK else (b"", mark)
        head, size, wanted = b"", 0, min(max(self.chunk_bytes, 1), _HEAD_BYTES)
        while True:
            block = self._stream.read(size, wanted)
            head, size = head + block, size + len(block)
            # The last end may be half of a pair.
            ends = [match.end() for match in islice(re.finditer(LINE_END, head), lines)]
            if (len(ends) == lines and ends[-1] < len(head)) or len(block) < wanted:
                return head[: ends[-1]], head[ends[-1] :]

    def _whole_records(
        self, pending: bytes, offset: int, lines_before: int
    ) -> tuple[bytearray, int, bool]:
        """Bytes from `offset` on, where the last whole record in them ends, and whether all do."""
        wanted = max(self.chunk_bytes - len(pending), 0)
        while True:
            data = bytearray(len(pending) + wanted)
            data[: len(pending)] = pending
            found = self._stream.read_into(memoryview(data)[len(pending) :], offset + len(pending))
            if found < wanted:
                del data[len(pending) + found :]
                return data, len(data), True
            end = last_record_end(data, self.file.delimiter, spaces_go_before_quotes=self.rewrites)
            if end:
                return data, end, False
            if len(data) > MOST_FIELD_CHARACTERS + self.chunk_bytes:
                raise DataError(
                    f"{self.file.path}, line {lines_before + 1}: a record of more than "
                    f"{MOST_FIELD_CHARACTERS:,} bytes begins. Is a quote never closed?"
                )
            pending, wanted = bytes(data), max(self.chunk_bytes, len(data), 1)

    def _is_first_to_arrow(self, piece: CsvPiece) -> bool:
        """Whether a mark before this chunk would be Arrow's to take away, had it the whole file."""
        is_first = piece.offset == self._first_offset
        return is_first and (self.file.has_header or self.rewrites)

    def _look_for_spaced_quotes(self, data: Bytes) -> None:
        # The regular expression is slow, and seldom needed.
        if b'"' in data and b' "' in data and self.file.has_spaced_quotes(data):
            raise NeedsRewriting

    def _explain(self, piece: CsvPiece, data: Bytes, error: Exception) -> DataError:
        """Arrow says that a row is wrong, but not always which: find it."""
        if not self.file.skip_ragged:
            for record in self.records(piece, data, skip_initial_space=False):
                if len(record.fields) != len(self.file.names):
                    return self.file.ragged(record)
        return self.file.unreadable(error)


class _Stream:
    """A file's bytes, unzipped, from any position on; cheapest where each read follows the last.

    A gzip file is unzipped from its beginning where a position lies before the last one. Threads
    take turns.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = RLock()
        self._open: tuple[BufferedReader, BufferedReader | gzip.GzipFile] | None = None
        self._position = 0
        self.file_bytes_read = 0

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; fewer at the end of the file alone."""
        data = bytearray(size)
        found = self.read_into(memoryview(data), offset)
        return bytes(memoryview(data)[:found])

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset` on; how many bytes there were."""
        with self._lock:
            found = 0
            try:
                raw, file = self._at(offset)
                while found < len(buffer) and (read := file.readinto(buffer[found:])):
                    found += read
            except GZIP_ERRORS as error:
                self.close()
                raise broken_gzip(self._path, error) from error
            self._position += found
            self.file_bytes_read = raw.tell()
            return found

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        with self._lock:
            if self._open is not None:
                self._finalizer()
                self._open = None

    def _at(self, offset: int) -> tuple[BufferedReader, BufferedReader | gzip.GzipFile]:
        is_zipped = self._path.suffix == ".gz"
        if self._open is None or (is_zipped and offset < self._position):
            self.close()
            raw = self._path.open("rb")
            file = gzip.GzipFile(fileobj=raw) if is_zipped else raw
            self._open, self._position = (raw, file), 0
            self._finalizer = weakref.finalize(self, raw.close)
        if offset != self._position:
            # In a gzip file this reads forward.
            self._open[1].seek(offset)
            self._position = offset
        return self._open

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._path,)


def _is_blank(data: Bytes) -> bool:
    """Whether there is nothing but line ends."""
    return re.fullmatch(rb"[\r\n]*", data) is not None


def _lines_in(data: Bytes) -> int:
    """How many lines end in the bytes."""
    content = np.frombuffer(data, np.uint8)
    # In pieces, for the comparison makes an array as large; bytes.count is slower on short lines.
    pieces = range(0, len(content), _COUNTED_BYTES)
    feeds = sum(
        int(np.count_nonzero(content[start : start + _COUNTED_BYTES] == _LINE_FEED))
        for start in pieces
    )
    if b"\r" not in data:
        return feeds
    return feeds + data.count(b"\r") - data.count(b"\r\n")
