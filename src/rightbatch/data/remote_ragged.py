"""A column of entries of varying length in two remote objects: values and offsets."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.ragged import Ragged, offsets_of, wrong_offsets
from rightbatch.data.ragged_region import RaggedRegion
from rightbatch.data.remote_blocks import BLOCK_BYTES, block_memory
from rightbatch.data.remote_region import RemoteColumn
from rightbatch.errors import DataError

_BLOCKS_AT_ONCE = 32


class RemoteRagged:
    """The entries of `values`, one after another, and where they end.

    The offsets are fetched once and held, 8 bytes an entry; the values are fetched as entries are
    asked for. Raises DataError where the offsets do not fit the values.
    """

    def __init__(self, values: RemoteColumn, offsets: RemoteColumn, *, is_text: bool) -> None:
        self.values = values
        self.is_text = is_text
        self._stored_offsets = offsets

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each entry begins and the next one does, (N + 1,)."""
        offsets: NDArray[np.int64] = self._stored_offsets[0 : len(self) + 1]
        problem = wrong_offsets(offsets, len(self.values))
        if problem is not None:
            raise DataError(
                f"{self._stored_offsets.path} is damaged: {problem}. Put the file back from a "
                "copy, or pack the data anew."
            )
        return offsets

    @property
    def region(self) -> RaggedRegion:
        """Where values and offsets lie, for a loader that reads them in windows."""
        return RaggedRegion(
            ragged=self, values=self.values.region, offsets=self._stored_offsets.region
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of entries, and the shape of a value."""
        return (len(self), *self.values.shape[1:])

    @property
    def nbytes(self) -> int:
        """The bytes of values and offsets."""
        return self.values.nbytes + self._stored_offsets.nbytes

    def __len__(self) -> int:
        return len(self._stored_offsets) - 1

    def __getitem__(self, rows: slice) -> Ragged:
        start, stop, _ = rows.indices(len(self))
        offsets = self.offsets[start : max(start, stop) + 1]
        values = self.values[int(offsets[0]) : int(offsets[-1])]
        return Ragged.of_checked(values, offsets - offsets[0], self.is_text)

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """Copies of the entries `rows`, in any order."""
        starts, stops = self.offsets[rows], self.offsets[rows + 1]
        offsets = offsets_of(stops - starts)
        values = np.empty((int(offsets[-1]), *self.values.shape[1:]), self.dtype)
        order = np.argsort(starts, kind="stable")
        for group in np.array_split(order, max(1, -(-len(order) // _BLOCKS_AT_ONCE))):
            self._bring(starts[group], stops[group])
            for place in group.tolist():
                out = values[offsets[place] : offsets[place + 1]]
                self.values.read(int(starts[place]), out)
        return Ragged.of_checked(values, offsets, self.is_text)

    def _bring(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Bring the blocks in which entries begin side by side, for reading to find them."""
        begins = self.values.offset + starts[stops > starts] * self.values.row_bytes
        if len(begins):
            file = self.values.path.remote_file()
            block_memory().get(file, np.unique(begins // BLOCK_BYTES).tolist())
