"""A data set whose columns are NumPy arrays, in memory or memory-mapped."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset, check_span, valid_rows
from rightbatch.data.file_region import FileRegion, cut_off, drop_pages
from rightbatch.data.fingerprint import fingerprint_columns
from rightbatch.data.mapped_file import received, to_send
from rightbatch.data.ragged import Ragged
from rightbatch.data.ragged_region import RaggedRegion
from rightbatch.errors import DataError

# Looking at a file takes a microsecond or two.
_MOST_LOOKED_AT = 64


class ArrayDataset(Dataset):
    """Columns held as arrays that share their first axis, the samples, or as a `Ragged`.

    `categories` maps a column to the texts its integer codes stand for; `tokens` are the columns
    of codes of a vocabulary.

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
        tokens: Collection[str] = (),
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
                    is_token=column in tokens,
                )
                for column, array in arrays.items()
            ],
            target=target,
            own_parts=own_parts,
            notes=notes,
        )
        # Found now: later another file may stand in the place of the one that is mapped.
        self._regions = self._find_regions()

    def __len__(self) -> int:
        return self._length

    def rows(self, indices: ArrayLike) -> Arrays:
        """Copies of the samples at `indices`, one array a column; IndexError past either end."""
        rows = valid_rows(indices, self._length)
        if self._regions and len(rows):
            self.refuse_cut_off(int(rows.max()) + 1)
        return {name: _gather(array, rows) for name, array in self._arrays.items()}

    def span(self, start: int, stop: int) -> Arrays:
        """Views of the samples from `start` up to `stop`; IndexError past either end."""
        check_span(start, stop, self._length)
        self.refuse_cut_off(stop)
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
        self.refuse_cut_off(self._length)
        return fingerprint_columns(self.columns, self._arrays, after_piece=self.release_pages)

    def region(self, name: str) -> FileRegion | None:
        """Where the rows of a column lie in a file, to be read without a map; None in memory."""
        found = self._regions.get(self.column(name).name)
        return found if isinstance(found, FileRegion) else None

    def ragged_region(self, name: str) -> RaggedRegion | None:
        """Where values and offsets of a ragged column lie in files; None where not in files."""
        found = self._regions.get(self.column(name).name)
        return found if isinstance(found, RaggedRegion) else None

    def refuse_cut_off(self, stop: int) -> None:
        """Raise DataError where a mapped file was cut off since, and lacks samples before `stop`.

        Of more than 64 files none is looked at: it would take longer than reading a batch.
        """
        if len(self._regions) > _MOST_LOOKED_AT:
            return
        for region in self._regions.values():
            whole = region.whole_rows
            if whole < min(stop, region.length):
                raise cut_off(region, whole)

    def release_pages(self) -> None:
        """Let the process forget what it has read through memory maps."""
        for name in self._regions:
            values = self._arrays[name]
            ragged = [values.values, values.offsets] if isinstance(values, Ragged) else [values]
            for array in ragged:
                drop_pages(array)

    def _find_regions(self) -> dict[str, FileRegion | RaggedRegion]:
        """Where the columns lie that are in files."""
        found = {
            name: super(ArrayDataset, self).region(name)
            or super(ArrayDataset, self).ragged_region(name)
            for name in self._arrays
        }
        return {name: region for name, region in found.items() if region is not None}

    def __getstate__(self) -> dict[str, Any]:
        # Values in memory travel; of those in files the way there, and they are mapped again.
        sent = {
            name: to_send(values, inode=getattr(self._regions.get(name), "inode", None))
            for name, values in self._arrays.items()
        }
        return {**super().__getstate__(), "_arrays": sent, "_regions": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._arrays = {name: received(sent) for name, sent in state["_arrays"].items()}
        self._regions = self._find_regions()


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
