"""A slab whose samples are decoded, piece by piece, by whichever threads have time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.ragged import Ragged
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.quarantine import Quarantine, fillers
from rightbatch.loading.ragged_track import RaggedTrack, wrong_entry
from rightbatch.loading.transform import Values

# Encoded bytes a piece: some milliseconds of work, beside which handing it out costs nothing.
_PIECE_BYTES = 1 << 20
_MOST_SAMPLES = 64
# Slabs that are decoded ahead of the one that the consumer waits for.
_SLABS_AHEAD = 2
# Of large batches so many decoded bytes are made ahead, and no whole batches.
_AHEAD_BYTES = 256 << 20

Gathered = tuple[NDArray[np.int64], list[Values]]
GatherSpan = Callable[[int, int, int], Gathered]
"""From places start and stop of a slab, and a length to fill up to: rows, and field values."""


def samples_per_piece(pipeline: Pipeline) -> int:
    """How many samples one thread reads and decodes at a time."""
    entry_bytes = sum(track.entry_bytes for track in pipeline.decoding_tracks)
    return min(_MOST_SAMPLES, max(1, _PIECE_BYTES // max(1, entry_bytes)))


def pieces_ahead(
    slab_samples: int, piece_samples: int, threads: int, *, sample_bytes: int = 1
) -> int:
    """How many pieces may be done before the consumer asks: whole slabs, so that memory is bound.

    Of slabs that are large they are fewer.

    >>> pieces_ahead(32, 16, 2), pieces_ahead(1024, 16, 2, sample_bytes=600_000)
    (6, 29)
    """
    whole = _SLABS_AHEAD * -(-slab_samples // piece_samples)
    affordable = _AHEAD_BYTES // (piece_samples * sample_bytes)
    return max(1, min(whole, affordable)) + threads


class DecodedSlab:
    """The pieces of one slab as tasks, the last of which to end makes the slab.

    So a batch is there as soon as all threads together can decode it, and memory holds few of them
    however many threads there are. The pieces depend on nothing but the slab: any thread gives the
    same samples.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        gather: GatherSpan,
        *,
        samples: int,
        length: int,
        piece_samples: int,
        seed: int,
        epoch: int,
        quarantine: Quarantine | None,
        finish: Callable[[Gathered], Any],
    ) -> None:
        self._pipeline = pipeline
        self._gather = gather
        self._length = length
        self._seed = seed
        self._epoch = epoch
        self._quarantine = quarantine
        self._finish = finish
        starts = range(0, samples, piece_samples)
        self._spans = [(start, min(start + piece_samples, samples)) for start in starts]
        self._row_ids = np.empty(samples, np.int64)
        self._pieces: list[list[Any]] = [[] for _ in self._spans]
        self._errors: dict[int, Exception] = {}
        self._rooms: dict[int, Values] = {}
        self._left = len(self._spans)
        self._lock = threading.Lock()

    def tasks(self) -> Iterator[Callable[[], Any]]:
        """One task a piece: it gives the slab where it was the last to end, else None."""
        return (partial(self._run, number) for number in range(len(self._spans)))

    def _run(self, number: int) -> Any:
        try:
            self._fill(number)
        except Exception as error:  # raised by the last piece, the same one whoever was faster
            self._errors[number] = error
        with self._lock:
            self._left -= 1
            if self._left:
                return None
        if self._errors:
            raise self._errors[min(self._errors)]
        return self._finish(self._gathered())

    def _fill(self, number: int) -> None:
        """Gather a piece and decode it into its place in the slab's memory."""
        start, stop = self._spans[number]
        is_last = number == len(self._spans) - 1
        end = self._length if is_last else stop
        row_ids, gathered = self._gather(start, stop, end - start)
        values: list[Any] = list(gathered)
        # Padding repeats the last sample; what is drawn for it is of no account.
        rows = np.concatenate([row_ids, np.full(end - start - len(row_ids), -1)])
        tracks = self._pipeline.tracks
        for place, track in enumerate(tracks):
            if isinstance(track, RaggedTrack) and track.decoder is not None:
                self._decode(track, values[place], rows, self._room(place, track)[start:end])
                values[place] = None  # the bytes are let go
        self._row_ids[start:stop] = rows[: stop - start]
        self._pieces[number] = values

    def _room(self, place: int, track: RaggedTrack) -> Values:
        with self._lock:
            if place not in self._rooms:
                self._rooms[place] = track.room(self._length)
            return self._rooms[place]

    def _decode(
        self, track: RaggedTrack, entries: Ragged, rows: NDArray[np.int64], out: Values
    ) -> None:
        """Decode a piece; what can not be is quarantined, and `rows` say -1 of it.

        In its place is another sample of the piece, or black where there is none.
        """
        if self._quarantine is not None and (rows < 0).all():
            out[...] = 0
            return
        wrong = track.decode(entries, rows, out, seed=self._seed, epoch=self._epoch)
        if not wrong:
            return
        for place, reason in wrong.items():
            row = int(rows[place])
            if self._quarantine is None:
                raise wrong_entry(track.source, row, reason)
            if row >= 0:
                self._quarantine.add(row, f"{track.source.data.locate(row)}: {reason}")
                rows[place] = -1
        is_bad = rows < 0
        if is_bad.all():
            out[...] = 0
            return
        filled = np.array(sorted(wrong))
        out[filled] = out[fillers(is_bad)[filled]]

    def _gathered(self) -> Gathered:
        values: list[Values] = []
        for place, track in enumerate(self._pipeline.tracks):
            if isinstance(track, RaggedTrack) and track.decoder is not None:
                values.append(track.decoded(self._rooms.pop(place)))
            else:
                values.append(_joined([piece[place] for piece in self._pieces]))
        self._pieces.clear()
        return self._row_ids, values


def _joined(pieces: Sequence[Any]) -> Any:
    if len(pieces) == 1:
        return pieces[0]
    if isinstance(pieces[0], Ragged):
        return Ragged.concatenate(pieces)
    return np.concatenate(pieces)
