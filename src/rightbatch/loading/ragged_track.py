"""A ragged field on its way into a batch: the entries of its rows, as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rightbatch.data.ragged import Ragged, offsets_of
from rightbatch.data.row_bytes import row_bytes
from rightbatch.loading.fields import Field
from rightbatch.loading.track import Track


class RaggedTrack(Track):
    """One field of entries that vary in length; a batch of it is a `Ragged`.

    Transforms of single samples that take arrays refuse it; a function of a batch gets it. Every
    gather takes memory of its own, since no buffer fits the next one.
    """

    def __init__(self, source: Field) -> None:
        super().__init__(source)
        self._sample_bytes = row_bytes(source.data, source.column)

    @property
    @override
    def sample_bytes(self) -> int:
        """The size of one gathered sample, in bytes; the mean of all."""
        return self._sample_bytes

    @override
    def reserve(self, samples: int) -> None:
        """Nothing: there are no buffers."""

    @override
    def gather(self, rows: NDArray[np.int64], columns: dict[str, Any] | None = None) -> Any:
        """The entries of `rows`; `columns` are those rows of a source without whole columns."""
        if columns is not None:
            return self._finish(columns[self.source.names[0]])
        ragged: Any = self.source.array
        return self._finish(ragged.take(rows))

    @override
    def gather_from(self, array: Any, rows: NDArray[np.int64], length: int) -> Any:
        """The entries `rows` of a Ragged; past their number the last one is repeated."""
        entries = array.take(np.concatenate([rows, np.repeat(rows[-1:], length - len(rows))]))
        return self._finish(entries)


def track_of(source: Field) -> Track:
    """The track for a field."""
    return RaggedTrack(source) if source.column.is_ragged else Track(source)


def empty_entries(like: Ragged, count: int) -> Ragged:
    """Entries without a value, in place of samples that can not be read."""
    return Ragged(like.values[:0].copy(), offsets_of(np.zeros(count)), is_text=like.is_text)
