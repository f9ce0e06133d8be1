"""Samples that somebody else's code makes, one by one, and the columns that they come to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays
from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError

Sample = dict[str, Any]
"""A sample's values by column name."""


def value_names(count: int) -> list[str]:
    """What the values of a tuple are called.

    >>> value_names(2), value_names(3)
    (['x', 'y'], ['column_0', 'column_1', 'column_2'])
    """
    return {1: ["x"], 2: ["x", "y"]}.get(count) or [f"column_{place}" for place in range(count)]


def named_values(sample: Any) -> Sample:
    """A sample's values by column name.

    >>> named_values((0.5, 1)), named_values([1, 2, 3])
    ({'x': 0.5, 'y': 1}, {'x': [1, 2, 3]})
    """
    if isinstance(sample, Mapping):
        return {str(name): value for name, value in sample.items()}
    if isinstance(sample, tuple):
        names = getattr(sample, "_fields", None) or value_names(len(sample))
        return dict(zip(names, sample, strict=True))
    # A list of numbers is an array; torch's own collation would make a column of each.
    if isinstance(sample, list) and not all(isinstance(value, (int, float)) for value in sample):
        return dict(zip(value_names(len(sample)), sample, strict=True))
    return {"x": sample}


def as_array(value: Any, where: str) -> NDArray[Any]:
    """A value as an array of numbers; texts and bytes as their bytes.

    Raises DataError, naming the place `where`, for anything else.
    """
    if isinstance(value, str):
        return np.frombuffer(value.encode(), np.uint8)
    if isinstance(value, (bytes, bytearray)):
        return np.frombuffer(value, np.uint8)
    if hasattr(value, "requires_grad") and hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: {type(value).__name__} is no array: {error}.") from error
    if array.dtype.kind not in "buif":
        raise DataError(
            f"{where}: the value is {type(value).__name__} ({array.dtype}); valid are tensors, "
            "arrays, numbers, texts and bytes. Convert it in the data set, as with a transform to "
            "a tensor."
        )
    return array


def digest(value: Any) -> str:
    """A short text that changes with dtype, shape and content of a value."""
    array = np.ascontiguousarray(as_array(value, ""))
    described = repr((array.dtype.str, array.shape)).encode()
    return hashlib.blake2b(described + array.tobytes(), digest_size=16).hexdigest()


def collate(
    samples: Sequence[Any], columns: Sequence[Column], rows: Sequence[int], label: str
) -> Arrays:
    """The samples of `rows` as one array (or `Ragged`) a column.

    Raises DataError, naming `label` and row, where a sample lacks a column or has another kind or
    shape of values in it.

    >>> collate([(1, 2.0), (3, 4.0)], [Column(name="y", dtype=np.dtype("float64"))], [0, 1], "d")
    {'y': array([2., 4.])}
    """
    by_name = _transposed(samples)
    if by_name is None or any(column.name not in by_name for column in columns):
        named = [
            _complete(sample, columns, row, label)
            for sample, row in zip(samples, rows, strict=True)
        ]
        by_name = {column.name: [each[column.name] for each in named] for column in columns}
    return {
        column.name: _gather(column, by_name.get(column.name, ()), rows, label)
        for column in columns
    }


def _transposed(samples: Sequence[Any]) -> dict[str, Sequence[Any]] | None:
    """The values by column, where all samples are plain tuples of one length.

    Naming the values sample by sample takes as long as torch's own collation.
    """
    kinds, lengths = set(map(type, samples)), set()
    if kinds == {tuple}:
        lengths = set(map(len, samples))
    if len(lengths) != 1:
        return None
    return dict(zip(value_names(lengths.pop()), zip(*samples, strict=True), strict=True))


def _complete(sample: Any, columns: Sequence[Column], row: int, label: str) -> Sample:
    values = named_values(sample)
    for column in columns:
        if column.name not in values:
            raise DataError(
                f"{label}, row {row:,} (counting from 0): the sample has "
                f"{', '.join(values) or 'nothing'}, and lacks {column.name!r}; every sample "
                "needs the same parts."
            )
    return values


def _gather(column: Column, values: Sequence[Any], rows: Sequence[int], label: str) -> Any:
    stacked = _stacked(column, values)
    if stacked is not None and _has_codes(column, stacked):
        return stacked
    arrays = [
        _checked(column, value, f"{label}, row {row:,} (counting from 0), {column.name!r}")
        for value, row in zip(values, rows, strict=True)
    ]
    if not column.is_ragged:
        out = np.empty((len(rows), *column.shape), column.dtype)
        for place, array in enumerate(arrays):
            out[place] = array
        return out
    flat = np.concatenate([*arrays, np.empty((0, *column.shape), column.dtype)])
    offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
    return Ragged(flat, offsets, is_text=column.is_text)


def _stacked(column: Column, values: Sequence[Any]) -> NDArray[Any] | None:
    """The values stacked in one call, where they are plainly of one kind, the column's.

    Where they are not, somebody has to look at each to say which.
    """
    if column.is_ragged or not values:
        return None
    kinds = set(map(type, values))
    kind = kinds.pop()
    if kinds:
        return None
    if kind in (int, float, bool):
        made = np.array(values)
        return made if made.dtype == column.dtype and made.ndim == 1 else None
    if kind is np.ndarray:
        wanted = {(column.dtype, column.shape)}
        is_alike = {(value.dtype, value.shape) for value in values} == wanted
        return np.stack(values) if is_alike else None
    if kind.__module__ == "torch" and kind.__name__ == "Tensor":
        return _stacked_tensors(column, values)
    return None


def _has_codes(column: Column, codes: NDArray[Any]) -> bool:
    """Whether every code has its category, where the column has any."""
    categories = column.categories
    return categories is None or bool(codes.min() >= 0 and codes.max() < len(categories))


def _stacked_tensors(column: Column, values: Sequence[Any]) -> NDArray[Any] | None:
    import torch

    first = values[0]
    is_alike = (
        {(value.dtype, value.shape) for value in values} == {(first.dtype, column.shape)}
        and first.device.type == "cpu"
        and first.layout is torch.strided
    )
    if not is_alike:
        return None
    with torch.no_grad():
        made: NDArray[Any] = torch.stack(list(values)).numpy()
    return made if made.dtype == column.dtype else None


def _checked(column: Column, value: Any, where: str) -> NDArray[Any]:
    """One value of a column as an array; DataError where it is of another kind than others."""
    array = as_array(value, where)
    shape = array.shape[1:] if column.is_ragged else array.shape
    is_same_kind = isinstance(value, str) == column.is_text and (
        array.ndim == len(column.shape) + column.is_ragged
    )
    # Nothing is lost where whole numbers stand among floats.
    fits = np.can_cast(array.dtype, column.dtype, "safe")
    if not is_same_kind or shape != column.shape or not fits:
        remedy = (
            "give all samples one shape: resize, crop or pad them in the data set"
            if shape != column.shape
            else "give all samples one kind of values"
        )
        raise DataError(
            f"{where}: the value is {array.dtype} of shape {array.shape}, and of the samples "
            f"looked at first it is {column.kind}; {remedy}."
        )
    if column.categories is not None and not 0 <= int(array) < len(column.categories):
        raise DataError(
            f"{where}: the class {int(array)} is none of the {len(column.categories)} in the "
            "data set's classes."
        )
    return array
