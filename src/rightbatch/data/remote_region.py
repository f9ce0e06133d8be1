"""The rows of a column in a remote object: spans and single rows, fetched as they are asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rightbatch.data.file_region import FileRegion, RowsFile
from rightbatch.data.remote_blocks import BLOCK_BYTES, block_memory
from rightbatch.data.remote_file import RemoteFile
from rightbatch.data.remote_path import RemotePath, as_path

# Blocks that are brought together, and held meanwhile.
_BLOCKS_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class RemoteRegion(FileRegion):
    """Rows that lie one after the other in a remote object, which keeps its size or is refused."""

    column: RemoteColumn

    @property
    @override
    def whole_rows(self) -> int:
        """All of them: an object that was cut off has another tag, and reading it says so."""
        return self.length

    @override
    def open(self, *, keeps_open: bool = True) -> RowsFile:
        """The column itself, which holds nothing open."""
        return _RemoteRows(self)


class _RemoteRows:
    def __init__(self, region: RemoteRegion) -> None:
        self._region = region

    @property
    def region(self) -> FileRegion:
        return self._region

    def read(self, start: int, out: NDArray[Any]) -> None:
        self._region.column.read(start, out)

    def close(self) -> None:
        """Nothing is open."""


class RemoteColumn:
    """`length` rows of `dtype` and `shape` (of one row) from byte `offset` of an object on.

    `check` is called once, before the first row is read: it raises where the object is not what
    its description says. Slices give arrays, as those of an array do.

    Raises RemoteError where the object can not be read or has changed.
    """

    def __init__(
        self,
        path: RemotePath,
        *,
        offset: int,
        length: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        check: Callable[[RemoteFile], None] | None = None,
    ) -> None:
        self.path = path
        self.offset = offset
        self.dtype = dtype
        self.shape = (length, *shape)
        self._check = check

    @property
    def row_bytes(self) -> int:
        """The bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        """The bytes of all rows."""
        return self.row_bytes * self.shape[0]

    @property
    def region(self) -> RemoteRegion:
        """Where the rows lie, for a loader that reads them in windows."""
        return RemoteRegion(
            path=as_path(self.path),
            offset=self.offset,
            length=len(self),
            dtype=self.dtype,
            shape=self.shape[1:],
            column=self,
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(len(self))
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        self.read(start, out)
        return out

    def read(self, start: int, out: NDArray[Any]) -> None:
        """Read the rows from `start` on into `out`, C-contiguous and of their dtype."""
        if len(out):
            at = self.offset + start * self.row_bytes
            self._file().read_into(at, out.reshape(-1).view(np.uint8).data)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Copies of `rows`, in any order; the blocks that hold some are brought side by side."""
        file = self._file()
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        taken = np.empty((len(rows), *self.shape[1:]), self.dtype)
        if not len(rows):
            return taken
        flat = taken.reshape(len(rows), -1).view(np.uint8)
        for first, last in self._groups(ascending):
            self._take(file, ascending[first:last], flat[first:last])
        out = np.empty_like(taken)
        out[order] = taken
        return out

    def _groups(self, ascending: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Runs of rows that begin in so few blocks that these are brought together."""
        begins = (self.offset + ascending * self.row_bytes) // BLOCK_BYTES
        is_new = np.flatnonzero(np.diff(begins)) + 1
        cuts = [0, *is_new[_BLOCKS_AT_ONCE - 1 :: _BLOCKS_AT_ONCE].tolist(), len(ascending)]
        yield from itertools.pairwise(cuts)

    def _take(self, file: RemoteFile, ascending: NDArray[np.int64], out: NDArray[Any]) -> None:
        size = self.row_bytes
        begins = self.offset + ascending * size
        ends = begins + size
        first_blocks, last_blocks = begins // BLOCK_BYTES, (ends - 1) // BLOCK_BYTES
        is_inside = first_blocks == last_blocks
        blocks = block_memory().get(file, np.unique(first_blocks).tolist())
        for index in np.unique(first_blocks[is_inside]).tolist():
            here = np.flatnonzero(is_inside & (first_blocks == index))
            # The rows that lie in the block whole are an array of their own.
            start = int(begins[here[0]]) - index * BLOCK_BYTES
            phase = start % size
            content = np.frombuffer(blocks[index], np.uint8)[phase:]
            whole = content[: len(content) // size * size].reshape(-1, size)
            places = (begins[here] - index * BLOCK_BYTES - phase) // size
            out[here[0] : here[-1] + 1] = whole.take(places, axis=0)
        for place in np.flatnonzero(~is_inside).tolist():
            file.read_into(int(begins[place]), out[place].data)

    def _file(self) -> RemoteFile:
        file = self.path.remote_file()
        if self._check is not None:
            self._check(file)
            self._check = None
        return file
