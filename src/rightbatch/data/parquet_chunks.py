"""A Parquet file read chunk by chunk: a row group at a time, or pieces of a large one."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from threading import RLock
from typing import Any, NamedTuple

from rightbatch.data.arrow_columns import plain_column
from rightbatch.data.parquet_files import ParquetFile, damaged, open_parquet
from rightbatch.data.table_survey import (
    Chunk,
    FileSurvey,
    Question,
    TableChunks,
    Watcher,
    examine,
)

_BUFFER_BYTES = 1 << 20


class ParquetPiece(NamedTuple):
    """Where a chunk lies: its row group, and its rows within that."""

    row_group: int
    start: int
    stop: int
    rows_before: int


class ParquetTableChunks(TableChunks):
    """A Parquet file in chunks of about `chunk_bytes`, or of a row group where that is smaller."""

    def __init__(self, file: ParquetFile, chunk_bytes: int) -> None:
        self.file: ParquetFile = file
        self._chunk_bytes = chunk_bytes
        self._reader: Any = None
        self._group: _RowGroup | None = None
        self._lock = RLock()

    def survey(self, question: Question, watch: Watcher | None = None) -> FileSurvey:
        """What the chunks hold; DataError where a page is damaged."""
        import pyarrow as pa

        texts: dict[str, set[str]] = {name: set() for name in question.columns}
        types = dict(zip(question.columns, self._types(question.columns), strict=True))
        file_bytes = self.file.path.stat().st_size
        for name, kind in types.items():
            # Types that nothing is learned from are refused before anything is read.
            plain_column(pa.chunked_array([], type=kind), f"{self.file.label}: column {name!r}")
        chunks = []
        pieces = list(self._pieces(question.columns))
        for done, piece in enumerate(pieces, 1):
            table = self._read(piece, question.columns)
            plain = {name: plain_column(table.column(name), name) for name in question.columns}
            chunks.append(examine(piece, plain, question, (), texts))
            if watch is not None:
                watch(file_bytes * done // len(pieces), file_bytes)
        return FileSurvey(chunks=chunks, types=types, texts=texts)

    def read(self, chunk: Chunk, columns: Sequence[str]) -> Any:
        """The chosen columns of a chunk; DataError where a page is damaged."""
        return self._read(chunk.piece, columns)

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        with self._lock:
            if self._reader is not None:
                self._finalizer()
                self._reader = self._group = None

    def locate(self, chunk: Chunk, row: int) -> str:
        """The file and the row, the first being row 1."""
        return self.file.locate(chunk.piece.rows_before + row)

    def first_piece(self, columns: Sequence[str]) -> tuple[Any, float]:
        """The chosen columns of the first chunk, and its share of the file's rows."""
        piece = next(self._pieces(columns))
        return self._read(piece, columns), piece.stop / self._opened().metadata.num_rows

    def _types(self, columns: Sequence[str]) -> list[Any]:
        schema = self._opened().schema_arrow
        return [schema.field(name).type for name in columns]

    def _pieces(self, columns: Sequence[str]) -> Iterator[ParquetPiece]:
        metadata = self._opened().metadata
        rows_before = 0
        for group in range(metadata.num_row_groups):
            described = metadata.row_group(group)
            of_columns = [described.column(index) for index in range(described.num_columns)]
            size = sum(
                part.total_uncompressed_size
                for part in of_columns
                if part.path_in_schema.split(".")[0] in columns or part.path_in_schema in columns
            )
            rows = described.num_rows
            # Dictionaries make pages smaller than their values, of which each takes a byte or more.
            row_bytes = max(size / max(rows, 1), 8 * len(columns))
            step = max(1, int(self._chunk_bytes / row_bytes))
            for start in range(0, rows, step):
                stop = min(start + step, rows)
                yield ParquetPiece(group, start, stop, rows_before + start)
            rows_before += rows

    def _read(self, piece: ParquetPiece, columns: Sequence[str]) -> Any:
        import pyarrow as pa

        try:
            # Threads take turns: a row group is read forward.
            with self._lock:
                group = self._group
                if group is None or not group.comes_to(piece, columns):
                    group = self._group = _RowGroup(self._opened(), piece, columns)
                table = group.take(piece).select(list(columns))
            # A damaged page may decode into texts that are none.
            table.validate(full=True)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            self._group = None
            raise damaged(self.file.path, error) from error
        return table

    def _opened(self) -> Any:
        if self._reader is None:
            # A buffer lets a large row group be read piece by piece.
            self._reader = open_parquet(self.file.path, pre_buffer=False, buffer_size=_BUFFER_BYTES)
            self._finalizer = weakref.finalize(self, self._reader.close)
        return self._reader

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self._chunk_bytes)


class _RowGroup:
    """A row group that is read forward: an open iterator's batches, and what is left of one."""

    def __init__(self, file: Any, piece: ParquetPiece, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self._row_group = piece.row_group
        self._position = 0
        self._left: list[Any] = []
        self._batches = file.iter_batches(
            batch_size=piece.stop - piece.start,
            row_groups=[piece.row_group],
            columns=list(columns),
        )

    def comes_to(self, piece: ParquetPiece, columns: Sequence[str]) -> bool:
        """Whether going on leads to the piece."""
        is_same = self._row_group == piece.row_group and self._columns == tuple(columns)
        return is_same and self._position <= piece.start

    def take(self, piece: ParquetPiece) -> Any:
        """The rows of the piece, as a table; those before it are passed over."""
        import pyarrow as pa

        self._rows(piece.start - self._position)
        return pa.Table.from_batches(self._rows(piece.stop - piece.start))

    def _rows(self, count: int) -> list[Any]:
        found = []
        self._position += count
        while count:
            batch = self._left.pop() if self._left else next(self._batches, None)
            if batch is None:
                raise OSError("a row group has fewer rows than its file says")
            found.append(batch.slice(0, count))
            if batch.num_rows > count:
                self._left.append(batch.slice(count))
            count -= found[-1].num_rows
        return found
