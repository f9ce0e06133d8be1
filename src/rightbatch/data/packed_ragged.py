"""A ragged column as a pack stores it: a .npy file of its values, and one of its offsets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.block_checksums import checksum, spans
from rightbatch.data.packed_array import Block, PackedArray, header_of
from rightbatch.data.ragged import Ragged, wrong_offsets
from rightbatch.errors import DataError

OFFSETS_DTYPE = np.dtype(np.int64)
_FIRST_OFFSET = bytes(OFFSETS_DTYPE.itemsize)


@dataclass(frozen=True, kw_only=True)
class PackedValues(PackedArray):
    """The values of all entries, one after another.

    A checksum belongs to the values of `block_rows` of the `entries`; `block_ends` (one a block)
    says where those end, so that a block is found without the offsets.
    """

    entries: int
    block_ends: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many entries the file holds values of."""
        return self.entries

    @property
    def blocks(self) -> list[Block]:
        """The blocks that have a checksum each."""
        bounds = itertools.pairwise((0, *self.block_ends))
        rows = spans(self.entries, self.block_rows)
        return [Block(*some, *inside) for some, inside in zip(rows, bounds, strict=True)]

    def map(self, folder: Path, role: str, *, keeps_open: bool = True) -> NDArray[Any]:
        """The values, mapped into memory to be read only; see `PackedArray.map`."""
        if self.shape[0]:
            return super().map(folder, role, keeps_open=keeps_open)
        # Entries that are all empty: there is nothing to be mapped.
        path = folder / self.file
        if not path.is_file() or path.stat().st_size != self.header_bytes:
            raise DataError(
                f"{path} ({role} of the packed data set {folder}) is missing or not of "
                f"{self.header_bytes} bytes. Put it back from a copy, or pack the data anew."
            )
        return np.empty(self.shape, self.dtype)


@dataclass(frozen=True, kw_only=True)
class PackedOffsets(PackedArray):
    """Where each entry ends: `shape` is (N,), a row an entry.

    The file has one offset more, the 0 where the first entry begins. That one is counted to the
    header, so that a row and a block are the same here and in every other column.
    """

    @property
    def file_shape(self) -> tuple[int, ...]:
        """The shape that the file's header says."""
        return (self.shape[0] + 1,)


def offsets_header(entries: int) -> bytes:
    """What stands before the first entry's end."""
    return header_of(OFFSETS_DTYPE, (entries + 1,)) + _FIRST_OFFSET


def describe_offsets(
    file: str, entries: int, *, block_rows: int, checksums: Sequence[int] = ()
) -> PackedOffsets:
    """The description of offsets that were written after `offsets_header(entries)`."""
    header = offsets_header(entries)
    return PackedOffsets(
        file=file,
        dtype=OFFSETS_DTYPE,
        shape=(entries,),
        header_bytes=len(header),
        header_checksum=checksum(header),
        block_rows=block_rows,
        checksums=tuple(checksums),
    )


def describe_values(
    file: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    entries: int,
    *,
    block_rows: int,
    block_ends: Sequence[int] = (),
    checksums: Sequence[int] = (),
) -> PackedValues:
    """The description of values whose elements are of `shape`; none before there are blocks."""
    whole = (block_ends[-1] if block_ends else 0, *shape)
    header = header_of(dtype, whole)
    return PackedValues(
        file=file,
        dtype=dtype,
        shape=whole,
        header_bytes=len(header),
        header_checksum=checksum(header),
        block_rows=block_rows,
        checksums=tuple(checksums),
        entries=entries,
        block_ends=tuple(block_ends),
    )


def map_ragged(
    folder: Path,
    role: str,
    values: PackedArray,
    offsets: PackedOffsets,
    *,
    is_text: bool,
    keeps_open: bool = True,
) -> Ragged:
    """The column, mapped into memory to be read only.

    The offsets are read once, in pieces: none points outside of the values. Raises DataError where
    one does, or a file is missing or other than described.
    """
    mapped = values.map(folder, f"the values of {role}", keeps_open=keeps_open)
    ends = offsets.map(folder, f"the offsets of {role}", keeps_open=keeps_open)
    problem = wrong_offsets(ends, len(mapped))
    if problem is not None:
        raise DataError(
            f"{folder / offsets.file} (the offsets of {role} of the packed data set {folder}) is "
            f"damaged: {problem}. Put the file back from a copy, or pack the data anew; "
            "rightbatch.verify_pack names all that is damaged."
        )
    return Ragged.of_checked(mapped, ends, is_text)
