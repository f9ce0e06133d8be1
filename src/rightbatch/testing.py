"""The laws as a kit, for people who write a source of their own."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset

_MOST_SAMPLES = 1000


def check_dataset(data: Dataset) -> None:
    """Raise AssertionError, saying which promise is broken, unless `data` keeps them all.

    A Dataset promises: a length of one or more; columns with names that differ, and the target
    among them; `span` and `rows` that give every column in its dtype and shape, agree with each
    other, refuse what lies outside with IndexError, and (`rows`) copy; `array` that agrees with
    both; codes that have their category; own parts that lie inside and do not overlap; and a
    fingerprint that is text and stays. Of long data sets a thousand samples are looked at.

    >>> from rightbatch.data import open
    >>> check_dataset(open(([[1.0], [2.0]], [0, 1])))
    """
    _check_description(data)
    _check_reading(data)
    _check_refusals(data)
    _check_copies(data)
    _check_own_parts(data)


def _promise(kept: bool, data: Dataset, broken: str) -> None:
    if not kept:
        raise AssertionError(f"{data.name}: {broken}")


def _check_description(data: Dataset) -> None:
    length = len(data)
    _promise(length > 0, data, f"its length is {length}; a data set has one sample at least")
    names = [column.name for column in data.columns]
    _promise(len(names) > 0, data, "it has no columns")
    _promise(len(set(names)) == len(names), data, f"column names repeat: {names}")
    _promise(
        data.target is None or data.target in names,
        data,
        f"its target {data.target!r} is none of its columns {names}",
    )
    first, second = data.fingerprint, data.fingerprint
    _promise(
        bool(first) and str(first) == first,
        data,
        f"its fingerprint is {first!r}; it needs to be a text that is not empty",
    )
    _promise(first == second, data, f"its fingerprint changed from {first} to {second}")


def _check_reading(data: Dataset) -> None:
    length = len(data)
    looked_at = min(length, _MOST_SAMPLES)
    spans = {(0, 0), (0, looked_at), (length - looked_at, length), (length, length)}
    spans |= {(length // 3, min(length // 3 + looked_at, length))}
    generator = np.random.default_rng(0)
    for start, stop in sorted(spans):
        inside = data.span(start, stop)
        _check_arrays(data, inside, stop - start, f"span({start}, {stop})")
        # Any order and repeats, and none at all.
        picks = [np.arange(start, stop), np.empty(0)]
        if stop > start:
            picks.append(generator.integers(start, stop, size=stop - start + 3))
        for pick in picks:
            rows = pick.astype(np.int64)
            taken = data.rows(rows)
            _check_arrays(data, taken, len(rows), f"rows of {len(rows)} indices")
            for column in data.columns:
                _promise(
                    _is_equal(taken[column.name], inside[column.name][rows - start]),
                    data,
                    f"rows(indices) differs from span({start}, {stop}) at the same indices in "
                    f"column {column.name!r}",
                )
        for column in data.columns:
            whole = data.array(column.name)
            _promise(
                whole is None
                or (len(whole) == length and _is_equal(whole[start:stop], inside[column.name])),
                data,
                f"array({column.name!r}) differs from span({start}, {stop})",
            )


def _check_arrays(data: Dataset, arrays: Arrays, rows: int, call: str) -> None:
    names = [column.name for column in data.columns]
    _promise(list(arrays) == names, data, f"{call} gives {list(arrays)}, not its columns {names}")
    for column in data.columns:
        array = arrays[column.name]
        _promise(
            isinstance(array, np.ndarray),
            data,
            f"{call} gives a {type(array).__name__} in column {column.name!r}, not an array",
        )
        expected = (rows, *column.shape)
        _promise(
            array.shape == expected and array.dtype == column.dtype,
            data,
            f"{call} gives {array.dtype} of shape {array.shape} in column {column.name!r}, where "
            f"{column.dtype} of shape {expected} is described",
        )
        _check_categories(data, column, array)


def _check_categories(data: Dataset, column: Column, array: NDArray[Any]) -> None:
    if column.categories is None or not array.size:
        return
    low, high = int(array.min()), int(array.max())
    _promise(
        low >= 0 and high < len(column.categories),
        data,
        f"column {column.name!r} has codes from {low} to {high}, and {len(column.categories)} "
        "categories",
    )


def _check_refusals(data: Dataset) -> None:
    length = len(data)
    for row in (-1, length, -length - 1):
        _check_raises(data, "rows", np.array([0, row], dtype=np.int64))
    for start, stop in ((-1, 0), (0, length + 1), (1, 0), (length + 1, length + 1)):
        _check_raises(data, "span", start, stop)


def _check_raises(data: Dataset, method: str, *arguments: Any) -> None:
    call = operator.methodcaller(method, *arguments)
    given = ", ".join(str(a.tolist()) if isinstance(a, np.ndarray) else str(a) for a in arguments)
    try:
        call(data)
    except IndexError:
        return
    except Exception as error:
        raise AssertionError(
            f"{data.name}: {method}({given}) raised {type(error).__name__}, not IndexError"
        ) from error
    raise AssertionError(f"{data.name}: {method}({given}) raised no IndexError")


def _check_copies(data: Dataset) -> None:
    rows = np.arange(min(len(data), _MOST_SAMPLES), dtype=np.int64)
    before = data.rows(rows)
    again = data.rows(rows)
    for column in data.columns:
        taken, source = before[column.name], data.array(column.name)
        _promise(
            taken.flags.writeable
            and not np.may_share_memory(taken, again[column.name])
            and (source is None or not np.may_share_memory(taken, source)),
            data,
            f"rows(indices) gives memory of the source in column {column.name!r}; it has to copy, "
            "so that a loop may write into its batch",
        )
        kept = taken.copy()
        taken[...] = taken == 0  # zeros become ones and all else zeros: every value changes
        _promise(
            _is_equal(data.rows(rows)[column.name], kept),
            data,
            f"writing into the result of rows(indices) changed column {column.name!r}",
        )


def _check_own_parts(data: Dataset) -> None:
    taken = 0
    ranges = sorted(data.own_parts.items(), key=lambda part: part[1].start)
    for name, rows in ranges:
        _promise(
            rows.step == 1 and taken <= rows.start < rows.stop <= len(data),
            data,
            f"its own part {name!r} is {rows}, which is empty, overlaps another part or passes "
            f"the end at {len(data)}",
        )
        taken = rows.stop


def _is_equal(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """Equal byte for byte, so that NaN equals itself."""
    return left.shape == right.shape and left.tobytes() == right.tobytes()
