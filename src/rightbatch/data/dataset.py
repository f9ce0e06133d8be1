"""The Dataset: named columns of equal length, read by row numbers or by span."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.column import Column
from rightbatch.data.file_region import FileRegion, file_region
from rightbatch.data.ragged import Ragged
from rightbatch.data.ragged_region import RaggedRegion
from rightbatch.errors import DataError, OptionError, did_you_mean


class RemoteObject(NamedTuple):
    """A remote object that data are read from: what may be shown of its URL, tag and size."""

    url: str
    tag: str
    bytes: int


Arrays = dict[str, Any]
"""Values by column: arrays, and a `Ragged` where the column is ragged."""

# Columns are left in their files because memory does not hold them all.
_MOST_STACKED_BYTES = 1 << 28


class Dataset(ABC):
    """Where samples live: named columns, a length, and two ways to read them.

    A source implements `rows`, `span`, `__len__` and `fingerprint`; `array` and `ragged` as well
    where whole columns lie in memory or in a memory map, which lets a loader gather straight from
    them.

    `target` names the column to be learned, or is None. `own_parts` maps `"train"`, `"val"` and
    `"test"` to ranges of rows where the source itself brings them (MNIST's folder has train and
    test). `notes` are sentences about what opening did to the data (rows dropped, values filled):
    nothing is lost in silence. `transforms` are attached by `transform` and run when batches are
    made.

    `files` are those that the data are read from, as far as they are known: nothing may be written
    in their place. `source_rows` (N,) int64 are the samples' row numbers in the source where rows
    were dropped when it was opened; None where they are the samples' own.

    `remote_objects` are those that the data are read from, in place of files, with their tags.

    `known_duplicates` are two arrays (D,) of int64, rows in ascending order and for each the first
    row whose inputs are equal byte for byte, where the source looked for them when it was made;
    None where nobody did. `runs_others_code` says that reading runs code which may take any time,
    so that nobody reads all samples unasked. `source_signature` names what the data are read from
    where their fingerprint would take a pass over all of them; None elsewhere.

    `overlap` is how many of the rows after it each row shares content with, as windows of a stream
    do that lie closer together than they are long: a split keeps them on one side.
    """

    files: tuple[Path, ...] = ()
    remote_objects: tuple[RemoteObject, ...] = ()
    source_rows: NDArray[np.int64] | None = None
    source_signature: str | None = None
    overlap: int = 0
    runs_others_code: bool = False
    known_duplicates: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    def __init__(
        self,
        *,
        name: str,
        columns: Sequence[Column],
        target: str | None = None,
        own_parts: Mapping[str, range] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.columns: tuple[Column, ...] = tuple(columns)
        self.target = target
        self.own_parts: Mapping[str, range] = MappingProxyType(dict(own_parts or {}))
        self.notes: tuple[str, ...] = tuple(notes)
        self.transforms: tuple[object, ...] = ()
        self._blocks: dict[tuple[tuple[str, ...], np.dtype[Any]], NDArray[Any]] = {}
        if target is not None:
            self.column(target)

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    @abstractmethod
    def rows(self, indices: ArrayLike) -> Arrays:
        """The samples at `indices` (whole numbers, any order, repeats), one array a column.

        Of a ragged column, a `Ragged`.

        Raises IndexError where an index is negative or past the end (`valid_rows` checks).
        """

    @abstractmethod
    def span(self, start: int, stop: int) -> Arrays:
        """The samples from `start` up to `stop`; views where the source allows them.

        Raises IndexError unless 0 <= start <= stop <= len(self).
        """

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A short text that changes when names, dtypes, shapes or content change."""

    def array(self, name: str) -> NDArray[Any] | None:  # noqa: ARG002  # for sources to override
        """The whole column where it lies in memory or in a memory map, else None.

        None of a ragged column: `ragged` gives it.
        """
        return None

    def ragged(self, name: str) -> Ragged | None:  # noqa: ARG002  # for sources to override
        """The whole ragged column where it lies in memory or in a memory map, else None."""
        return None

    def ragged_bytes(self, name: str) -> int | None:  # noqa: ARG002  # for sources to override
        """The bytes of all values of a ragged column where they are known without reading them."""
        return None

    def locate(self, row: int) -> str:
        """Where a row stands, for messages: its number, and its file where it has one."""
        return f"row {row:,} (counting from 0)"

    def ragged_region(self, name: str) -> RaggedRegion | None:
        """Where values and offsets of a ragged column lie in files; None where not in files."""
        ragged = self.ragged(name)
        if ragged is None:
            return None
        values, offsets = file_region(ragged.values), file_region(ragged.offsets)
        if values is None or offsets is None:
            return None
        return RaggedRegion(ragged=ragged, values=values, offsets=offsets)

    def refuse_cut_off(self, stop: int) -> None:  # noqa: B027  # for sources in files to override
        """Raise DataError where a file was cut off since, and lacks samples before `stop`.

        Reading those through a memory map would end the process.
        """

    def release_pages(self) -> None:  # noqa: B027  # for sources in files to override
        """Let the process forget what it has read through memory maps."""

    def region(self, name: str) -> FileRegion | None:
        """Where the rows of a column lie in a file, to be read without a map; None in memory."""
        array = self.array(name)
        return None if array is None else file_region(array)

    def stacked(self, names: tuple[str, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
        """The scalar columns `names` side by side, (N, F), where `array` has them, else None.

        The block is made once and kept: gathering a batch from it is one pass instead of F. It is
        not made of columns that lie in files and would fill more than 256 MiB.
        """
        key = (names, dtype)
        if key not in self._blocks:
            arrays = [self.array(name) for name in names]
            present = [array for array in arrays if array is not None]
            if len(present) < len(names):
                return None
            is_large = len(self) * len(names) * dtype.itemsize > _MOST_STACKED_BYTES
            if is_large and any(self.region(name) is not None for name in names):
                return None
            self.refuse_cut_off(len(self))
            block = np.empty((len(self), len(names)), dtype)
            for position, array in enumerate(present):
                block[:, position] = array
            self._blocks[key] = block
        return self._blocks[key]

    def column(self, name: str) -> Column:
        """The description of the column called `name`; DataError lists the valid names."""
        for column in self.columns:
            if column.name == name:
                return column
        names = [column.name for column in self.columns]
        raise DataError(
            f"{self.name} has no column {name!r}.{did_you_mean(name, names)} "
            f"Its columns are: {', '.join(names)}."
        )

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Every column but the target, in order."""
        return tuple(column for column in self.columns if column.name != self.target)

    def transform(self, *transforms: object) -> Self:
        """The same data with `transforms` attached; a split fits them on its train part alone."""
        if not transforms:
            raise OptionError("transform() was given nothing to attach; pass rb.scale(...) or such")
        attached = copy.copy(self)
        attached.transforms = (*self.transforms, *transforms)
        return attached

    def __copy__(self) -> Self:
        # Not by the state below, which leaves out what another process finds anew: files and maps.
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> dict[str, Any]:
        # For runs in other processes: a view of a dict can not be pickled, a block is made again.
        return {**self.__dict__, "own_parts": dict(self.own_parts), "_blocks": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, own_parts=MappingProxyType(state["own_parts"]))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{column.name}{'*' if column.name == self.target else ''}: {column.kind}"
            for column in self.columns[:8]
        )
        more = f", … {len(self.columns) - 8} more" if len(self.columns) > 8 else ""
        return f"<Dataset {self.name}: {len(self):,} samples; {shown}{more}>"


def check_span(start: int, stop: int, length: int) -> None:
    """Raise IndexError unless 0 <= start <= stop <= length."""
    if not 0 <= start <= stop <= length:
        raise IndexError(f"span({start}, {stop}) lies outside 0 <= start <= stop <= {length}")


def valid_rows(indices: ArrayLike, length: int) -> NDArray[np.int64]:
    """The row numbers as int64; lists and every whole-number dtype are taken.

    Raises OptionError where they are no whole numbers in one axis, IndexError where one is
    negative or past the end.
    """
    rows = np.asarray(indices)
    if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
        raise OptionError(
            f"rows() takes row numbers, whole numbers in one axis, and was given {rows.dtype} of "
            f"shape {rows.shape}; of a mask take np.flatnonzero(mask)"
        )
    rows = rows.astype(np.int64, copy=False)
    # A negative number, read as unsigned, is huge: one maximum checks both ends.
    if len(rows) and int(rows.view(np.uint64).max()) >= length:
        wrong = rows[(rows < 0) | (rows >= length)][0]
        raise IndexError(f"row {wrong} lies outside 0 <= row < {length}")
    return rows
