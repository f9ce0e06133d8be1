"""A ragged field on its way into a batch: the entries of its rows, or what they are decoded to."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rightbatch.data.ragged import Ragged, offsets_of
from rightbatch.data.row_bytes import row_bytes
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.affine import AffineMap
from rightbatch.loading.buffers import BufferPool
from rightbatch.loading.decode_images import DecodeImages
from rightbatch.loading.fields import Field
from rightbatch.loading.row_random import RowRandom
from rightbatch.loading.track import Track
from rightbatch.loading.transform import Transform, Values

# Beyond the streams that functions of a batch draw from, which count from 0.
_FIRST_STREAM = 1 << 32


class RaggedTrack(Track):
    """One field of entries that vary in length; a batch of it is a `Ragged`.

    Transforms of single samples take arrays and refuse it, but for `tokenize`, which makes other
    entries of them, and `decode_images`, which makes arrays: `gather` gives the entries, `decode`
    fills a batch's memory with what they hold, cast and scaled. A function of a batch gets the
    Ragged. Every gather of entries takes memory of its own, since no buffer fits the next one.
    """

    def __init__(self, source: Field) -> None:
        super().__init__(source)
        self.entry_bytes = row_bytes(source.data, source.column)
        self.decoder: DecodeImages | None = None
        self.stream = _FIRST_STREAM

    @property
    @override
    def sample_bytes(self) -> int:
        """The size of one gathered sample, in bytes; of entries the mean of all."""
        return self.entry_bytes if self.decoder is None else super().sample_bytes

    @override
    def add(self, transform: Transform) -> None:
        if isinstance(transform, DecodeImages) and self.decoder is None:
            self.column = self.gathered = transform.describe(self.column)
            self.decoder = transform
        else:
            super().add(transform)

    @override
    def reserve(self, samples: int) -> None:
        """Decode up to `samples` samples at once into buffers that are used again."""
        if self.decoder is not None:
            shape = (samples, *self.decoder.memory_shape)
            self._pool = BufferPool(shape, self.gathered_dtype)

    @override
    def gather(self, rows: NDArray[np.int64], columns: dict[str, Any] | None = None) -> Any:
        """The entries of `rows`; `columns` are those rows of a source without whole columns."""
        ragged: Any = self.source.array
        name = self.source.names[0]
        return self._entries(ragged.take(rows) if columns is None else columns[name])

    @override
    def gather_from(self, array: Any, rows: NDArray[np.int64], length: int) -> Any:
        """The entries `rows` of a Ragged; past their number the last one is repeated."""
        entries = array.take(np.concatenate([rows, np.repeat(rows[-1:], length - len(rows))]))
        return self._entries(entries)

    def _entries(self, entries: Any) -> Any:
        """The entries after the transforms that take them; those after `decode` wait for it."""
        return self._finish(entries) if self.decoder is None else entries

    def room(self, samples: int) -> Values:
        """Memory for so many decoded samples, (samples, height, width, 3); the content is any."""
        if self._pool is not None and samples <= self._pool.shape[0]:
            return self._pool.take(samples)
        assert self.decoder is not None  # entries that are not decoded have no shape
        return np.empty((samples, *self.decoder.memory_shape), self.gathered_dtype)

    def decode(
        self, entries: Ragged, rows: NDArray[np.int64], out: Values, *, seed: int, epoch: int
    ) -> dict[int, str]:
        """Decode entries into `out`, a piece of a `room`; gives what is wrong with which of them.

        `rows` are those that random draws belong to.
        """
        assert self.decoder is not None  # the caller has asked
        draws = self.decoder.draws(RowRandom(seed=seed, epoch=epoch, rows=rows, stream=self.stream))
        is_straight = self.affine is None and out.dtype == np.uint8
        scratch = None if is_straight else np.empty(self.decoder.memory_shape, np.uint8)
        wrong = {}
        is_row = rows >= 0  # padding, and what is left out, is none
        whole = self._whole[rows] & is_row
        for place, entry in enumerate(entries):
            raw = out[place] if scratch is None else scratch
            try:
                self.decoder.decode(entry, place, draws, raw, is_whole=bool(whole[place]))
            except DataError as error:
                wrong[place] = str(error)
                continue
            if scratch is not None:
                # Image by image, while it is in the processor's cache.
                self._settle(scratch, out[place])
        is_row[list(wrong)] = False
        if not self.source.data.runs_others_code:  # else another image may come next time
            self._whole[rows[is_row]] = True
        return wrong

    def decoded(self, room: Values) -> Values:
        """A room that has been filled, its axes as asked for, after later transforms."""
        assert self.decoder is not None  # the caller has asked
        return self._finish(self.decoder.arranged(room))

    def decode_all(
        self, entries: Ragged, rows: NDArray[np.int64], *, seed: int, epoch: int
    ) -> Values:
        """The entries of `rows`, decoded; DataError with file and row where one can not be."""
        room = self.room(len(entries))
        wrong = self.decode(entries, rows, room, seed=seed, epoch=epoch)
        for place, reason in wrong.items():
            raise wrong_entry(self.source, int(rows[place]), reason)
        return self.decoded(room)

    def _settle(self, image: NDArray[np.uint8], out: Values) -> None:
        if self._affine_of_memory is None:
            np.copyto(out, image, casting="unsafe")
            return
        affine, is_by_channel = self._affine_of_memory
        if is_by_channel:
            affine(image.reshape(-1, image.shape[-1]), out=out.reshape(-1, out.shape[-1]))
        else:
            affine(image[None], out=out[None])

    @cached_property
    def _whole(self) -> NDArray[np.bool_]:
        """Which rows have been decoded to their end by this track: they are not damaged."""
        return np.zeros(len(self.source.data), np.bool_)

    @cached_property
    def _affine_of_memory(self) -> tuple[AffineMap, bool] | None:
        """The map for samples as they lie in memory, and whether it is one for each channel."""
        if self.affine is None:
            return None
        assert self.decoder is not None  # scaling comes after it
        center, factor = (
            _as_in_memory(parameter, self.decoder)
            for parameter in (self.affine.center, self.affine.factor)
        )
        return AffineMap(center, factor), max(center.ndim, factor.ndim) <= 1


def _as_in_memory(parameter: NDArray[np.float64], decoder: DecodeImages) -> NDArray[np.float64]:
    """A parameter of the per-sample shape with its axes as they lie in memory.

    One that differs by channel alone is (3,).
    """
    if parameter.ndim == 0:
        return parameter
    whole = parameter.reshape((1,) * (3 - parameter.ndim) + parameter.shape)
    if decoder.channels == "first":
        whole = whole.transpose(1, 2, 0)
    return whole.reshape(-1) if whole.shape[:2] == (1, 1) else np.ascontiguousarray(whole)


def wrong_entry(source: Field, row: int, reason: str) -> DataError:
    """The error that an entry can not be decoded, with its file or row."""
    place = source.data.locate(row)
    return DataError(
        f"{source.data.name}: column {source.names[0]!r}, {place}: {reason}. Repair or remove it, "
        'or train without such samples: on_bad_sample="quarantine", max_bad=… (--on-bad-sample '
        "quarantine --max-bad COUNT)"
    )


def track_of(source: Field) -> Track:
    """The track for a field."""
    return RaggedTrack(source) if source.column.is_ragged else Track(source)


def empty_entries(like: Ragged, count: int) -> Ragged:
    """Entries without a value, in place of samples that can not be read."""
    return Ragged(like.values[:0].copy(), offsets_of(np.zeros(count)), is_text=like.is_text)


def refuse_late_decoding() -> OptionError:
    """What to say where images are to be decoded after a function of a batch."""
    return OptionError(
        "decode_images() comes after a function of a batch: images are decoded first, on threads. "
        "Attach it before the function"
    )
