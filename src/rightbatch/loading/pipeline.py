"""Rows in, batch arrays out: gather, cast and transforms of a part, compiled once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Dataset
from rightbatch.errors import DataError, did_you_mean
from rightbatch.loading.buffers import BufferPool
from rightbatch.loading.fields import STACKED, Field, input_fields, single_field
from rightbatch.loading.row_random import RowRandom
from rightbatch.loading.transform import Function, Inputs, Transform, Values, as_numpy
from rightbatch.loading.transforms import Affine, Cast

# Raw values are gathered and converted in pieces of this size, so that the second pass finds
# them in the cache.
_PIECE_BYTES = 128 * 1024


@dataclass(kw_only=True)
class _Track:
    """A field on its way through the transforms."""

    source: Field
    column: Column
    cast: np.dtype[Any] | None = None
    center: NDArray[np.float64] | float = 0.0
    factor: NDArray[np.float64] | float = 1.0
    is_affine: bool = False
    later: list[Transform] = field(default_factory=list)
    pool: BufferPool | None = None

    def add(self, transform: Transform) -> None:
        """Append a transform: an affine one is fused with those before it while that is possible.

        ((x - c) f - d) g = (x - (c + d / f)) · f g.
        """
        self.column = transform.describe(self.column)
        if isinstance(transform, Affine) and not self.later:
            self.center = self.center + np.asarray(transform.center) / self.factor
            self.factor = self.factor * np.asarray(transform.factor)
            self.is_affine = True
            self.cast = self.column.dtype
        elif isinstance(transform, Cast) and not self.later and not self.is_affine:
            self.cast = self.column.dtype
        else:
            self.later.append(transform)


class Pipeline:
    """The way from row numbers to the arrays of a batch, for one data set and its transforms.

    `transforms` must be fitted. Transforms of single samples run on as many batches at once as
    the caller asks for; from the first `Function` on, what follows runs batch by batch.
    """

    def __init__(self, data: Dataset, transforms: Sequence[Transform | Function]) -> None:
        self.data = data
        self._inputs = {
            name: _Track(source=source, column=source.column)
            for name, source in input_fields(data).items()
        }
        self._is_dict = len(self._inputs) > 1
        self._target: _Track | None = None
        if data.target is not None:
            source = single_field(data, data.column(data.target))
            self._target = _Track(source=source, column=source.column)
        self._by_batch: list[Function | tuple[_Track, Transform]] = []
        for transform in transforms:
            if isinstance(transform, Function):
                self._by_batch.append(transform)
                continue
            for track in self._tracks_of(transform):
                if self._by_batch:
                    self._by_batch.append((track, transform))
                else:
                    track.add(transform)
        stacked = self._inputs.get(STACKED)
        if stacked is not None and len(stacked.source.names) > 1 and stacked.cast is None:
            stacked.cast = np.dtype(np.float32)

    @property
    def tracks(self) -> list[_Track]:
        """Every field, inputs first."""
        return [*self._inputs.values(), *([self._target] if self._target else [])]

    @property
    def sample_bytes(self) -> int:
        """The size of one gathered and cast sample, in bytes."""
        return max(
            1,
            sum(
                int(np.prod(track.source.column.shape, dtype=np.int64))
                * (track.cast or track.source.column.dtype).itemsize
                for track in self.tracks
            ),
        )

    def reserve(self, samples: int) -> None:
        """Make room for pieces of up to `samples` samples in buffers that are used again."""
        for track in self.tracks:
            track.pool = BufferPool(
                (samples, *track.source.column.shape), track.cast or track.source.column.dtype
            )

    def gather(self, rows: NDArray[np.int64]) -> list[Values]:
        """The fields of `rows` after gathering, casting and the transforms of single samples."""
        columns = None
        results = []
        for track in self.tracks:
            if track.source.array is None and columns is None:
                columns = self.data.rows(rows)
            values = _gather(track, rows, columns)
            for transform in track.later:
                values = transform.apply(values)
            results.append(values)
        return results

    def finish(
        self, values: Sequence[Values], rows: NDArray[np.int64], *, seed: int, epoch: int
    ) -> tuple[Inputs, Values | None]:
        """One batch of what `gather` gave: run what runs batch by batch, in `rows`' own order."""
        inputs: Inputs = (
            dict(zip(self._inputs, values, strict=False)) if self._is_dict else values[0]
        )
        target = values[-1] if self._target else None
        if not self._by_batch:
            return inputs, target
        # The random state is made anew for each function, so that a function's draws do not
        # depend on how many draws the one before it made.
        for place, step in enumerate(self._by_batch):
            if isinstance(step, Function):
                rng = RowRandom(seed=seed, epoch=epoch, rows=rows, stream=place)
                inputs, target = step(inputs, target, rng)
                continue
            track, transform = step
            if track is self._target:
                target = transform.apply(as_numpy(target))
            elif isinstance(inputs, dict):
                name = track.column.name
                inputs = {**inputs, name: transform.apply(as_numpy(inputs[name]))}
            else:
                inputs = transform.apply(as_numpy(inputs))
        return inputs, target

    def values_for(
        self, transform: Transform, chunks: Iterator[NDArray[np.int64]]
    ) -> Iterator[Values]:
        """The values that `transform` would meet, chunk by chunk of rows, for fitting it."""
        tracks = self._tracks_of(transform)
        if len(tracks) > 1:
            raise DataError(
                f"{type(transform).__name__.lower()}() learns from one field and a batch has "
                f"{len(tracks)}: {', '.join(self._inputs)}. Name one: column=…"
            )
        for rows in chunks:
            inputs, target = self.finish(self.gather(rows), rows, seed=0, epoch=0)
            if tracks[0] is self._target:
                yield as_numpy(target)
            else:
                yield as_numpy(
                    inputs[tracks[0].column.name] if isinstance(inputs, dict) else inputs
                )

    def _tracks_of(self, transform: Transform) -> list[_Track]:
        name = transform.column
        if name is None:
            return list(self._inputs.values())
        if name == self.data.target and self._target is not None:
            return [self._target]
        if name in self._inputs:
            return [self._inputs[name]]
        valid = [*self._inputs, *([self.data.target] if self.data.target else [])]
        why = (
            f"column {name!r} is stacked with others into one array, which is transformed whole"
            if any(name in track.source.names for track in self._inputs.values())
            else f"a batch of {self.data.name} has no field {name!r}.{did_you_mean(name, valid)}"
        )
        raise DataError(f"{why}. Valid are: {', '.join(valid)}.")


