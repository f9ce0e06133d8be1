"""Arrow columns made plain: few kinds of values, null for missing, and on to NumPy.

Arrow has dozens of types. Here each becomes one of a few kinds, so that the files of a table can
be compared and joined, and so that what cannot be learned from is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.categories import encode_arrow_texts
from rightbatch.errors import DataError

_UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class PlainColumn(NamedTuple):
    """An Arrow chunked array in which null means missing, and the kind of its values.

    The kind is "numbers", "true/false", "text", "dates" (float64 seconds since 1970-01-01),
    "times" (float64 seconds) or "nothing" (no value at all).
    """

    kind: str
    values: Any


def plain_column(column: Any, described: str) -> PlainColumn:
    """The Arrow chunked array `column` as one of the kinds; DataError for nested types."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types = pa.types
    kind = column.type
    if types.is_dictionary(kind):
        return plain_column(column.cast(kind.value_type), described)
    if types.is_null(kind):
        return PlainColumn("nothing", column)
    if types.is_boolean(kind):
        return PlainColumn("true/false", column)
    if types.is_integer(kind):
        return PlainColumn("numbers", column)
    if types.is_decimal(kind):
        return PlainColumn("numbers", column.cast(pa.float64()))
    if types.is_floating(kind):
        if types.is_float16(kind):
            column = column.cast(pa.float32())  # Arrow computes little with half precision
        # if_else rather than replace_with_mask: the mask has nulls where values are missing.
        is_nan = pc.fill_null(pc.is_nan(column), False)
        if pc.any(is_nan).as_py():
            column = pc.if_else(is_nan, pa.scalar(None, column.type), column)
        return PlainColumn("numbers", column)
    if types.is_string(kind) or types.is_large_string(kind) or str(kind) == "string_view":
        return PlainColumn("text", column.cast(pa.string()))
    if types.is_timestamp(kind) or types.is_date(kind):
        # Dates of any kind go through timestamps, which count from 1970-01-01 in UTC.
        if types.is_date(kind):
            column = column.cast(pa.timestamp("s" if types.is_date32(kind) else "ms"))
        return PlainColumn("dates", _in_seconds(column, pa.int64()))
    if types.is_time(kind) or types.is_duration(kind):
        return PlainColumn("times", _in_seconds(column, pa.int32() if _is_time32(kind) else None))
    valid = "numbers, true/false, text, dates and times"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        raise DataError(f"{described} holds raw bytes ({kind}); valid are {valid}.")
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        raise DataError(
            f"{described} holds a list a row ({kind}), and valid in a table are {valid}, one value "
            "a row. Leave it out by choosing other columns (--columns), or open sequences by "
            'columns, rb.open({"ids": rb.Ragged.from_list(table["ids"].to_pylist()), …}), or as '
            "a Hugging Face Dataset; rb.pack makes of either what the command line opens"
        )
    raise DataError(
        f"{described} has the type {kind}; valid are {valid}, one value a row. "
        "Leave it out by choosing other columns (--columns), or split it into plain ones first."
    )


def join_columns(
    name: str, parts: Sequence[PlainColumn], labels: Sequence[str], remedy: str
) -> PlainColumn:
    """One column of several files' columns: whole numbers give way to floats, nothing to all.

    `labels` name the files. Raises DataError, naming two files, where kinds contradict.
    """
    import pyarrow as pa

    kinds = [part.kind for part in parts]
    known = [kind for kind in kinds if kind != "nothing"]
    if not known:
        return PlainColumn("nothing", pa.chunked_array([c for p in parts for c in p.values.chunks]))
    if len(set(known)) > 1:
        first = known[0]
        other = next(kind for kind in known if kind != first)
        raise DataError(
            f"Column {name!r} holds {first} in {labels[kinds.index(first)]} and {other} in "
            f"{labels[kinds.index(other)]}; a column needs one kind of values. {remedy}"
        )
    types = {part.values.type for part in parts if part.kind != "nothing"}
    joined = types.pop()
    if types:
        numpy_types = [kind.to_pandas_dtype() for kind in (joined, *types)]
        joined = pa.from_numpy_dtype(np.result_type(*numpy_types))
    cast = [
        part.values if part.values.type == joined else part.values.cast(joined, safe=False)
        for part in parts
    ]
    chunks = [chunk for part in cast for chunk in part.chunks]
    return PlainColumn(known[0], pa.chunked_array(chunks, type=joined))


def read_series(thing: Any, described: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """The values of one Arrow column, and the texts of its codes where it holds text.

    Raises DataError, naming the row, where a value is missing.
    """
    import pyarrow as pa

    column = plain_column(pa.chunked_array(thing), described)
    if column.values.null_count:
        row = int(np.flatnonzero(column.values.is_null().to_numpy())[0])
        raise DataError(
            f"{described} has {column.values.null_count:,} missing values, the first in row {row} "
            "(counting from 0); fill or drop them first, or open the whole frame with missing=."
        )
    if len(column.values) == 0:
        raise DataError(f"{described} has zero samples; there is nothing to make batches of.")
    if column.kind == "text":
        return encode_arrow_texts(column.values)
    return column.values.to_numpy(), None


def _in_seconds(column: Any, through: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    per_second = _UNITS_PER_SECOND[column.type.unit]
    counts = column.cast(through or pa.int64())
    seconds = counts.cast(pa.float64(), safe=False)
    return seconds if per_second == 1 else pc.divide(seconds, float(per_second))


def _is_time32(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_time32(kind))
