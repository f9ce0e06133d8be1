"""How large a table would be in memory and in a pack, and how long making the pack would take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rightbatch.byte_sizes import bytes_text
from rightbatch.data.arrow_columns import plain_column
from rightbatch.data.csv_chunks import CsvChunks, NeedsRewriting
from rightbatch.data.csv_files import CsvFile
from rightbatch.data.options import OpenOptions
from rightbatch.data.parquet_chunks import ParquetTableChunks
from rightbatch.data.parquet_files import ParquetFile
from rightbatch.data.table_file import TableFile
from rightbatch.data.tables import choose_columns, table_files
from rightbatch.errors import DataError
from rightbatch.free_memory import Limit

_SAMPLE_BYTES = 1 << 22
# Reading files whole holds Arrow's table, its columns joined, and the arrays: measured, 2.5 to 3
# times the table.
_TABLES_IN_MEMORY = 3
# The survey, and the pass that converts.
_PASSES = 2
# No file takes more memory than this for each of its bytes, so that small ones need no sample.
_MOST_EXPANSION = 32
_MOST_COMPRESSION = 1000


@dataclass(frozen=True, kw_only=True)
class ConversionEstimate:
    """What converting files into a pack takes; `is_rough` where a first piece is all that was read.

    `memory_bytes` is what opening them in memory would take instead, None where nobody asked.

    >>> print(ConversionEstimate(files=2, file_bytes=3_000_000_000, rows=40_000_000,
    ...     packed_bytes=5_200_000_000, seconds=95.0, memory_bytes=None, is_rough=True))
    2 files of 3.00 GB: about 40,000,000 rows, 5.20 GB packed, about 2 minutes
    """

    files: int
    file_bytes: int
    rows: int
    packed_bytes: int
    seconds: float
    memory_bytes: int | None
    is_rough: bool

    def __str__(self) -> str:
        about = "about " if self.is_rough else ""
        return (
            f"{files_text(self.files, self.file_bytes)}: {about}{self.rows:,} rows, "
            f"{bytes_text(self.packed_bytes)} packed, {duration_text(self.seconds)}"
        )


class _Sample(NamedTuple):
    """The first piece of a file: its rows, and the bytes that they were in the file and outside."""

    table: Any
    file_bytes: int
    unzipped_bytes: int
    seconds: float


def estimate_conversion(
    paths: Sequence[Path],
    options: OpenOptions,
    *,
    source: str,
    sample_bytes: int = _SAMPLE_BYTES,
) -> ConversionEstimate:
    """A rough estimate, from the sizes of the files and a piece of the first one.

    Rows are taken to go on as they begin. Raises DataError where the files are no tables.
    """
    # The other files' names of columns are compared once they are read.
    files = table_files(paths[:1], options, source=source)
    chosen = choose_columns(files, options, source=source)
    _sample(files[0], chosen.columns, sample_bytes)  # the first read loads Arrow's parts
    sample = _sample(files[0], chosen.columns, sample_bytes)
    file_bytes = sum(path.stat().st_size for path in paths)
    times = file_bytes / max(1, sample.file_bytes)
    is_zipped = sample.unzipped_bytes > sample.file_bytes
    held = _TABLES_IN_MEMORY * sample.table.nbytes + sample.unzipped_bytes * is_zipped
    rows = int(times * sample.table.num_rows)
    return ConversionEstimate(
        files=len(paths),
        file_bytes=file_bytes,
        rows=rows,
        packed_bytes=rows * _row_bytes(sample.table, chosen.target, options),
        seconds=times * sample.seconds * _PASSES,
        memory_bytes=int(times * held),
        is_rough=True,
    )


def refuse_too_large(
    paths: Sequence[Path], options: OpenOptions, *, source: str, free: Limit | None
) -> None:
    """Raise DataError, before they are read, where the files would take more memory than is free.

    Small files are let through by their sizes alone.
    """
    if free is None or _most_memory(paths) <= free.bytes:
        return
    estimate = estimate_conversion(paths, options, source=source, sample_bytes=1 << 20)
    if estimate.memory_bytes is None or estimate.memory_bytes <= free.bytes:
        return
    raise DataError(
        f"{source}: {files_text(estimate.files, estimate.file_bytes)} would take about "
        f"{bytes_text(estimate.memory_bytes)} in memory, and {bytes_text(free.bytes)} is "
        f"{free.source}. Convert once into a pack, which is read from disk as it is needed: "
        f"rightbatch pack {source!r} FOLDER, or rb.pack in Python, with the same options. It "
        f"would hold about {bytes_text(estimate.packed_bytes)} and take "
        f"{duration_text(estimate.seconds)} to make."
    )


def files_text(files: int, file_bytes: int) -> str:
    """How many files there are, and how large they are together."""
    return f"{files:,} file{'s' if files != 1 else ''} of {bytes_text(file_bytes)}"


def duration_text(seconds: float) -> str:
    """A duration to the precision that an estimate has.

    >>> duration_text(0.2), duration_text(80), duration_text(1e4)
    ('about a second', 'about 80 seconds', 'about 2.8 hours')
    """
    if seconds < 1.5:
        return "about a second"
    if seconds < 90:
        return f"about {seconds:.0f} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"


def _most_memory(paths: Sequence[Path]) -> int:
    return sum(
        path.stat().st_size
        * _MOST_EXPANSION
        * (1 if path.suffix.lower() not in (".gz", ".parquet", ".pq") else _MOST_COMPRESSION)
        for path in paths
    )


def _sample(file: TableFile, columns: Sequence[str], sample_bytes: int) -> _Sample:
    started = time.perf_counter()
    if isinstance(file, ParquetFile):
        reader = ParquetTableChunks(file, sample_bytes)
        table, share = reader.first_piece(columns)
        _convert(table, file.label)
        size = max(1, int(file.path.stat().st_size * share))
        return _Sample(table, size, size, time.perf_counter() - started)
    assert isinstance(file, CsvFile)
    chunks = CsvChunks(file, sample_bytes)
    while True:
        try:
            piece, data = next(chunks.pieces())
            table = chunks.read(piece, data, columns).table.rename_columns(list(columns))
            break
        except NeedsRewriting:
            chunks.rewrites = True
    _convert(table, file.label)
    size = piece.offset + len(data)
    zipped = chunks.file_bytes_read if file.path.suffix == ".gz" else size
    return _Sample(table, zipped, size, time.perf_counter() - started)


def _convert(table: Any, label: str) -> None:
    """What converting costs beside reading: texts are counted, gaps looked for."""
    import pyarrow as pa

    for name, column in zip(table.column_names, table.columns, strict=True):
        if not pa.types.is_binary(column.type):
            values = plain_column(column, f"{label}: column {name!r}").values
            if pa.types.is_string(values.type):
                values.combine_chunks().dictionary_encode()
            elif not values.null_count:
                values.to_numpy()


def _row_bytes(table: Any, target: str | None, options: OpenOptions) -> int:
    """The bytes of a row as arrays, texts as many as the sample has."""
    import pyarrow as pa

    total = 0
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_binary(column.type):
            continue
        values = plain_column(column, name).values
        if pa.types.is_null(values.type):
            total += 8
        elif not pa.types.is_string(values.type):
            total += np.dtype(values.type.to_pandas_dtype()).itemsize
        elif name == target:
            total += 8
        else:
            count = max(1, len(values.unique()))
            is_one_hot = options.categories == "one-hot"
            total += count if is_one_hot else np.min_scalar_type(-count).itemsize
    return total