def _gather(
    track: _Track, rows: NDArray[np.int64], columns: dict[str, NDArray[Any]] | None
) -> Values:
    """The values of `rows`, cast and scaled, in a buffer of the track."""
    source, length = track.source, len(rows)
    dtype = track.cast or source.column.dtype
    if track.pool is not None and length <= track.pool.shape[0]:
        out = track.pool.take(length)
    else:
        out = np.empty((length, *source.column.shape), dtype)
    array = source.array
    if array is None:
        assert columns is not None  # read by the caller, since this source has no array
        array = (
            columns[source.names[0]]
            if len(source.names) == 1
            else np.stack([columns[name] for name in source.names], axis=1)
        )
        rows = np.arange(length)
    straight = array.flags.c_contiguous and array.dtype.isnative
    if not track.is_affine and array.dtype == dtype and straight:
        np.take(array, rows, axis=0, out=out, mode="clip")
        return out
    piece = max(1, _PIECE_BYTES // max(1, array.itemsize * int(np.prod(array.shape[1:]))))
    scratch = np.empty((min(piece, length), *array.shape[1:]), array.dtype) if straight else None
    for start in range(0, length, piece):
        stop = min(start + piece, length)
        if scratch is not None:
            # mode="clip" writes straight into `out`; the default mode copies through a buffer.
            # Row numbers come from a RowSet, which is checked against the length at birth.
            raw = np.take(array, rows[start:stop], axis=0, out=scratch[: stop - start], mode="clip")
        else:
            # take() would first copy the whole of an array that is not C-contiguous.
            raw = array[rows[start:stop]]
        if track.is_affine:
            _affine(raw, track.center, track.factor, out[start:stop])
        else:
            # As astype() converts: the dtype was asked for.
            np.copyto(out[start:stop], raw, casting="unsafe")
    return out


def _affine(
    raw: NDArray[Any],
    center: NDArray[np.float64] | float,
    factor: NDArray[np.float64] | float,
    out: NDArray[Any],
) -> None:
    """Set out to (raw - center) · factor, float32; wide values are centred in float64 first."""
    if np.can_cast(raw.dtype, np.float32):
        if np.any(center):
            np.subtract(raw, np.asarray(center, np.float32), out=out)
            np.multiply(out, np.asarray(factor, np.float32), out=out)
        else:
            np.multiply(raw, np.asarray(factor, np.float32), out=out)
    else:
        centred = np.subtract(raw, center, dtype=np.float64)
        np.multiply(centred, factor, out=out, casting="same_kind")
