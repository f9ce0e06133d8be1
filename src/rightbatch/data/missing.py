"""The policy for missing values: refuse them, drop their rows, or fill them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

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


class Gaps(NamedTuple):
    """What is missing of one column: how many values, the first one's row, and the Arrow type."""

    values: int
    first_row: int
    type: Any


class Fill(NamedTuple):
    """The value that stands for missing ones, and the Arrow type that the column takes for it."""

    value: object
    type: Any


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
    gaps = {
        name: Gaps(column.null_count, int(_null_rows(column)[0]), column.type)
        for name, column in columns.items()
        if column.null_count
    }
    if not gaps:
        return dict(columns), []
    if policy.kind != "drop":
        fills, notes = settle_fills(policy, gaps, source=source, target=target, locate=locate)
        filled = {name: fill_column(columns[name], fill) for name, fill in fills.items()}
        return {**columns, **filled}, notes
    import pyarrow as pa

    length = len(next(iter(columns.values())))
    kept = np.ones(length, dtype=bool)
    for name in gaps:
        kept[_null_rows(columns[name])] = False
    note = settle_drop(source, gaps, length=length, kept=int(kept.sum()))
    mask = pa.array(kept)
    return {name: column.filter(mask) for name, column in columns.items()}, [note]


def settle_fills(
    policy: MissingPolicy,
    gaps: Mapping[str, Gaps],
    *,
    source: str,
    target: str | None,
    locate: Callable[[int], str],
) -> tuple[dict[str, Fill], list[str]]:
    """What fills each column that has gaps, and the note that says so.

    Raises DataError where the policy is to refuse, or the target has gaps.
    """
    if policy.kind == "refuse":
        raise _refusal(source, gaps, target, locate)
    if target is not None and target in gaps:
        raise DataError(
            f"{source}: {gaps[target].values:,} missing values in the target {target!r}, the first "
            f"at {locate(gaps[target].first_row)}. A target is never filled; use missing='drop' "
            "(--missing drop) to leave out such rows."
        )
    fills = {name: _fill(name, gap.type, policy) for name, gap in gaps.items()}
    told = ", ".join(f"{name} {gaps[name].values:,} with {fills[name].value!r}" for name in gaps)
    return fills, [f"Missing values filled: {told}."]


def settle_drop(source: str, gaps: Mapping[str, Gaps], *, length: int, kept: int) -> str:
    """The note that rows with gaps were dropped, so that `kept` of `length` are left.

    Raises DataError where none are.
    """
    by_column = ", ".join(f"{name} {gap.values:,}" for name, gap in gaps.items())
    if kept == 0:
        empty = [name for name, gap in gaps.items() if gap.values == length]
        cause = f"column {empty[0]!r} is empty throughout" if empty else f"missing: {by_column}"
        raise DataError(
            f"{source}: every row has a missing value ({cause}), so that missing='drop' leaves "
            "zero samples. Use missing='fill', or choose other columns."
        )
    return f"Dropped {length - kept:,} of {length:,} rows with missing values: {by_column}."


def fill_column(column: Any, fill: Fill) -> Any:
    """The Arrow column with `fill` in place of its nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.type != fill.type:
        column = column.cast(fill.type)
    return pc.fill_null(column, pa.scalar(fill.value).cast(fill.type))


def _refusal(
    source: str, gaps: Mapping[str, Gaps], target: str | None, locate: Callable[[int], str]
) -> DataError:
    row, column = min((gap.first_row, name) for name, gap in gaps.items())
    shown = [f"{name!r} {gap.values:,}" for name, gap in list(gaps.items())[:8]]
    more = f", and {len(gaps) - 8} more columns" if len(gaps) > 8 else ""
    return DataError(
        f"{source}: missing values by column: {', '.join(shown)}{more}. The first stands at "
        f"{locate(row)}, column {column!r}. Use missing='drop' (--missing drop) to leave out such "
        "rows, missing='fill' or 'fill:VALUE' to fill them in, or choose other columns."
        + (f" The target {target!r} can be dropped only, never filled." if target in gaps else "")
    )


def _fill(name: str, kind: Any, policy: MissingPolicy) -> Fill:
    """What fills the gaps of a column of the Arrow type `kind`."""
    import pyarrow as pa

    if pa.types.is_null(kind):
        is_number = policy.value is None or _number(policy.value) is not None
        kind = pa.float64() if is_number else pa.string()
    if pa.types.is_string(kind):
        return Fill("missing" if policy.value is None else policy.value, kind)
    if pa.types.is_boolean(kind):
        texts = {"0": False, "false": False, "1": True, "true": True}
        given = "0" if policy.value is None else policy.value.strip().lower()
        if given not in texts:
            raise OptionError(
                f"missing='{policy}' cannot fill column {name!r}, which holds true and false; "
                "give 'fill:true' or 'fill:false', or choose other columns."
            )
        return Fill(texts[given], kind)
    number = 0 if policy.value is None else _number(policy.value)
    if number is None:
        raise OptionError(
            f"missing='{policy}' cannot fill column {name!r}, which holds numbers; "
            "give a number, 'fill' alone (0 in numbers, 'missing' in texts), or choose "
            "other columns."
        )
    # A fraction, or a number out of the column's range, turns whole numbers into floats.
    fits = pa.types.is_floating(kind) or _fits(number, kind)
    return Fill(number, kind if fits else pa.float64())


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
