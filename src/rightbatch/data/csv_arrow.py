"""CSV bytes to Arrow columns, and what Arrow would have inferred behind spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rightbatch.data.missing import MARKERS

# Big enough for most rows; a row that is longer is read again in one block.
_BLOCK_BYTES = 2**22
_MOST_BLOCK_BYTES = 2**31 - 1


def read_arrow(
    buffer: Any,
    positions: Sequence[int],
    *,
    width: int,
    delimiter: str,
    has_quotes: bool,
    types: Sequence[Any] | None = None,
    skip_ragged: bool = False,
) -> tuple[Any, int]:
    """The columns at `positions` of the CSV rows in `buffer`, as a pyarrow.Table.

    Their types are inferred from all rows unless `types` gives one for each; markers of missing
    values are null. With `skip_ragged`, rows that have not `width` fields are left out: the second
    value says how many.

    Raises pyarrow.ArrowInvalid where a row or a value does not fit.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names = [f"f{position}" for position in range(width)]
    chosen = [names[position] for position in positions]
    # Arrow calls from several threads, and a list grows safely under them all.
    skipped: list[None] = []

    def skip(_: Any) -> str:
        skipped.append(None)
        return "skip"

    parse = arrow_csv.ParseOptions(
        delimiter=delimiter,
        newlines_in_values=has_quotes,
        invalid_row_handler=skip if skip_ragged else None,
    )
    convert = arrow_csv.ConvertOptions(
        include_columns=chosen,
        column_types=None if types is None else dict(zip(chosen, types, strict=True)),
        null_values=[*MARKERS, *(f" {marker}" for marker in MARKERS if marker)],
        strings_can_be_null=True,
    )
    for block_bytes in (_BLOCK_BYTES, _MOST_BLOCK_BYTES):
        read = arrow_csv.ReadOptions(
            column_names=names, block_size=min(block_bytes, buffer.size + 1)
        )
        skipped.clear()
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(buffer),
                read_options=read,
                parse_options=parse,
                convert_options=convert,
            )
            return table, len(skipped)
        except pa.ArrowInvalid as error:
            is_too_long = "straddling" in str(error)
            if not is_too_long or block_bytes == _MOST_BLOCK_BYTES:
                raise
    raise AssertionError("the last block size either reads or raises")


def trimmed_texts(column: Any) -> tuple[Any, bool]:
    """The texts without spaces around them, markers of missing as null, and whether any had some.

    >>> import pyarrow as pa
    >>> trimmed, had_spaces = trimmed_texts(pa.chunked_array([["x", " NA ", None]]))
    >>> trimmed.to_pylist(), had_spaces
    (['x', None, None], True)
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(column)
    if not pc.any(pc.not_equal(column, trimmed)).as_py():
        return column, False
    is_marker = pc.is_in(trimmed, value_set=pa.array(MARKERS))
    return pc.if_else(is_marker, pa.scalar(None, pa.string()), trimmed), True


def inferred_type(column: Any) -> Any:
    """The Arrow type of the values that the texts stand for, spaces gone; text where it is none."""
    import pyarrow as pa

    if column.null_count == len(column):
        return pa.null()
    present = column.drop_null()
    for kind in (pa.int64(), pa.float64(), pa.timestamp("s"), pa.timestamp("us")):
        # Arrow is slow to fail, so one value is tried before all of them.
        if casts(present.slice(0, 1), kind) and casts(present, kind):
            return kind
    flags = ("true", "false")
    if present[0].as_py().lower() not in flags:
        return pa.string()
    values = {text.lower() for text in present.unique().to_pylist()}
    return pa.bool_() if values <= set(flags) else pa.string()


def casts(column: Any, kind: Any) -> bool:
    """Whether every text of the column reads as a value of `kind`."""
    import pyarrow as pa

    try:
        column.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def cast_texts(column: Any, kind: Any) -> Any:
    """The texts as values of the type that `inferred_type` gave for them."""
    import pyarrow as pa

    if pa.types.is_null(kind):
        return pa.chunked_array([pa.nulls(len(column))])
    return column if column.type == kind else column.cast(kind)
