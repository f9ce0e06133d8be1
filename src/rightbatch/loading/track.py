"""A field on its way into a batch: gathered, cast and scaled in one go, then transformed."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.loading.affine import AffineMap
from rightbatch.loading.buffers import BufferPool
from rightbatch.loading.fields import Field
from rightbatch.loading.transform import Transform, Values
from rightbatch.loading.transforms import Affine, Cast

# Raw values are gathered and converted in pieces of about this size, which bounds the memory beside
# a batch. Every call gives up the interpreter's lock and takes it back, so that with two threads at
# work pieces of 128 KiB lost a fifth of the speed.
_PIECE_BYTES = 1024 * 1024


class Track:
    """One field and the transforms of single samples that it goes through.

    `cast` and `affine` are what is done while gathering, `later` what runs on the gathered array.
    Transforms are added first; once `gather` has run, the track is fixed.
    """

    def __init__(self, source: Field) -> None:
        self.source = source
        self.column = source.column
        # What the memory of a batch is filled with: of a ragged field, what decoding makes of it.
        self.gathered = source.column
        self.cast: np.dtype[Any] | None = None
        self.affine: AffineMap | None = None
        self.later: list[Transform] = []
        self._pool: BufferPool | None = None

    @property
    def gathered_dtype(self) -> np.dtype[Any]:
        """The dtype of the gathered values, before `later`."""
        return self.cast or self.gathered.dtype

    @property
    def sample_bytes(self) -> int:
        """The size of one gathered sample, in bytes."""
        return math.prod(self.gathered.shape) * self.gathered_dtype.itemsize

    def add(self, transform: Transform) -> None:
        """Append a transform: an affine one is fused with those before it where that is exact."""
        self.column = transform.describe(self.column)
        # A cast that rounds (3.7 to 3) has to happen before what follows it.
        is_exact = self.cast is None or np.can_cast(self.gathered.dtype, self.cast)
        if isinstance(transform, Affine) and not self.later and (self.affine or is_exact):
            before = self.affine or AffineMap(0.0, 1.0)
            self.affine = before.then(transform.center, transform.factor)
            self.cast = self.column.dtype
        elif isinstance(transform, Cast) and not self.later and not self.affine and is_exact:
            self.cast = self.column.dtype
        else:
            self.later.append(transform)

    def narrow(self) -> None:
        """Make float32 of what comes out, where no cast said otherwise."""
        narrow = np.dtype(np.float32)
        if not self.later:
            self.cast = narrow
        elif self.column.dtype != narrow and not any(isinstance(t, Cast) for t in self.later):
            # At the end: the transforms still see all digits of a time stamp.
            self.later.append(Cast(narrow))

    def reserve(self, samples: int) -> None:
        """Gather up to `samples` samples at once into buffers that are used again."""
        self._pool = BufferPool((samples, *self.source.column.shape), self.gathered_dtype)

    def gather(
        self, rows: NDArray[np.int64], columns: dict[str, NDArray[Any]] | None = None
    ) -> Values:
        """The values of `rows`, transformed. `columns` are those rows of a source without arrays.

        `rows` must be valid: they come from a RowSet, which is checked against the length at
        birth.
        """
        out = self._room(len(rows))
        if columns is None:
            assert self.source.array is not None  # the caller has read the columns otherwise
            self._fill(self.source.array, rows, out)
        else:
            named = [columns[name] for name in self.source.names]
            self._convert(named[0] if len(named) == 1 else np.stack(named, axis=1), out)
        return self._finish(out)

    def gather_from(self, array: NDArray[Any], rows: NDArray[np.int64], length: int) -> Values:
        """The values of `rows` of an array that holds some samples, transformed.

        Where `length` is more than there are rows, the last one is repeated.
        """
        out = self._room(length)
        self._fill(array, rows, out[: len(rows)])
        out[len(rows) :] = out[len(rows) - 1]
        return self._finish(out)

    def _room(self, length: int) -> Values:
        """Memory for so many gathered values; its content is arbitrary."""
        if self._pool is not None and length <= self._pool.shape[0]:
            return self._pool.take(length)
        return np.empty((length, *self.source.column.shape), self.gathered_dtype)

    def _finish(self, values: Values) -> Values:
        for transform in self.later:
            values = transform.apply(values)
        return values

    def _fill(self, array: NDArray[Any], rows: NDArray[np.int64], out: Values) -> None:
        """Gather `rows` of `array` into `out`, cast and scaled.

        mode="clip" clips nothing, since rows are valid; it writes straight into the memory that is
        given, where the default mode copies through a buffer.
        """
        if not _is_straight(array):
            # take() would first copy the whole of an array that is not C-contiguous. In pieces, so
            # that what is gathered first is still in the cache, and no large memory is made anew.
            piece = max(1, self._piece_samples // 8)
            for start in range(0, len(rows), piece):
                self._convert(array[rows[start : start + piece]], out[start : start + piece])
        elif self.affine is None and array.dtype == self.gathered_dtype:
            array.take(rows, 0, out, "clip")
        else:
            piece = self._piece_samples
            scratch = self._scratch.take(min(piece, len(rows)))
            for start in range(0, len(rows), piece):
                some = rows[start : start + piece]
                raw = scratch[: len(some)]
                array.take(some, 0, raw, "clip")
                self._convert(raw, out[start : start + piece], overwrite=True)

    def _convert(self, raw: NDArray[Any], out: NDArray[Any], *, overwrite: bool = False) -> None:
        # What float32 can not hold becomes infinite, and whoever reads the outputs says so.
        with np.errstate(over="ignore"):
            if self.affine is not None:
                self.affine(raw, out=out, overwrite=overwrite)
            else:
                # As astype() converts: the dtype was asked for.
                np.copyto(out, raw, casting="unsafe")

    @cached_property
    def _piece_samples(self) -> int:
        raw_bytes = math.prod(self.source.column.shape) * self.source.column.dtype.itemsize
        return max(1, _PIECE_BYTES // max(1, raw_bytes))

    @cached_property
    def _scratch(self) -> BufferPool:
        column = self.source.column
        return BufferPool((self._piece_samples, *column.shape), column.dtype)


def _is_straight(array: NDArray[Any]) -> bool:
    """Whether samples lie one after the other, so that gathering is a copy of bytes."""
    flags = array.flags
    return bool(flags.c_contiguous and flags.aligned and array.dtype.isnative)
