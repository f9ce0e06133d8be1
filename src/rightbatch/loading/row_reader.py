"""Rows of a data set read into memory that is given: from files without their maps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.dataset import Arrays, Dataset
from rightbatch.data.file_region import FileRegion, Region, RowsFile
from rightbatch.data.ragged_region import RaggedReader, RaggedRegion
from rightbatch.data.row_bytes import row_bytes
from rightbatch.loading.fields import Field

Buffers = list[NDArray[Any] | None]
"""One array a field, (rows, …); None for a field whose values lie in memory already."""

# Rows that lie apart by less are read in one go: a disk gives pages of 4 KiB and likes many.
_GAP_BYTES = 32 << 10
# The rows in between are another rank's to read: as many bytes as a page has come anyway.
_GAP_BYTES_OF_RANKS = 4 << 10
# One read at most. Blocks of 512 KiB and more come at the speed of the disk; a thread's own memory
# for what it can not read straight into place is as large.
_PIECE_BYTES = 1 << 20
# A process may open a thousand files or so, and others need some.
_MOST_OPEN_FILES = 256


@dataclass(frozen=True)
class Piece:
    """Rows `first` up to `last`, counted among sorted rows, that one read fetches."""

    first: int
    last: int


class RowReader:
    """Reads the rows of some fields, from files where the columns lie in files.

    A field whose one column is an array in memory needs no reading and has no buffer. Nor has a
    ragged one: its entries are gathered from memory or, batch by batch, through the map, for which
    they are read ahead. With `is_shared`, by ranks, hardly a row is read that was not asked for.
    """

    def __init__(self, data: Dataset, fields: Sequence[Field], *, is_shared: bool = False) -> None:
        self._data = data
        self._gap_bytes = _GAP_BYTES_OF_RANKS if is_shared else _GAP_BYTES
        self._fields = tuple(fields)
        self._arrays: dict[str, Any] = {}
        self._regions: dict[str, FileRegion] = {}
        # Ragged columns in files are read through their maps; their files may be cut off as well.
        self._ragged: dict[str, RaggedRegion] = {}
        for field in self._fields:
            for name in field.names:
                region, ragged = data.region(name), data.ragged_region(name)
                if region is not None:
                    self._regions[name] = region
                elif ragged is not None:
                    self._ragged[name] = ragged
                # What lies in a file is read from there; a remote column would be fetched whole.
                if ragged is not None:
                    self._arrays[name] = ragged.ragged
                elif region is None:
                    self._arrays[name] = field.array if field.column.is_ragged else data.array(name)
        # Columns that the data set alone can read, by its own `rows` and `span`.
        self._by_data = [name for name, array in self._arrays.items() if array is None]

    @property
    def is_needed(self) -> bool:
        """Whether any column has to be read at all, rather than lying in memory."""
        if any(self._data.column(name).is_ragged for name in self._by_data):
            return False  # the data set alone can read them, and windows have no place for them
        return bool(self._ragged or self._regions or self._by_data)

    @property
    def sample_bytes(self) -> int:
        """The bytes that a sample takes in the buffers, and in the maps of ragged columns."""
        return sum(map(self._column_bytes, self._ragged)) + sum(
            field.column.dtype.itemsize * math.prod(field.column.shape)
            for field in self._fields
            if not self._is_in_memory(field)
        )

    @property
    def stored_bytes(self) -> int:
        """The bytes of one row in the columns that are read, all of them together.

        Of rows that overlap in their file, those that each one adds.
        """
        return max(1, sum(map(self._stored_bytes, [*self._read_columns, *self._ragged])))

    @property
    def resident_bytes(self) -> int:
        """The bytes that a sample takes where all of them are in memory, mapped or stacked."""
        stacked = sum(
            field.column.dtype.itemsize * math.prod(field.column.shape)
            for field in self._fields
            if field.is_stacked
        )
        return self.stored_bytes + stacked

    @property
    def column_count(self) -> int:
        """How many columns are read, each with a read of its own."""
        return len(self._read_columns) + len(self._ragged)

    def cut_off(self) -> Region | None:
        """The file that has lost most rows since the data were opened; None where all are whole."""
        everything: list[Region] = [*self._regions.values(), *self._ragged.values()]
        regions = [region for region in everything if region.whole_rows < region.length]
        return min(regions, key=lambda region: region.whole_rows, default=None)

    def new_buffers(self, samples: int) -> Buffers:
        """Memory for so many samples of each field that is read."""
        return [
            None
            if self._is_in_memory(field)
            else np.empty((samples, *field.column.shape), field.column.dtype)
            for field in self._fields
        ]

    def arrays(self, buffers: Buffers) -> list[tuple[Any, bool]]:
        """What to gather each field from, and whether that is by place in the buffers."""
        found: list[tuple[Any, bool]] = []
        for field, buffer in zip(self._fields, buffers, strict=True):
            if buffer is None:
                array = self._arrays[field.names[0]]
                assert array is not None  # a field without a buffer lies in memory or in a map
                found.append((array, False))
            else:
                found.append((buffer, True))
        return found

    def pieces(self, rows: NDArray[np.int64]) -> Iterator[Piece]:
        """How ascending `rows` are cut into reads."""
        names = [*self._read_columns, *self._ragged]
        widest = max((self._column_bytes(name) for name in names), default=1)
        gap = max(1, self._gap_bytes // widest)
        most = max(1, _PIECE_BYTES // widest)
        starts = [0, *(np.flatnonzero(np.diff(rows) > gap) + 1).tolist(), len(rows)]
        for begin, end in itertools.pairwise(starts):
            first = begin
            while first < end:
                last = end
                if rows[end - 1] - rows[first] >= most:
                    last = first + int(np.searchsorted(rows[first:end], rows[first] + most))
                yield Piece(first, last)
                first = last

    @contextmanager
    def opened(self) -> Iterator[OpenRows]:
        """The files, open for as long as the context lasts; DataError where one is gone."""
        files: dict[str, RowsFile] = {}
        ragged: list[RaggedReader] = []
        try:
            keeps_open = len(self._regions) + len(self._ragged) <= _MOST_OPEN_FILES
            for name, region in self._regions.items():
                files[name] = region.open(keeps_open=keeps_open)
            for stored in self._ragged.values():
                ragged.append(RaggedReader(stored, keeps_open=keeps_open))
            yield OpenRows(self._data, self._fields, self._arrays, files, self._by_data, ragged)
        finally:
            for file in files.values():
                file.close()
            for reader in ragged:
                reader.close()

    @property
    def _read_columns(self) -> list[str]:
        return [
            name for field in self._fields if not self._is_in_memory(field) for name in field.names
        ]

    def _is_in_memory(self, field: Field) -> bool:
        """Whether it needs no buffer; a ragged one has none, also where it is in a map."""
        name = field.names[0]
        is_array = self._arrays.get(name) is not None and name not in self._regions
        return is_array and not field.is_stacked

    def _column_bytes(self, name: str) -> int:
        return max(1, row_bytes(self._data, self._data.column(name)))

    def _stored_bytes(self, name: str) -> int:
        size, region = self._column_bytes(name), self._regions.get(name)
        return size if region is None else min(size, region.stride_bytes or size)


class OpenRows:
    """Rows of fields whose files are open; any number of threads may read at once."""

    def __init__(
        self,
        data: Dataset,
        fields: tuple[Field, ...],
        arrays: dict[str, NDArray[Any] | None],
        files: dict[str, RowsFile],
        by_data: list[str],
        ragged: Sequence[RaggedReader] = (),
    ) -> None:
        self._data = data
        self._fields = fields
        self._arrays = arrays
        self._files = files
        self._by_data = by_data
        self._ragged = ragged

    def read(self, rows: NDArray[np.int64], outs: Buffers) -> None:
        """Read ascending `rows`, which lie near one another, into `outs`, (len(rows), …) a field.

        Raises DataError where a file ends too early or can not be read, and what the data set's
        own reading raises.
        """
        begin, end = int(rows[0]), int(rows[-1]) + 1
        for reader in self._ragged:
            reader.read_ahead(begin, end)
        is_run = end - begin == len(rows)
        columns: Arrays = {}
        if self._by_data:
            columns = self._data.span(begin, end) if is_run else self._data.rows(rows)
        for field, out in zip(self._fields, outs, strict=True):
            if out is None:
                continue
            for place, name in enumerate(field.names):
                target = out[:, place] if field.is_stacked else out
                if name in columns:
                    target[...] = columns[name]
                elif name in self._files:
                    self._read_file(name, rows, target, is_run=is_run)
                else:
                    array = self._arrays[name]
                    assert array is not None  # else the data set has read it
                    target[...] = array[begin:end] if is_run else array[rows]

    def _read_file(
        self, name: str, rows: NDArray[np.int64], out: NDArray[Any], *, is_run: bool
    ) -> None:
        """Read a column's rows from its file: straight into place where they lie as they should."""
        file = self._files[name]
        begin, end = int(rows[0]), int(rows[-1]) + 1
        is_straight = out.flags.c_contiguous and out.dtype == file.region.dtype
        if is_run and is_straight:
            file.read(begin, out)
            return
        span = np.empty((end - begin, *file.region.shape), file.region.dtype)
        file.read(begin, span)
        if is_run:
            out[...] = span
        elif is_straight:
            span.take(rows - begin, 0, out, "clip")
        else:
            out[...] = span.take(rows - begin, 0)
