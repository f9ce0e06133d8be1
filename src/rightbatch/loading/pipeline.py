"""Rows in, batch arrays out: gather, cast and transforms of a part, compiled once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.dataset import Dataset
from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError, did_you_mean
from rightbatch.loading.decode_images import DecodeImages
from rightbatch.loading.fields import STACKED, input_fields, single_field
from rightbatch.loading.ragged_track import RaggedTrack, refuse_late_decoding, track_of
from rightbatch.loading.row_random import RowRandom
from rightbatch.loading.track import Track
from rightbatch.loading.transform import Function, Inputs, Transform, Values, as_numpy

# Fitting turns what is decoded into float64 and some more arrays of that size.
_DECODED_BYTES = 4 << 20


class Pipeline:
    """The way from row numbers to the arrays of a batch, for one data set and its transforms.

    `transforms` must be fitted. Transforms of single samples run on as many batches at once as
    the caller asks for; from the first `Function` on, what follows runs batch by batch.
    `narrows=False` leaves wide stacked columns wide, for fitting the transform that comes next.
    `stacks=False` makes no array of all samples of stacked columns, for reading a few of them.
    """

    def __init__(
        self,
        data: Dataset,
        transforms: Sequence[Transform | Function],
        *,
        narrows: bool = True,
        stacks: bool = True,
    ) -> None:
        self.data = data
        self._stacks = stacks
        self._inputs = {name: track_of(source) for name, source in input_fields(data).items()}
        self._is_dict = len(self._inputs) > 1
        self._target: Track | None = None
        if data.target is not None:
            source = single_field(data, data.column(data.target))
            self._target = track_of(source)
        self._by_batch: list[Function | tuple[Track, Transform]] = []
        decoders = 0
        for transform in transforms:
            if isinstance(transform, Function):
                self._by_batch.append(transform.of_fields(self.input_names))
                continue
            decodes = isinstance(transform, DecodeImages)
            if decodes and self._by_batch:
                raise refuse_late_decoding()
            for track in self._tracks_of(transform):
                if isinstance(track, RaggedTrack) and decodes:
                    track.stream += decoders
                if self._by_batch:
                    self._by_batch.append((track, transform))
                else:
                    track.add(transform)
            decoders += decodes
        stacked = self._inputs.get(STACKED)
        # A function gets a batch as it is described, float32, also while a later step is fitted.
        if (
            stacked is not None
            and len(stacked.source.names) > 1
            and stacked.cast is None
            and (narrows or self._by_batch)
        ):
            stacked.narrow()

    @cached_property
    def tracks(self) -> list[Track]:
        """Every field, inputs first."""
        return [*self._inputs.values(), *([self._target] if self._target else [])]

    @cached_property
    def decoding_tracks(self) -> list[RaggedTrack]:
        """The fields whose entries are decoded."""
        return [
            track
            for track in self.tracks
            if isinstance(track, RaggedTrack) and track.decoder is not None
        ]

    @property
    def input_names(self) -> list[str]:
        """The names of the input fields."""
        return list(self._inputs)

    @property
    def has_functions(self) -> bool:
        """Whether anything runs batch by batch."""
        return bool(self._by_batch)

    @property
    def first_function(self) -> str:
        """The name of the first function that runs batch by batch; "" where there is none."""
        functions = [step for step in self._by_batch if isinstance(step, Function)]
        return functions[0].name if functions else ""

    @property
    def has_ragged(self) -> bool:
        """Whether a field has entries that vary in length, before any function."""
        return any(track.column.is_ragged for track in self.tracks)

    @property
    def is_plain(self) -> bool:
        """Whether `gather` gives the batch as it is: inputs as one array, nothing after it."""
        return not self._is_dict and not self._by_batch

    @property
    def sample_bytes(self) -> int:
        """The size of one gathered and cast sample, in bytes."""
        return max(1, sum(track.sample_bytes for track in self.tracks))

    def reserve(self, samples: int) -> None:
        """Make room for pieces of up to `samples` samples in buffers that are used again."""
        for track in self.tracks:
            track.reserve(samples)

    def gather(self, rows: NDArray[np.int64], *, seed: int = 0, epoch: int = 0) -> list[Values]:
        """The fields of `rows` after gathering, casting and the transforms of single samples.

        Raises DataError, naming the file or row, where a sample can not be decoded.
        """
        found: list[Any] = self.gather_entries(rows)
        for place, track in enumerate(self.tracks):
            if isinstance(track, RaggedTrack) and track.decoder is not None:
                found[place] = track.decode_all(found[place], rows, seed=seed, epoch=epoch)
        return found

    def gather_entries(self, rows: NDArray[np.int64]) -> list[Values]:
        """The same, but for fields that are decoded: those are a `Ragged` of their entries."""
        if not self._stacks and len(rows):
            self.data.refuse_cut_off(int(rows.max()) + 1)
        columns = None if self.has_arrays else self.data.rows(rows)
        return [track.gather(rows, columns) for track in self.tracks]

    @cached_property
    def has_arrays(self) -> bool:
        """Whether every field can be gathered from an array of all samples."""
        return all(
            (self._stacks or not track.source.is_stacked) and track.source.array is not None
            for track in self.tracks
        )

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
                target = transform.apply(_values(target))
            elif isinstance(inputs, dict):
                name = track.column.name
                inputs = {**inputs, name: transform.apply(_values(inputs[name]))}
            else:
                inputs = transform.apply(_values(inputs))
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
        if tracks[0].column.is_ragged and not self._by_batch:
            transform.describe(tracks[0].column)  # refuses it
        for rows in self._in_pieces(chunks):
            inputs, target = self.finish(self.gather(rows), rows, seed=0, epoch=0)
            if tracks[0] is self._target:
                yield _values(target)
            else:
                yield _values(inputs[tracks[0].column.name] if isinstance(inputs, dict) else inputs)

    def _in_pieces(self, chunks: Iterator[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """Chunks of rows, smaller ones where samples are decoded: they may be large."""
        step = _DECODED_BYTES // self.sample_bytes if self.decoding_tracks else None
        for rows in chunks:
            width = max(1, len(rows) if step is None else step)
            yield from (rows[start : start + width] for start in range(0, len(rows), width))

    def _tracks_of(self, transform: Transform) -> list[Track]:
        name = transform.column
        if name is None and isinstance(transform, DecodeImages):
            inputs = list(self._inputs.values())
            return [track for track in inputs if transform.takes(track.column)] or inputs
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


def _values(values: Any) -> Any:
    """What a transform of single samples is given: an array, or entries of varying length."""
    return values if isinstance(values, Ragged) else as_numpy(values)
