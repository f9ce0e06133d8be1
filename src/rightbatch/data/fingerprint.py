"""The fingerprint of columns: a short text that changes when names, dtypes or content change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.column import Column
from rightbatch.data.ragged import Ragged

WHOLE_CONTENT_BYTES = 2**30
_SAMPLED_BLOCKS = 1024
_BLOCK_BYTES = 2**16
_CHUNK_BYTES = 2**22
_PIECE_BYTES = 2**26


class ReadColumn:
    """A column of one axis whose spans are read when they are sliced, in place of an array."""

    def __init__(
        self, column: Column, length: int, read: Callable[[int, int], NDArray[Any]]
    ) -> None:
        self.dtype = column.dtype
        self.shape = (length,)
        self.nbytes = length * column.dtype.itemsize
        self._read = read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        return self._read(rows.start, rows.stop)


def fingerprint_columns(
    columns: Sequence[Column],
    arrays: Mapping[str, NDArray[Any] | Ragged] | Mapping[str, ReadColumn],
    *,
    whole_content_bytes: int = WHOLE_CONTENT_BYTES,
    after_piece: Callable[[], None] = lambda: None,
) -> str:
    """BLAKE2b of names, dtypes, shapes, categories and content, as 32 hexadecimal digits.

    The content is hashed whole up to `whole_content_bytes` (1 GiB) for all columns together;
    beyond that, 1,024 evenly spaced blocks of 64 KiB and both ends of each column are. How an
    array is stored (C or Fortran order, memory map, strides) makes no difference. Of a ragged
    column the offsets are hashed like an array, and then the values. `after_piece` is called after
    every 64 MiB or so.

    >>> column = Column(name="x", dtype=np.dtype("int64"))
    >>> fingerprint_columns([column], {"x": np.arange(3)})
    '1fcaca5dc481d65dc60c2f502e57c3ec'
    """
    whole = sum(arrays[column.name].nbytes for column in columns) <= whole_content_bytes
    digest = hashlib.blake2b(digest_size=16)
    hashed = 0
    for column in columns:
        values = arrays[column.name]
        stored: Sequence[NDArray[Any] | ReadColumn]
        described: tuple[object, ...]
        if isinstance(values, Ragged):
            stored = values.offsets, values.values
            sizes = ("ragged", len(values), values.shape, values.is_text)
            described = (column.name, values.dtype.str, sizes, whole)
        else:
            stored = (values,)
            described = (column.name, values.dtype.str, values.shape, column.categories, whole)
        # repr quotes the texts, so that no two lists of names run into the same bytes.
        digest.update(repr(described).encode("utf-8", errors="surrogatepass"))
        for array in stored:
            for start, stop in _spans(array, whole=whole):
                piece = np.ascontiguousarray(array[start:stop]).view(np.uint8)
                digest.update(piece.data)
                hashed += piece.nbytes
                if hashed >= _PIECE_BYTES:
                    del piece
                    after_piece()
                    hashed = 0
    return digest.hexdigest()


def _spans(array: NDArray[Any] | ReadColumn, *, whole: bool) -> Iterator[tuple[int, int]]:
    """The spans of rows whose content is hashed, in order."""
    length = len(array)
    row_bytes = max(1, array.nbytes // max(1, length))
    block = max(1, _BLOCK_BYTES // row_bytes)
    if whole or length <= block * (_SAMPLED_BLOCKS + 1):
        step = max(1, _CHUNK_BYTES // row_bytes)
        yield from ((start, min(start + step, length)) for start in range(0, length, step))
    else:
        # Evenly spaced from the first block to the last one, both included.
        for index in range(_SAMPLED_BLOCKS + 1):
            start = (length - block) * index // _SAMPLED_BLOCKS
            yield start, start + block
