"""Parquet files and Arrow frames as tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rightbatch.data.remote_path import is_remote
from rightbatch.data.table_file import TableFile
from rightbatch.errors import DataError


class ParquetFile(TableFile):
    """A Parquet file; only the chosen columns are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.label = str(path)
        with open_parquet(path) as file:
            rows = file.metadata.num_rows
            self._index = _index_names(file.schema_arrow.metadata or {})
            every = tuple(file.schema_arrow.names)
        _refuse_duplicates(self.label, every)
        if not rows:
            raise DataError(f"{path} has columns and zero rows; there is nothing to learn from.")
        self.names, self.notes = _without_index(every, self._index)

    def read(self, columns: Sequence[str]) -> Any:
        """The chosen columns; DataError where a page is damaged."""
        import pyarrow as pa

        with open_parquet(self.path) as file:
            try:
                table = file.read(columns=list(columns)).select(list(columns))
                # A damaged page may decode into texts that are none.
                table.validate(full=True)
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                raise damaged(self.path, error) from error
        return table

    def locate(self, row: int) -> str:
        """The file and the row, the first being row 1."""
        return f"{self.path}, row {row + 1} (the first is row 1)"


class Frame(TableFile):
    """A frame that streams Arrow: pandas, polars, pyarrow and whoever else speaks the protocol."""

    def __init__(self, table: Any, *, label: str = "the frame") -> None:
        self.label = label
        every = tuple(table.column_names)
        _refuse_duplicates(self.label, every)
        self.names, self.notes = _without_index(every, _index_names(table.schema.metadata or {}))
        if not self.names:
            raise DataError(f"{label} has no columns; a data set needs one at the least.")
        if not table.num_rows:
            raise DataError(f"{label} has zero rows; there is nothing to make batches of.")
        self._table = table

    def read(self, columns: Sequence[str]) -> Any:
        """The chosen columns."""
        return self._table.select(list(columns))

    def locate(self, row: int) -> str:
        """The row, counting from 0 as in Python."""
        return f"row {row} (counting from 0)"


def arrow_table(thing: Any) -> Any | None:
    """A frame's columns as a pyarrow.Table; None where `thing` is a single column.

    Raises DataError where the stream breaks.
    """
    import pyarrow as pa

    try:
        reader = pa.RecordBatchReader.from_stream(thing)
    except (pa.ArrowInvalid, TypeError) as error:
        if hasattr(thing, "columns"):
            raise DataError(
                f"The frame cannot be handed over as Arrow: {_first_line(error)}. A column of "
                "mixed objects needs one type first, as with frame.astype({'column': str})."
            ) from error
        return None  # not a stream of structs: a series
    try:
        return reader.read_all()
    except pa.ArrowException as error:
        raise DataError(f"The frame cannot be read: {_first_line(error)}.") from error


def open_parquet(path: Path, **options: Any) -> Any:
    """The file as a pyarrow.parquet.ParquetFile with `options`; DataError where it is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; a Parquet file has a footer at least.")
    try:
        if is_remote(path):
            # Column chunks that lie near one another are fetched together.
            return pq.ParquetFile(path.open("rb"), **{"pre_buffer": True, **options})
        return pq.ParquetFile(path, **options)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is no readable Parquet file: {_first_line(error)}. It may be cut off, or "
            "another format."
        ) from error


def damaged(path: Path, error: Exception) -> DataError:
    """The error that a page of a Parquet file can not be read."""
    return DataError(f"{path} is damaged: {_first_line(error)}. Fetch or write it anew.")


def _index_names(metadata: Mapping[bytes, bytes]) -> set[str]:
    """The columns that hold a frame's row labels, which are no data."""
    try:
        index = json.loads(metadata.get(b"pandas", b"{}")).get("index_columns", [])
    except (ValueError, AttributeError):
        return set()
    return {name for name in index if isinstance(name, str)}


def _without_index(
    names: tuple[str, ...], index: set[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    left_out = [
        name for name in names if name in index or re.fullmatch(r"__index_level_\d+__", name)
    ]
    if not left_out or len(left_out) == len(names):
        return names, ()
    kept = tuple(name for name in names if name not in left_out)
    return kept, (f"Row labels left out: {', '.join(left_out)}.",)


def _refuse_duplicates(label: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{label} has two columns called {twice[0]!r}; rename one, so that names tell columns "
            "apart."
        )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
