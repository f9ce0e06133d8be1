"""Tables larger than memory: CSV and Parquet files as a Dataset that is read chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.arrow_columns import PlainColumn, plain_column
from rightbatch.data.bad_rows import (
    BadRowsOfFile,
    rows_kept,
    settle_bad_rows,
    too_many_bad_rows,
)
from rightbatch.data.conversion_estimate import ConversionEstimate
from rightbatch.data.csv_files import CsvFile
from rightbatch.data.csv_survey import CsvTableChunks
from rightbatch.data.dataset import Arrays, Dataset, check_span, valid_rows
from rightbatch.data.fingerprint import ReadColumn, fingerprint_columns
from rightbatch.data.missing import Fill, fill_column, settle_drop, settle_fills
from rightbatch.data.options import Choice, OpenOptions
from rightbatch.data.parquet_chunks import ParquetTableChunks
from rightbatch.data.parquet_files import ParquetFile
from rightbatch.data.remote_path import is_remote
from rightbatch.data.source_signature import FileMark, mark_of, refuse_changed, source_signature
from rightbatch.data.table_file import TableFile
from rightbatch.data.table_recipes import as_arrays, describe, join_kinds, recipes_for, recipes_of
from rightbatch.data.table_survey import (
    Chunk,
    FileSurvey,
    Question,
    TableChunks,
    Watcher,
    gaps_of,
    locate_row,
)
from rightbatch.data.tables import (
    choose_columns,
    date_notes,
    file_notes,
    infinite_target,
    table_files,
)
from rightbatch.errors import DataError

CHUNK_BYTES = 32 << 20


class _Place(NamedTuple):
    """A chunk and the file that it is read from."""

    reader: TableChunks
    file_index: int
    chunk: Chunk


def open_table_chunks(
    paths: Sequence[Path],
    options: OpenOptions,
    *,
    source: str,
    chunk_bytes: int = CHUNK_BYTES,
    watch: Watcher | None = None,
) -> ChunkedTable:
    r"""The rows of all files as `open_tables` gives them, of which a few chunks are in memory.

    All files are read once, to find types, missing values and texts; `watch` is called after each
    chunk with the bytes that were read and those of all files. Memory holds a few times
    `chunk_bytes`, and the distinct texts of text columns.

    Raises DataError where `open_tables` does.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "t.csv")
    ...     _ = path.write_text("x,y\n1,a\n2,b\n3,a\n")
    ...     data = open_table_chunks([path], OpenOptions(target="y"), source="t", chunk_bytes=8)
    ...     data.span(1, 3)["x"].tolist(), data.column("y").categories
    ([2, 3], ('a', 'b'))
    """
    started = time.perf_counter()
    marks = [mark_of(path) for path in paths]
    try:
        files = table_files(paths, options, source=source)
    except PermissionError as error:
        raise DataError(
            f"{error.filename} cannot be read: {error.strerror}. Look at its rights."
        ) from error
    name = options.name or source
    chosen = choose_columns(files, options, source=source)
    question = Question(
        columns=chosen.columns,
        target=chosen.target,
        drops=options.missing.kind == "drop",
        most_bad=options.max_bad if isinstance(options.max_bad, int) else None,
    )
    readers = [_chunks_of(file, chunk_bytes) for file in files]
    surveys = []
    bad: list[BadRowsOfFile] = []
    all_bytes = sum(mark.bytes for mark in marks)
    before = 0
    for reader, mark in zip(readers, marks, strict=True):
        surveys.append(reader.survey(question, _shifted(watch, before, all_bytes)))
        reader.close()  # one file at a time is open, however many there are
        before += mark.bytes
        bad.append(surveys[-1].bad_rows(reader.file.label))
        # A share is known at the end alone; a count that is spent ends the survey.
        if question.most_bad is not None and sum(len(file.bad) for file in bad) > question.most_bad:
            raise too_many_bad_rows(name, bad, options.max_bad)
    refuse_changed(paths, marks)
    return ChunkedTable(
        name=name,
        readers=readers,
        surveys=surveys,
        chosen=chosen,
        options=options,
        notes=[*file_notes(files), *settle_bad_rows(name, bad, options.max_bad)],
        paths=tuple(paths),
        marks=marks,
        survey_seconds=time.perf_counter() - started,
    )


class ChunkedTable(Dataset):
    """A table that stays in its files: chunks of it are read as they are asked for.

    Spans that follow one another are served by reading forward. Any other works as well; the
    chunks that it touches are read for it. `source_rows` is made when it is asked for, and takes
    8 bytes a row; `source_rows_of` gives those of a span.

    It is made by `open_table_chunks`, and raises DataError where a file is not the one that was
    opened any more.
    """

    def __init__(
        self,
        *,
        name: str,
        readers: Sequence[TableChunks],
        surveys: Sequence[FileSurvey],
        chosen: Choice,
        options: OpenOptions,
        notes: Sequence[str],
        paths: tuple[Path, ...],
        marks: Sequence[FileMark],
        survey_seconds: float,
    ) -> None:
        self._places = [
            _Place(reader, index, chunk)
            for index, (reader, survey) in enumerate(zip(readers, surveys, strict=True))
            for chunk in survey.chunks
        ]
        self._reader: TableChunks | None = None
        self._marks = tuple(marks)
        self._options = options
        self.survey_seconds = survey_seconds
        joined = join_kinds(chosen.columns, readers, surveys)
        if chosen.target is not None:
            self._refuse_infinite_target(name, chosen.target, joined[chosen.target].values.type)
        fills, settled = self._settle_missing(name, chosen, joined)
        self._recipes = recipes_of(chosen, options, joined, fills, surveys)
        self._starts = np.cumsum([0, *(place.chunk.kept_rows for place in self._places)])
        self._kept: dict[tuple[int, str | None], Arrays] = {}
        dates = [column for column, plain in joined.items() if plain.kind == "dates"]
        super().__init__(
            name=name,
            columns=describe(self._recipes),
            target=chosen.target,
            notes=[*notes, *date_notes(dates), *settled],
        )
        self.remote_objects = tuple(path.remote_object() for path in paths if is_remote(path))
        self.files = () if self.remote_objects else paths
        self._paths = paths
        self.source_signature = source_signature(paths, options)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def span(self, start: int, stop: int) -> Arrays:
        """The samples from `start` up to `stop`: views of a chunk, or copies of several.

        Raises IndexError past either end, DataError where a file has changed.
        """
        check_span(start, stop, len(self))
        return self._span(start, stop, None)

    def rows(self, indices: ArrayLike) -> Arrays:
        """Copies of the samples at `indices`; each chunk that holds some is read once.

        Raises IndexError past either end, DataError where a file has changed.
        """
        rows = valid_rows(indices, len(self))
        found = {column.name: np.empty(len(rows), dtype=column.dtype) for column in self.columns}
        chunks = self._chunk_of(rows)
        for index in np.unique(chunks):
            here = chunks == index
            arrays = self._arrays(int(index), None)
            for name, array in arrays.items():
                found[name][here] = array[rows[here] - self._starts[index]]
        return found

    @property
    def source_rows(self) -> NDArray[np.int64] | None:
        """The samples' row numbers in the files, (N,) int64; None where they are the samples'."""
        if not self.drops_rows:
            return None
        return self.source_rows_of(0, len(self))

    @source_rows.setter
    def source_rows(self, _: NDArray[np.int64] | None) -> None:
        raise AttributeError("the source rows of a table in chunks are those of its files")

    def source_rows_of(self, start: int, stop: int) -> NDArray[np.int64]:
        """The row numbers in the files, (stop - start,) int64, of the samples of a span.

        Rows count through all files in their order, without headers, those left out included.
        """
        check_span(start, stop, len(self))
        found = np.empty(stop - start, np.int64)
        for index, here, out in self._parts(start, stop):
            chunk = self._places[index].chunk
            numbers = rows_kept(chunk.rows + len(chunk.bad_rows), chunk.bad_rows)
            mask = chunk.mask()
            numbers = numbers if mask is None else numbers[mask]
            found[out] = numbers[here] + self._source_starts[index]
        return found

    @cached_property
    def fingerprint(self) -> str:
        """That of the same columns in memory; every column is read once more, alone, for it."""
        arrays = {
            column.name: ReadColumn(column, len(self), partial(self._column_span, column.name))
            for column in self.columns
        }
        return fingerprint_columns(self.columns, arrays)

    @property
    def estimate(self) -> ConversionEstimate:
        """What converting takes, now that rows are counted: the second pass is like the first."""
        return ConversionEstimate(
            files=len(self._paths),
            file_bytes=self.file_bytes,
            rows=len(self),
            packed_bytes=self.packed_bytes,
            seconds=self.survey_seconds,
            memory_bytes=None,
            is_rough=False,
        )

    @property
    def file_bytes(self) -> int:
        """The bytes of all files, zipped where they are."""
        return sum(mark.bytes for mark in self._marks)

    @property
    def packed_bytes(self) -> int:
        """The bytes that all columns take as arrays."""
        return len(self) * sum(column.dtype.itemsize for column in self.columns)

    def _span(self, start: int, stop: int, only: str | None) -> Arrays:
        parts = list(self._parts(start, stop))
        if len(parts) == 1:
            index, here, _ = parts[0]
            return {name: array[here] for name, array in self._arrays(index, only).items()}
        found = {
            column.name: np.empty(stop - start, dtype=column.dtype)
            for column in self.columns
            if only is None or column.name == only
        }
        for index, here, out in parts:
            for name, array in self._arrays(index, only).items():
                if name in found:
                    found[name][out] = array[here]
        return found

    def _column_span(self, name: str, start: int, stop: int) -> NDArray[Any]:
        values: NDArray[Any] = self._span(start, stop, name)[name]
        return values

    def _parts(self, start: int, stop: int) -> list[tuple[int, slice, slice]]:
        """The chunks that a span touches: where in the chunk, and where in the span."""
        if start == stop:
            return []
        first, last = self._chunk_of(np.array([start, stop - 1]))
        parts = []
        for index in range(int(first), int(last) + 1):
            begin, end = int(self._starts[index]), int(self._starts[index + 1])
            low, high = max(start, begin), min(stop, end)
            if low < high:
                parts.append(
                    (index, slice(low - begin, high - begin), slice(low - start, high - start))
                )
        return parts

    def _chunk_of(self, rows: NDArray[np.int64]) -> NDArray[np.intp]:
        return np.searchsorted(self._starts, rows, side="right") - 1

    def _arrays(self, index: int, only: str | None) -> Arrays:
        """The columns of a chunk; with `only`, those that are made of its column alone."""
        key = (index, only)
        arrays = self._kept.get(key)
        if arrays is None:
            # One is enough for whoever goes forward, and is let go before the next is made.
            self._kept.clear()
            arrays = self._kept[key] = self._read(index, only)
        return arrays

    def _read(self, index: int, only: str | None) -> Arrays:
        import pyarrow as pa

        place = self._places[index]
        path = self._paths[place.file_index]
        refuse_changed([path], [self._marks[place.file_index]])
        if self._reader is not place.reader:
            if self._reader is not None:
                self._reader.close()
            self._reader = place.reader
        recipes = self._recipes if only is None else recipes_for(self._recipes, only)
        table = place.reader.read(place.chunk, list(recipes))
        mask = place.chunk.mask()
        arrays: Arrays = {}
        columns = dict(zip(recipes, table.columns, strict=True))
        del table
        for name, recipe in recipes.items():
            # Each is let go once converted, to halve the peak of memory.
            values = plain_column(columns.pop(name), name).values
            if values.type != recipe.type:
                values = values.cast(recipe.type, safe=False)
            if mask is not None:
                values = values.filter(pa.array(mask))
            if recipe.fill is not None:
                values = fill_column(values, recipe.fill)
            arrays.update(as_arrays(name, values, recipe))
        return arrays

    @property
    def drops_rows(self) -> bool:
        """Whether rows of the files were left out."""
        return any(place.chunk.bad_rows or place.chunk.kept is not None for place in self._places)

    @cached_property
    def _source_starts(self) -> NDArray[np.int64]:
        sizes = [place.chunk.rows + len(place.chunk.bad_rows) for place in self._places]
        return np.cumsum([0, *sizes])

    def _settle_missing(
        self, name: str, chosen: Choice, joined: Mapping[str, PlainColumn]
    ) -> tuple[dict[str, Fill], list[str]]:
        """What fills each column's gaps, and the note of what was filled or dropped."""
        chunks = [place.chunk for place in self._places]
        types = {column: plain.values.type for column, plain in joined.items()}
        gaps = gaps_of(chunks, types)
        if not gaps:
            return {}, []
        if self._options.missing.kind == "drop":
            length, kept = sum(c.rows for c in chunks), sum(c.kept_rows for c in chunks)
            return {}, [settle_drop(name, gaps, length=length, kept=kept)]
        return settle_fills(
            self._options.missing, gaps, source=name, target=chosen.target, locate=self._locate
        )

    def _locate(self, row: int) -> str:
        """Where row `row` of those that were read stands."""
        for place in self._places:
            if row < place.chunk.rows:
                return locate_row(place.reader, [place.chunk], row)
            row -= place.chunk.rows
        raise IndexError(f"there is no row {row}")

    def _refuse_infinite_target(self, name: str, target: str, kind: Any) -> None:
        import pyarrow as pa

        if pa.types.is_floating(kind):
            for place in self._places:
                if place.chunk.infinite is not None:
                    where = locate_row(place.reader, [place.chunk], place.chunk.infinite)
                    raise infinite_target(name, target, where)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_kept": {}}


def _chunks_of(file: TableFile, chunk_bytes: int) -> TableChunks:
    if isinstance(file, CsvFile):
        return CsvTableChunks(file, chunk_bytes)
    assert isinstance(file, ParquetFile)
    return ParquetTableChunks(file, chunk_bytes)


def _shifted(watch: Watcher | None, before: int, all_bytes: int) -> Watcher | None:
    """`watch`, told of one file among others."""
    if watch is None:
        return None
    return lambda done, _: watch(before + done, all_bytes)
