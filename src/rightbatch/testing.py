"""The laws as a kit, for people who write a source or a loader of their own."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset
from rightbatch.data.ragged import Ragged, wrong_offsets

_MOST_SAMPLES = 1000
_MOST_STATE_BYTES = 65_536


class Resumable(Protocol):
    """What `check_resume` takes: epochs of batches with torchdata's state protocol."""

    def __iter__(self) -> Iterator[Any]:
        """The rest of the epoch that a loaded state stood in, else the next epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Where the consumer stands."""

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Stand there."""


def check_dataset(data: Dataset) -> None:
    """Raise AssertionError, saying which promise is broken, unless `data` keeps them all.

    A Dataset promises: a length of one or more; columns with names that differ, and the target
    among them; `span` and `rows` that give every column in its dtype and shape, agree with each
    other, refuse what lies outside with IndexError, and (`rows`) copy; `array`, or `ragged` of a
    ragged column, that agrees with both; codes that have their category; own parts that lie inside
    and do not overlap; and a fingerprint that is text and stays. Of long data sets a thousand
    samples are looked at.

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


def check_resume(make_batches: Callable[[], Resumable]) -> None:
    """Raise AssertionError, saying where, unless resuming is exact after any number of batches.

    `make_batches` makes an object at the start of its first epoch, the same one every time. The
    kit stops before the first batch, after the first, in the middle, before and after the last
    one; the state has to be JSON of at most 64 KiB that reading does not change; and an object
    that loads it has to give, byte for byte, the batches that were still to come, then the next
    epoch. So has the object that was stopped. All batches of two epochs are held: use few.

    >>> from rightbatch.loading.batches import Batches
    >>> check_resume(lambda: Batches(np.arange(10), 3, seed=7))
    """
    whole = make_batches()
    epochs = [[_frozen(batch) for batch in whole] for _ in range(2)]
    length = len(epochs[0])
    _hold(length > 0, "the first epoch has no batch")
    for stop in sorted({0, 1, length // 2, length - 1, length}):
        where = f"stopped after {stop} of {length} batches"
        stopped = make_batches()
        before = [_frozen(batch) for batch in islice(iter(stopped), stop)] if stop else []
        _hold(before == epochs[0][:stop], f"{where}: the batches before the stop differ")
        text = _state(stopped, where)
        _hold(len(text) <= _MOST_STATE_BYTES, f"{where}: the state takes {len(text):,} bytes")
        _hold(
            _state(stopped, where) == text,
            f"{where}: reading the state a second time gave another one",
        )
        fresh = make_batches()
        for who, batches in (("a new object", fresh), ("the stopped object", stopped)):
            batches.load_state_dict(json.loads(text))
            _hold(
                _state(batches, where) == text,
                f"{where}: {who} gives another state than the one it loaded",
            )
            expected = {"the rest of the epoch": epochs[0][stop:], "the next epoch": epochs[1]}
            if stop == length:
                del expected["the rest of the epoch"]
            for part, to_come in expected.items():
                found = [_frozen(batch) for batch in batches]
                if found != to_come:
                    difference = _difference(found, to_come)
                    raise AssertionError(f"{where}: in {part} {who} gave {difference}")


def _hold(kept: bool, broken: str) -> None:
    if not kept:
        raise AssertionError(broken)


def _state(batches: Resumable, where: str) -> str:
    state = batches.state_dict()
    try:
        return json.dumps(state)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{where}: the state is no JSON: {error}") from error


def _frozen(batch: Any) -> Any:
    """A copy of a batch that `==` compares byte for byte."""
    if isinstance(batch, dict):
        return {name: _frozen(values) for name, values in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(_frozen(values) for values in batch)
    if isinstance(batch, Ragged):
        return "ragged", batch.is_text, _frozen(batch.offsets), _frozen(batch.values)
    array = np.asarray(batch)
    return array.dtype.str, array.shape, array.tobytes()


def _difference(found: list[Any], expected: list[Any]) -> str:
    if len(found) != len(expected):
        return f"{len(found)} batches where {len(expected)} were to come"
    first = next(
        k for k, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1]
    )
    return f"another batch {first} (counting from 0)"
