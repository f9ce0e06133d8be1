"""An array as a pack stores it: a .npy file, described such that damage can be found."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.block_checksums import array_bytes, checksum, rows_of_block, spans
from rightbatch.data.fingerprint import ReadColumn
from rightbatch.data.numpy_files import map_closed, map_values, read_header
from rightbatch.errors import DataError

DUPLICATES_FILE = "duplicates.npy"
SOURCE_ROWS_FILE = "source-rows.npy"
FILE_NAME = re.compile(r"[A-Za-z0-9_.%-]{1,200}\.npy")
_LONGEST_NAME = 160


class Block(NamedTuple):
    """The rows `start` up to `stop`, whose values are those from `first` up to `last`."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class PackedArray:
    """One .npy file of a pack in C order: what its header says and a checksum a block of rows.

    `shape` counts the samples first. `checksums` are CRC-32 sums of `block_rows` rows each, the
    last block shorter; `header_checksum` is that of the `header_bytes` before the values.
    """

    file: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    header_bytes: int
    header_checksum: int
    block_rows: int
    checksums: tuple[int, ...]

    @property
    def file_shape(self) -> tuple[int, ...]:
        """The shape that the file's header says."""
        return self.shape

    @property
    def rows(self) -> int:
        """How many samples, or rows of another kind, the file holds values of."""
        return self.shape[0]

    @property
    def blocks(self) -> list[Block]:
        """The blocks that have a checksum each."""
        return [
            Block(start, stop, start, stop) for start, stop in spans(self.rows, self.block_rows)
        ]

    @property
    def row_bytes(self) -> int:
        """The bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    @property
    def file_bytes(self) -> int:
        """The size that the whole file must have."""
        return self.header_bytes + self.shape[0] * self.row_bytes

    def map(self, folder: Path, role: str, *, keeps_open: bool = True) -> NDArray[Any]:
        """The values, mapped into memory to be read only; `keeps_open` as a file that is open.

        Raises DataError where the file is missing, cut off or other than described; `role` says
        what the pack needs it for.
        """
        path = folder / self.file
        described = f"{path} ({role} of the packed data set {folder})"
        try:
            with path.open("rb") as file:
                header = read_header(file, described, total_bytes=path.stat().st_size)
        except FileNotFoundError as error:
            raise DataError(
                f"{described} is missing; expected are {self.file_bytes:,} bytes of {self.dtype} "
                f"of shape {self.file_shape}. Put it back from a copy, or pack the data anew."
            ) from error
        expected = (self.dtype, self.file_shape, False)
        if (header.dtype, header.shape, header.fortran_order) != expected:
            order = " in Fortran order" if header.fortran_order else ""
            raise DataError(
                f"{described} holds {header.dtype} of shape {header.shape}{order}, and "
                f"manifest.json says {self.dtype} of shape {self.file_shape}. Put the file back "
                "from a copy, or pack the data anew."
            )
        return map_values(path, header) if keeps_open else map_closed(path, header)


def header_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """The header of a .npy file in C order, as numpy.save writes it."""
    buffer = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


def describe_array(
    file: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    *,
    block_rows: int,
    checksums: Iterable[int],
) -> PackedArray:
    """The description of an array that was written after `header_of(dtype, shape)`."""
    header = header_of(dtype, shape)
    return PackedArray(
        file=file,
        dtype=dtype,
        shape=shape,
        header_bytes=len(header),
        header_checksum=checksum(header),
        block_rows=block_rows,
        checksums=tuple(checksums),
    )


def write_array(folder: Path, file: str, values: NDArray[Any] | ReadColumn) -> PackedArray:
    """Write an array, or what is read in its place, as a file of the pack, and describe it."""
    row_bytes = values.dtype.itemsize * math.prod(values.shape[1:])
    block_rows = rows_of_block([row_bytes])
    sums = []
    with (folder / file).open("wb") as written:
        written.write(header_of(values.dtype, values.shape))
        for start, stop in spans(len(values), block_rows):
            content = array_bytes(values[start:stop])
            written.write(content)
            sums.append(checksum(content))
    return describe_array(file, values.dtype, values.shape, block_rows=block_rows, checksums=sums)


def file_names(columns: Iterable[str]) -> list[str]:
    """A file name for each column: safe on every disk, and different where case is ignored.

    >>> file_names(["x", "X", "petal width (cm)", "a/b", "duplicates"])
    ['x.npy', 'X-2.npy', 'petal%20width%20%28cm%29.npy', 'a%2Fb.npy', 'duplicates-2.npy']
    """
    taken = {DUPLICATES_FILE, SOURCE_ROWS_FILE}
    names = []
    for column in columns:
        # quote() leaves the tilde as it is.
        stem = quote(column, safe="", errors="surrogatepass").replace("~", "%7E") or "column"
        if len(stem) > _LONGEST_NAME:
            digest = hashlib.blake2b(column.encode(errors="surrogatepass"), digest_size=8)
            stem = f"{stem[:100]}-{digest.hexdigest()}"
        name, number = f"{stem}.npy", 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}.npy"
        taken.add(name.casefold())
        names.append(name)
    return names
