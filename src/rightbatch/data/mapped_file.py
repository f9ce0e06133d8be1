"""A memory-mapped array as another process gets it: the way to its file instead of its values."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.file_region import memory_map
from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError

# A private map (mode "c") may have been written to, and its file knows nothing of it.
_MODES_OF_FILES = ("r", "r+", "w+")


@dataclass(frozen=True, kw_only=True)
class MappedFile:
    """Where the values of an array lie in a file, to be mapped again by whoever receives this.

    `file_bytes` and `mtime_ns` tell the file as it was from another one, or another state, in its
    place. The map begins at byte `map_offset` of the file and has `map_bytes`; the first value
    stands at `offset` of the map, and `strides` are in bytes.
    """

    path: Path
    file_bytes: int
    mtime_ns: int
    map_offset: int
    map_bytes: int
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, array: NDArray[Any], *, inode: int | None = None) -> MappedFile | None:
        """Of a mapped array; None where its values can not be had from a file again.

        That is so in memory, for private maps, and where another file stands in the place of the
        one that is mapped: it has another number than `inode`, the one that it had when it was
        opened.
        """
        owner = memory_map(array)
        if owner is None or owner.filename is None or owner.mode not in _MODES_OF_FILES:
            return None
        if owner.mode != "r":
            owner.flush()
        path = Path(owner.filename)
        try:
            found = path.stat()
        except OSError:
            return None
        if inode not in (None, found.st_ino):
            return None
        place = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
        return cls(
            path=path,
            file_bytes=found.st_size,
            mtime_ns=found.st_mtime_ns,
            map_offset=int(owner.offset),
            map_bytes=owner.nbytes,
            offset=place,
            dtype=array.dtype,
            shape=array.shape,
            strides=array.strides,
        )

    def map(self) -> NDArray[Any]:
        """The array, mapped to be read only.

        Raises DataError where the file is not here, or is not what it was.
        """
        here = f"on {platform.node() or 'this machine'}"
        remedy = (
            "Data in files are not sent with a run: each worker maps them under the same path. "
            "Share the folder between the machines, or copy the file there with its time "
            "(cp -p, rsync -t)"
        )
        try:
            found = self.path.stat()
        except OSError as error:
            raise DataError(
                f"{self.path} can not be opened {here} ({error.strerror}). {remedy}"
            ) from error
        if (found.st_size, found.st_mtime_ns) != (self.file_bytes, self.mtime_ns):
            raise DataError(
                f"{self.path} {here} is not the file that was opened: it has {found.st_size:,} "
                f"bytes and was changed at {_time(found.st_mtime_ns)}, and it had "
                f"{self.file_bytes:,} bytes of {_time(self.mtime_ns)}. {remedy}; where it was "
                "changed since, open it anew"
            )
        mapped = np.memmap(
            self.path, dtype=np.uint8, mode="r", offset=self.map_offset, shape=(self.map_bytes,)
        )
        return np.ndarray(
            self.shape, self.dtype, buffer=mapped, offset=self.offset, strides=self.strides
        )


@dataclass(frozen=True, kw_only=True)
class MappedRagged:
    """The same of a ragged column, whose values or offsets, or both, lie in a file."""

    values: MappedFile | NDArray[Any]
    offsets: MappedFile | NDArray[Any]
    is_text: bool


def to_send(
    values: NDArray[Any] | Ragged, *, inode: int | None = None
) -> NDArray[Any] | Ragged | MappedFile | MappedRagged:
    """What stands for a column in another process: the way to its file where it is in one.

    >>> to_send(np.arange(3))
    array([0, 1, 2])
    """
    if not isinstance(values, Ragged):
        return MappedFile.of(values, inode=inode) or values
    flat = MappedFile.of(values.values, inode=inode)
    offsets = MappedFile.of(values.offsets)
    if flat is None and offsets is None:
        return values
    return MappedRagged(
        values=values.values if flat is None else flat,
        offsets=values.offsets if offsets is None else offsets,
        is_text=values.is_text,
    )


def received(sent: Any) -> Any:
    """The column again; DataError where its file is not here, or is not what it was.

    >>> received(np.arange(3))
    array([0, 1, 2])
    """
    if isinstance(sent, MappedFile):
        return sent.map()
    if isinstance(sent, MappedRagged):
        return Ragged.of_checked(received(sent.values), received(sent.offsets), sent.is_text)
    return sent


def _time(mtime_ns: int) -> str:
    return str(np.datetime64(mtime_ns // 1_000_000, "ms"))
