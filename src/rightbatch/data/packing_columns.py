"""The columns of a pack before anything is written, and whether what is to be written fits them."""

from __future__ import annotations

from rightbatch.data.block_checksums import rows_of_block
from rightbatch.data.dataset import Arrays, Dataset
from rightbatch.data.packed_array import describe_array, file_names
from rightbatch.data.packed_column import PackedColumn
from rightbatch.data.packed_ragged import describe_offsets, describe_values
from rightbatch.data.ragged import Ragged
from rightbatch.data.row_bytes import row_bytes
from rightbatch.errors import DataError


def column_sizes(data: Dataset) -> list[int]:
    """The bytes of one sample, column by column; of a ragged one on average."""
    return [row_bytes(data, column) for column in data.columns]


def draft_columns(data: Dataset) -> tuple[PackedColumn, ...]:
    """The columns without checksums; DataError where one can not be packed."""
    for column in data.columns:
        if column.dtype.kind not in "buifcSU" or 0 in (column.dtype.itemsize, *column.shape):
            raise DataError(
                f"{data.name}: column {column.name!r} is {column.dtype} of shape {column.shape}, "
                "which can not be packed; valid are numbers and fixed-width text. Convert it, or "
                "leave it out: columns=…"
            )
    length = len(data)
    block_rows = rows_of_block(column_sizes(data))
    stems = [
        stem
        for column in data.columns
        for stem in (
            (f"{column.name}.values", f"{column.name}.offsets")
            if column.is_ragged
            else (column.name,)
        )
    ]
    files = iter(file_names(stems))
    drafts = []
    for column in data.columns:
        if column.is_ragged:
            draft = PackedColumn(
                name=column.name,
                categories=None,
                array=describe_values(
                    next(files), column.dtype, column.shape, length, block_rows=block_rows
                ),
                offsets=describe_offsets(next(files), length, block_rows=block_rows),
                is_text=column.is_text,
            )
        else:
            draft = PackedColumn(
                name=column.name,
                categories=column.categories,
                array=describe_array(
                    next(files),
                    column.dtype,
                    (length, *column.shape),
                    block_rows=block_rows,
                    checksums=(),
                ),
                is_token=column.is_token,
            )
        drafts.append(draft)
    return tuple(drafts)


def check_arrays(data: Dataset, arrays: Arrays, start: int, rows: int) -> None:
    """Refuse values that are not as the column describes them."""
    for column in data.columns:
        values = arrays[column.name]
        if column.is_ragged:
            found, promised = repr(values), f"a Ragged of {rows:,} entries of {column.kind}"
            is_kept = isinstance(values, Ragged) and (
                (len(values), values.dtype, values.shape) == (rows, column.dtype, column.shape)
            )
        else:
            found = f"{values.dtype} of shape {values.shape}"
            promised = f"{column.dtype} of shape {(rows, *column.shape)}"
            is_kept = found == promised
        if not is_kept:
            raise DataError(
                f"{data.name}: rows {start:,} up to {start + rows:,} of column {column.name!r} "
                f"are {found}, where {promised} was promised; the source does not keep its promise "
                "(rightbatch.testing.check_dataset tells more)"
            )
