"""Where a memory-mapped column lies in its file, so that it can be read without the map."""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import DataError

# The system takes this much in one call, and no more.
MOST_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class FileRegion:
    """The rows of one column, one after the other, from byte `offset` of a file on.

    `dtype` and `shape` (of one row) say how the bytes are read, `unit` what a row is called.
    `inode` tells the file that was opened from another one in its place; None does not ask.
    `stride_bytes` is how far the beginnings of two rows lie apart, where rows overlap or leave
    something out between them; None where one follows the other.
    """

    path: Path
    offset: int
    length: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    unit: str = "row"
    inode: int | None = None
    stride_bytes: int | None = None

    @property
    def row_bytes(self) -> int:
        """The bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def whole_rows(self) -> int:
        """How many rows the file has now: fewer than `length` where it was cut off since.

        Reading the others through a map would end the process.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return self.length  # whoever has mapped or opened it still has all of it
        if self.inode not in (None, found.st_ino):
            return self.length  # as of one that was replaced
        after_first = found.st_size - self.offset - self.row_bytes
        stride = self.stride_bytes or max(1, self.row_bytes)
        return max(0, min(self.length, after_first // stride + 1))

    def open(self, *, keeps_open: bool = True) -> RowsFile:
        """The file to read rows from; see `FileReader`."""
        return FileReader(self, keeps_open=keeps_open)


class RowsFile(Protocol):
    """A file of a column's rows that is open: any number of threads may read."""

    @property
    def region(self) -> FileRegion:
        """Where the rows lie."""

    def read(self, start: int, out: NDArray[Any]) -> None:
        """Read the rows from `start` on into `out`, C-contiguous and of their dtype."""

    def close(self) -> None:
        """Give the file back."""


class FileReader:
    """The file of a column, from which any number of threads may read rows.

    It is opened at once, and closed by the caller; with `keeps_open=False` it is opened for every
    read. Raises DataError where it can not be opened.
    """

    def __init__(self, region: FileRegion, *, keeps_open: bool = True) -> None:
        self.region = region
        self._descriptor = self._opened()
        if not keeps_open:
            self.close()

    def read(self, start: int, out: NDArray[Any]) -> None:
        """Read the rows from `start` on into `out`, (rows, …), C-contiguous and of their dtype.

        Raises DataError, with file and row, where the file ends too early or can not be read.
        """
        if not len(out):
            return
        region = self.region
        stride = region.stride_bytes or region.row_bytes
        # What rows share is read once, and what lies between them as well.
        is_dense = stride == region.row_bytes
        span = out.reshape(-1).view(np.uint8)
        if not is_dense:
            span = np.empty((len(out) - 1) * stride + region.row_bytes, np.uint8)
        descriptor = self._descriptor if self._descriptor >= 0 else self._opened()
        try:
            self._read(descriptor, start, span.data)
        finally:
            if descriptor != self._descriptor:
                os.close(descriptor)
        if not is_dense:
            inner = np.ndarray(region.shape, region.dtype, buffer=span).strides
            out[...] = np.ndarray(out.shape, out.dtype, buffer=span, strides=(stride, *inner))

    def _read(self, descriptor: int, start: int, view: memoryview) -> None:
        region = self.region
        stride = region.stride_bytes or region.row_bytes
        at = region.offset + start * stride
        done = 0
        while done < len(view):
            try:
                count = os.preadv(descriptor, [view[done : done + MOST_BYTES]], at + done)
            except OSError as error:
                row = start + done // stride
                raise DataError(
                    f"{region.path}: reading {region.unit} {row:,} failed ({error.strerror}, byte "
                    f"{at + done:,} of the file). Look at the disk or the network behind it, or "
                    'leave such rows out: on_bad_sample="quarantine"'
                ) from error
            if count == 0:
                raise cut_off(region, start + done // stride)
            done += count

    def _opened(self) -> int:
        path, inode = self.region.path, self.region.inode
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise DataError(
                f"{path} can not be opened any more ({error.strerror}): it was there when the data "
                "were opened. Put it back, and go on from the last checkpoint"
            ) from error
        if inode not in (None, os.fstat(descriptor).st_ino):
            os.close(descriptor)
            raise DataError(
                f"{path} has been replaced by another file since the data were opened: open them "
                "again"
            )
        return descriptor

    def close(self) -> None:
        """Give the file back; not while somebody reads."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Region(Protocol):
    """Rows of a column that lie in a file, which may have become shorter since."""

    @property
    def unit(self) -> str:
        """What a row is called."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def length(self) -> int:
        """How many rows it had when it was opened."""

    @property
    def whole_rows(self) -> int:
        """How many of them it has now."""


def cut_off(region: Region, row: int) -> DataError:
    """What to say of a file that has become shorter: it ends before `row`."""
    return DataError(
        f"{region.path} ends before {region.unit} {row:,}, and had {region.length:,} "
        f"{region.unit}s when it was opened: it was cut off since. Put the whole file back and go "
        'on from the last checkpoint, or leave such rows out: on_bad_sample="quarantine"'
    )


def file_region(array: NDArray[Any]) -> FileRegion | None:
    """Where the rows of a mapped array lie in its file; None where it is in no file.

    That is so for arrays in memory, and for views that leave out or turn around some of it.

    >>> file_region(np.arange(3)) is None
    True
    """
    if array.ndim == 0 or not array.flags.c_contiguous or array.dtype.itemsize == 0:
        return None
    owner = memory_map(array)
    if owner is None or owner.filename is None:
        return None
    inside = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    return FileRegion(
        path=Path(owner.filename),
        offset=int(owner.offset) + inside,
        length=len(array),
        dtype=array.dtype,
        shape=array.shape[1:],
        inode=inode_of(Path(owner.filename)),
    )


def inode_of(path: Path) -> int | None:
    """The number of the file that has this name now; None where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def drop_pages(array: NDArray[Any]) -> None:
    """Let the process forget what of a mapped array it has read: the system's cache keeps it."""
    owner = memory_map(array)
    pages = None if owner is None else owner._mmap
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def memory_map(array: NDArray[Any]) -> Any:
    """The memory map that an array is a view of; None where there is none."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        # A view of a memory map has the map's attributes only while its class is kept.
        if isinstance(owner, np.memmap) and not isinstance(owner.base, np.memmap):
            return owner
        owner = owner.base
    return None
