"""Where a ragged column that is mapped into memory lies in its two files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rightbatch.data.file_region import FileRegion
from rightbatch.data.ragged import Ragged


@dataclass(frozen=True, kw_only=True)
class RaggedRegion:
    """The files of values and offsets, and the column that was mapped from them."""

    ragged: Ragged
    values: FileRegion
    offsets: FileRegion

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
