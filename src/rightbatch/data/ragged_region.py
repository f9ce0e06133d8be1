"""Where a ragged column that is mapped into memory lies in its two files, and reading ahead."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.file_region import FileRegion, cut_off
from rightbatch.data.ragged import Ragged, changed_offsets

# So much is held of what is read ahead, however large an entry is.
_PIECE_BYTES = 1 << 20


class Entries(Protocol):
    """A ragged column that is mapped into memory, or fetched as its entries are asked for."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each entry begins and the next one does, (N + 1,)."""

    def __len__(self) -> int:
        """The number of entries."""

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """Copies of the entries `rows`, in any order."""


@dataclass(frozen=True, kw_only=True)
class RaggedRegion:
    """The files of values and offsets, and the column that lies in them."""

    ragged: Entries
    values: FileRegion
    offsets: FileRegion
    unit: str = "row"

    @property
    def path(self) -> Path:
        """The file that was cut off; that of the values where both are whole."""
        is_whole = self.offsets.whole_rows == self.offsets.length
        return self.values.path if is_whole else self.offsets.path

    @property
    def length(self) -> int:
        """How many entries there were when the files were opened."""
        return len(self.ragged)

    @property
    def whole_rows(self) -> int:
        """How many entries the files have now: reading others through the map ends the process."""
        # An entry needs the offset at its end; the first offset is no end.
        entries = max(0, min(self.length, self.offsets.whole_rows - 1))
        values = self.values.whole_rows
        if values == self.values.length:
            return entries
        ends = self.ragged.offsets[1 : entries + 1]
        return int(np.searchsorted(ends, values, side="right"))


class RaggedReader:
    """The file of the values, from which any number of threads may read ahead.

    It is opened at once, and closed by the caller; with `keeps_open=False` it is opened for every
    read. Raises DataError where it can not be opened.
    """

    def __init__(self, region: RaggedRegion, *, keeps_open: bool = True) -> None:
        self.region = region
        self._file = replace(region.values, unit="value").open(keeps_open=keeps_open)

    def read_ahead(self, start: int, stop: int) -> None:
        """Bring the entries `start` up to `stop` from the disk, for the map to find them.

        Raises DataError where a file ends too early or a value can not be read, which would end a
        process that reads through the map, and where the offsets were damaged.
        """
        whole_rows = self.region.whole_rows
        if stop > whole_rows:
            raise cut_off(self.region, max(start, whole_rows))
        values = self.region.values
        offsets = self.region.ragged.offsets[start : stop + 1]
        at, end = int(offsets[0]), int(offsets[-1])
        if at < 0 or end > values.length or (offsets[1:] < offsets[:-1]).any():
            raise changed_offsets()
        step = max(1, _PIECE_BYTES // values.row_bytes)
        scratch = np.empty((min(step, end - at), *values.shape), values.dtype)
        while at < end:
            count = min(step, end - at)
            self._file.read(at, scratch[:count])
            at += count

    def close(self) -> None:
        """Give the file back; not while somebody reads."""
        self._file.close()
