"""`check_dataset`: what a Dataset promises, for people who write a source of their own."""

from __future__ import annotations

import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset
from rightbatch.data.ragged import Ragged, wrong_offsets

_MOST_SAMPLES = 1000
_MOST_ALONE = 20
_THREADS = 4


def check_dataset(data: Dataset) -> None:
    """Raise AssertionError, saying which promise is broken, unless `data` keeps them all.

    A Dataset promises: a length of one or more; columns with names that differ, and the target
    among them; `span` and `rows` that give every column in its dtype and shape, agree with each
    other, refuse what lies outside with IndexError, and (`rows`) copy; that a sample is the same
    whenever it is read, from whatever span, beside whatever others and by several threads at once;
    `array`, or `ragged` of a ragged column, that agrees with both; codes that have their category;
    own parts that lie inside and do not overlap; and a fingerprint that is text and stays. Of long
    data sets a few thousand samples are looked at.

    >>> from rightbatch.data import open
    >>> check_dataset(open(([[1.0], [2.0]], [0, 1])))
    """
    _check_description(data)
    _check_steadiness(data)
    _check_neighbours(data)
    _check_reading(data)
    _check_threads(data)
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


def _check_steadiness(data: Dataset) -> None:
    """The same samples twice, and what was given before, once others have been read."""
    length = len(data)
    looked_at = min(length, _MOST_SAMPLES)
    rows = np.arange(looked_at, dtype=np.int64)
    calls: dict[str, Callable[[], Arrays]] = {
        "rows(indices)": lambda: data.rows(rows),
        f"span(0, {looked_at})": lambda: data.span(0, looked_at),
    }
    for call, read in calls.items():
        first = read()
        _check_arrays(data, first, looked_at, call)
        kept = {name: values.copy() for name, values in first.items()}
        again = read()
        for name, values in kept.items():
            _promise(
                _is_equal(again[name], values),
                data,
                f"{call} gave other values the second time in column {name!r}: a sample is the "
                "same whenever it is read; randomness belongs in a function of (inputs, target, "
                "rng) that is attached by transform",
            )
        data.rows(rows[::-1])
        data.span(length - looked_at, length)
        data.span(length // 2, length // 2 + 1)
        for name, values in kept.items():
            _promise(
                _is_equal(first[name], values),
                data,
                f"what {call} gave in column {name!r} changed when other samples were read: it is "
                "a buffer that is used again, while a batch belongs to whoever holds it",
            )


def _check_neighbours(data: Dataset) -> None:
    """Samples do not depend on where a span begins, nor on what is read beside them."""
    length = len(data)
    looked_at = min(length, _MOST_SAMPLES)
    spread = np.unique(np.linspace(0, length - 1, looked_at).astype(np.int64))
    together = data.rows(spread)
    for place in np.unique(np.linspace(0, len(spread) - 1, _MOST_ALONE).astype(np.int64)).tolist():
        row = int(spread[place])
        alone = data.rows(np.array([row]))
        for column in data.columns:
            _promise(
                _is_equal(together[column.name][place : place + 1], alone[column.name]),
                data,
                f"row {row} read alone differs from row {row} among others in column "
                f"{column.name!r}: it is repeated, lost or in another place",
            )
    whole = data.span(0, looked_at)
    for piece in sorted({1, max(1, looked_at // 2), max(1, looked_at * 2 // 3)}):
        for start in range(0, looked_at, max(piece, looked_at // _MOST_ALONE)):
            stop = min(start + piece, looked_at)
            found = data.span(start, stop)
            for column in data.columns:
                _promise(
                    _is_equal(found[column.name], whole[column.name][start:stop]),
                    data,
                    f"span({start}, {stop}) differs from the same rows of span(0, {looked_at}) in "
                    f"column {column.name!r}: rows are repeated, lost or in another place",
                )


def _check_threads(data: Dataset) -> None:
    """A loader reads by several threads."""
    length = len(data)
    generator = np.random.default_rng(1)
    size = min(length, _MOST_ALONE)
    picks = [np.sort(generator.integers(0, length, size)) for _ in range(4 * _THREADS)]
    expected = [data.rows(rows) for rows in picks]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(data.rows, picks))
    for arrays, wanted in zip(found, expected, strict=True):
        for column in data.columns:
            _promise(
                _is_equal(arrays[column.name], wanted[column.name]),
                data,
                f"rows(indices) gave other values to {_THREADS} threads at once in column "
                f"{column.name!r}: keep what one call needs out of the object (a position in a "
                "file, a buffer), or hold a lock while it reads",
            )


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
            call = "ragged" if column.is_ragged else "array"
            whole = _whole(data, column)
            _promise(
                whole is None
                or (len(whole) == length and _is_equal(whole[start:stop], inside[column.name])),
                data,
                f"{call}({column.name!r}) differs from span({start}, {stop})",
            )


def _check_arrays(data: Dataset, arrays: Arrays, rows: int, call: str) -> None:
    names = [column.name for column in data.columns]
    _promise(list(arrays) == names, data, f"{call} gives {list(arrays)}, not its columns {names}")
    for column in data.columns:
        array = arrays[column.name]
        if column.is_ragged:
            _check_ragged(data, column, array, rows, call)
            continue
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


def _check_ragged(data: Dataset, column: Column, ragged: Any, rows: int, call: str) -> None:
    _promise(
        isinstance(ragged, Ragged),
        data,
        f"{call} gives {type(ragged).__name__} in the ragged column {column.name!r}, not a Ragged",
    )
    found = (len(ragged), ragged.dtype, ragged.shape, ragged.is_text)
    _promise(
        found == (rows, column.dtype, column.shape, column.is_text),
        data,
        f"{call} gives {ragged} in column {column.name!r}, where {rows} entries of {column.kind}, "
        f"{'texts' if column.is_text else 'no texts'}, are described",
    )
    problem = wrong_offsets(ragged.offsets, len(ragged.values))
    _promise(
        problem is None,
        data,
        f"{call} gives wrong offsets in column {column.name!r}: {problem}",
    )


def _whole(data: Dataset, column: Column) -> Any:
    """The whole column where the data have it at hand."""
    return data.ragged(column.name) if column.is_ragged else data.array(column.name)


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
        taken, other = _values(before[column.name]), _values(again[column.name])
        source = _values(_whole(data, column))
        _promise(
            taken.flags.writeable
            and not np.may_share_memory(taken, other)
            and (source is None or not np.may_share_memory(taken, source)),
            data,
            f"rows(indices) gives memory of the source in column {column.name!r}; it has to copy, "
            "so that a loop may write into its batch",
        )
        kept = taken.copy()
        taken[...] = taken == 0  # zeros become ones and all else zeros: every value changes
        _promise(
            _is_equal(_values(data.rows(rows)[column.name]), kept),
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


def _values(column: Any) -> Any:
    """The array that holds the values of a column."""
    return column.values if isinstance(column, Ragged) else column


def _is_equal(left: Any, right: Any) -> bool:
    """Equal byte for byte, so that NaN equals itself."""
    if isinstance(left, Ragged) or isinstance(right, Ragged):
        return isinstance(left, Ragged) and left == right
    return bool(left.shape == right.shape and left.tobytes() == right.tobytes())
