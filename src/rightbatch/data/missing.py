"""The policy for missing values: refuse them, drop their rows, or fill them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import DataError, OptionError, did_you_mean

KINDS = ("refuse", "drop", "fill")

# What stands for "no value" in a text file, besides nothing at all.
MARKERS = (
    *("", "?", "NA", "N/A", "n/a", "na", "#N/A", "<NA>"),
    *("null", "NULL", "Null", "NaN", "nan", "NAN", "None", "none", "NONE"),
)


@dataclass(frozen=True, kw_only=True)
class MissingPolicy:
    """What becomes of missing values; `value` is the constant of "fill:VALUE".

    >>> MissingPolicy.parse("fill:0.5")
    MissingPolicy(kind='fill', value='0.5')
    """

    kind: str = "refuse"
    value: str | None = None

    @classmethod
    def parse(cls, text: str) -> MissingPolicy:
        """Read "refuse", "drop", "fill" or "fill:VALUE"; OptionError for anything else."""
        kind, colon, value = str(text).partition(":")
        if kind not in KINDS or (colon and kind != "fill"):
            raise OptionError(
                f"missing={text!r} is not valid; give 'refuse', 'drop' (the rows), 'fill' (with 0, "
                "in text columns with 'missing') or 'fill:VALUE' (with a constant)."
                f"{did_you_mean(kind, KINDS)}"
            )
        return cls(kind=kind, value=value if colon else None)

    def __str__(self) -> str:
        return self.kind if self.value is None else f"{self.kind}:{self.value}"


def apply_missing_policy(
    policy: MissingPolicy,
    columns: Mapping[str, Any],
    *,
    source: str,
    target: str | None,
    locate: Callable[[int], str],
) -> tuple[dict[str, Any], list[str]]:
    """The Arrow columns without missing values, and notes of what was dropped or filled.

    `columns` are Arrow chunked arrays of equal length in which null means missing; `locate`
    says where a row stands, in words.

    Raises DataError where the policy refuses, or nothing would be left. A missing target is
    never filled: a label that nobody gave teaches nothing.
    """
    counts = {name: column.null_count for name, column in columns.items() if column.null_count}
    if not counts:
        return dict(columns), []
    if policy.kind == "refuse":
        raise _refusal(source, columns, counts, target, locate)
    if policy.kind == "drop":
        return _drop(source, columns, counts)
    if target in counts:
        row = int(_null_rows(columns[target])[0])
        raise DataError(
            f"{source}: {counts[target]:,} missing values in the target {target!r}, the first at "
            f"{locate(row)}. A target is never filled; use missing='drop' (--missing drop) to "
            "leave out such rows."
        )
    filled = dict(columns)
    fills = []
    for name, count in counts.items():
        filled[name], value = _fill(name, columns[name], policy)
        fills.append(f"{name} {count:,} with {value!r}")
    return filled, [f"Missing values filled: {', '.join(fills)}."]


def _refusal(
    source: str,
    columns: Mapping[str, Any],
    counts: Mapping[str, int],
    target: str | None,
    locate: Callable[[int], str],
) -> DataError:
    firsts = {name: int(_null_rows(columns[name])[0]) for name in counts}
    row, column = min((row, name) for name, row in firsts.items())
    shown = [f"{name!r} {count:,}" for name, count in list(counts.items())[:8]]
    more = f", and {len(counts) - 8} more columns" if len(counts) > 8 else ""
    return DataError(
        f"{source}: missing values by column: {', '.join(shown)}{more}. The first stands at "
        f"{locate(row)}, column {column!r}. Use missing='drop' (--missing drop) to leave out such "
        "rows, missing='fill' or 'fill:VALUE' to fill them in, or choose other columns."
        + (f" The target {target!r} can be dropped only, never filled." if target in counts else "")
    )


def _drop(
    source: str, columns: Mapping[str, Any], counts: Mapping[str, int]
) -> tuple[dict[str, Any], list[str]]:
    import pyarrow as pa

    length = len(next(iter(columns.values())))
    kept = np.ones(length, dtype=bool)
    for name in counts:
        kept[_null_rows(columns[name])] = False
    by_column = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    dropped = length - int(kept.sum())
    if dropped == length:
        empty = [name for name, count in counts.items() if count == length]
        cause = f"column {empty[0]!r} is empty throughout" if empty else f"missing: {by_column}"
        raise DataError(
            f"{source}: every row has a missing value ({cause}), so that missing='drop' leaves "
            "zero samples. Use missing='fill', or choose other columns."
        )
    mask = pa.array(kept)
    note = f"Dropped {dropped:,} of {length:,} rows with missing values: {by_column}."
    return {name: column.filter(mask) for name, column in columns.items()}, [note]


def _fill(name: str, column: Any, policy: MissingPolicy) -> tuple[Any, object]:
    """The column with its nulls filled, and the value that fills them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_null(kind):
        is_number = policy.value is None or _number(policy.value) is not None
        kind = pa.float64() if is_number else pa.string()
        column = column.cast(kind)
    if pa.types.is_string(kind):
        value: object = "missing" if policy.value is None else policy.value
    elif pa.types.is_boolean(kind):
        texts = {"0": False, "false": False, "1": True, "true": True}
        given = "0" if policy.value is None else policy.value.strip().lower()
        if given not in texts:
            raise OptionError(
                f"missing='{policy}' cannot fill column {name!r}, which holds true and false; "
                "give 'fill:true' or 'fill:false', or choose other columns."
            )
        value = texts[given]
    else:
        number = 0 if policy.value is None else _number(policy.value)
        if number is None:
            raise OptionError(
                f"missing='{policy}' cannot fill column {name!r}, which holds numbers; "
                "give a number, 'fill' alone (0 in numbers, 'missing' in texts), or choose "
                "other columns."
            )
        # A fraction, or a number out of the column's range, turns whole numbers into floats.
        fits = pa.types.is_floating(kind) or _fits(number, kind)
        column = column if fits else column.cast(pa.float64())
        value = number
    return pc.fill_null(column, pa.scalar(value).cast(column.type)), value


def _number(text: str) -> int | float | None:
    """The finite number that `text` writes; None where it writes none."""
    for read in (int, float):
        try:
            number = read(text)
        except ValueError:
            continue
        return number if np.isfinite(number) else None
    return None


def _fits(number: float, kind: Any) -> bool:
    limits = np.iinfo(kind.to_pandas_dtype())
    return isinstance(number, int) and limits.min <= number <= limits.max


def _null_rows(column: Any) -> NDArray[np.intp]:
    return np.flatnonzero(column.is_null().to_numpy())
