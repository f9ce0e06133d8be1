"""A data set whose columns are NumPy arrays, in memory or memory-mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset, check_span, valid_rows
from rightbatch.data.fingerprint import fingerprint_columns
from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError


class ArrayDataset(Dataset):
    """Columns held as arrays that share their first axis, the samples, or as a `Ragged`.

    `categories` maps a column to the texts its integer codes stand for.

    >>> data = ArrayDataset({"x": np.eye(3), "y": np.array([0, 1, 1])}, target="y")
    >>> len(data), data.rows(np.array([2, 0]))["y"].tolist()
    (3, [1, 0])
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any] | Ragged],
        *,
        name: str = "arrays",
        target: str | None = None,
        categories: Mapping[str, tuple[str, ...]] | None = None,
        own_parts: Mapping[str, range] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        lengths = {column: len(array) for column, array in arrays.items()}
        if not lengths:
            raise DataError(f"{name} has no columns; a data set needs one at the least.")
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{column!r} has {length:,}" for column, length in lengths.items())
            raise DataError(
                f"{name}: columns of different lengths: {found} samples. "
                "Row k of every column must belong to the same sample."
            )
        self._arrays: Arrays = dict(arrays)
        self._length = next(iter(lengths.values()))
        if self._length == 0:
            raise DataError(f"{name} has zero samples; there is nothing to make batches of.")
        super().__init__(
            name=name,
            columns=[
                _ragged_column(column, array)
                if isinstance(array, Ragged)
                else Column(
                    name=column,
                    dtype=array.dtype,
                    shape=array.shape[1:],
                    categories=(categories or {}).get(column),
                )
                for column, array in arrays.items()
            ],
            target=target,
            own_parts=own_parts,
            notes=notes,
        )

    def __len__(self) -> int:
        return self._length

    def rows(self, indices: ArrayLike) -> Arrays:
        """Copies of the samples at `indices`, one array a column; IndexError past either end."""
        rows = valid_rows(indices, self._length)
        return {name: _gather(array, rows) for name, array in self._arrays.items()}

    def span(self, start: int, stop: int) -> Arrays:
        """Views of the samples from `start` up to `stop`; IndexError past either end."""
        check_span(start, stop, self._length)
        return {name: array[start:stop] for name, array in self._arrays.items()}

    def array(self, name: str) -> NDArray[Any] | None:
        """The whole column, in memory or mapped; not in C order where its source is not.

        None of a ragged column.
        """
        values = self._arrays[name]
        return None if isinstance(values, Ragged) else values

    def ragged(self, name: str) -> Ragged | None:
        """The whole ragged column, in memory or mapped; None of another one."""
        values = self._arrays[name]
        return values if isinstance(values, Ragged) else None

    @cached_property
    def fingerprint(self) -> str:
        """BLAKE2b of names, dtypes, shapes, categories and content, computed once."""
        return fingerprint_columns(self.columns, self._arrays)


def _ragged_column(name: str, values: Ragged) -> Column:
    return Column(
        name=name,
        dtype=values.dtype,
        shape=values.shape,
        is_ragged=True,
        is_text=values.is_text,
    )


def _gather(array: NDArray[Any] | Ragged, indices: NDArray[np.int64]) -> NDArray[Any] | Ragged:
    """The chosen rows. `take` is the faster one, but it copies a strided source whole first."""
    if isinstance(array, Ragged):
        return array.take(indices)
    in_c_order = array.flags.c_contiguous and array.flags.aligned
    return array.take(indices, axis=0) if in_c_order else array[indices]
