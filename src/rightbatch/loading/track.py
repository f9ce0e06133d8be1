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
        self.cast: np.dtype[Any] | None = None
        self.affine: AffineMap | None = None
        self.later: list[Transform] = []
        self._pool: BufferPool | None = None

    @property
    def gathered_dtype(self) -> np.dtype[Any]:
        """The dtype of the gathered values, before `later`."""
        return self.cast or self.source.column.dtype

    @property
    def sample_bytes(self) -> int:
        """The size of one gathered sample, in bytes."""
        return math.prod(self.source.column.shape) * self.gathered_dtype.itemsize

    def add(self, transform: Transform) -> None:
        """Append a transform: an affine one is fused with those before it where that is exact."""
        self.column = transform.describe(self.column)
        # A cast that rounds (3.7 to 3) has to happen before what follows it.
        is_exact = self.cast is None or np.can_cast(self.source.column.dtype, self.cast)
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
        birth. So mode="clip" clips nothing; it writes straight into the memory that is given,
        where the default mode copies through a buffer.
        """
        length, array = len(rows), self.source.array
        if self._pool is not None and length <= self._pool.shape[0]:
            out = self._pool.take(length)
        else:
            out = np.empty((length, *self.source.column.shape), self.gathered_dtype)
        if array is None:
            assert columns is not None  # read by the caller, since this source has no array
            named = [columns[name] for name in self.source.names]
            self._convert(named[0] if len(named) == 1 else np.stack(named, axis=1), out)
        elif not self._is_straight:
            # take() would first copy the whole of an array that is not C-contiguous.
            self._convert(array[rows], out)
        elif self.affine is None and array.dtype == self.gathered_dtype:
            array.take(rows, 0, out, "clip")
        else:
            piece = self._piece_samples
            scratch = self._scratch.take(min(piece, length))
            for start in range(0, length, piece):
                some = rows[start : start + piece]
                raw = scratch[: len(some)]
                array.take(some, 0, raw, "clip")
                self._convert(raw, out[start : start + piece])
        values: Values = out
        for transform in self.later:
            values = transform.apply(values)
        return values

    def _convert(self, raw: NDArray[Any], out: NDArray[Any]) -> None:
        # What float32 can not hold becomes infinite, and whoever reads the outputs says so.
        with np.errstate(over="ignore"):
            if self.affine is not None:
                self.affine(raw, out=out)
            else:
                # As astype() converts: the dtype was asked for.
                np.copyto(out, raw, casting="unsafe")

    @cached_property
    def _is_straight(self) -> bool:
        """Whether samples lie one after the other, so that gathering is a copy of bytes."""
        array = self.source.array
        return array is not None and bool(
            array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative
        )

    @cached_property
    def _piece_samples(self) -> int:
        raw_bytes = math.prod(self.source.column.shape) * self.source.column.dtype.itemsize
        return max(1, _PIECE_BYTES // max(1, raw_bytes))

    @cached_property
    def _scratch(self) -> BufferPool:
        array = self.source.array
        assert array is not None  # only a source with an array is gathered in pieces
        return BufferPool((self._piece_samples, *array.shape[1:]), array.dtype)
