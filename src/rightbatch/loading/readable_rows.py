"""Rows and their values, read around the samples that can not be read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.dataset import Dataset
from rightbatch.data.file_region import cut_off
from rightbatch.errors import BadSampleError, RemoteError
from rightbatch.loading.parts import Part
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.quarantine import Quarantine, fillers, read_around
from rightbatch.loading.row_reader import RowReader
from rightbatch.loading.transform import Values


class ReadableRows:
    """Gathers rows of a part; with a quarantine, what can not be read is left out.

    Any thread may gather.
    """

    def __init__(
        self, part: Part, pipeline: Pipeline, reader: RowReader, quarantine: Quarantine | None
    ) -> None:
        self._part = part
        self._pipeline = pipeline
        self._reader = reader
        self._quarantine = quarantine
        self._good_row: NDArray[np.int64] | None = None

    def gather(
        self, rows: NDArray[np.int64], length: int
    ) -> tuple[NDArray[np.int64], list[Values]]:
        """The values of `rows`, filled up to `length`, from arrays of all samples or the data.

        A row that is left out becomes -1, and has the values of another one. Raises what reading
        raises where nothing may be left out, BadSampleError where more is than may be.
        """
        self._look_for_cut_files(rows)
        quarantine = self._quarantine
        if quarantine is None:
            return rows, self._pipeline.gather_entries(_padded(rows, length))
        while True:
            is_bad = quarantine.is_bad(rows)
            readable = rows
            if is_bad.any():
                good = rows[fillers(is_bad)] if not is_bad.all() else self.any_good(len(rows))
                readable = np.where(is_bad, good, rows)
            try:
                values = self._pipeline.gather_entries(_padded(readable, length))
            except (MemoryError, RemoteError):
                raise
            except Exception:
                self._look_for_bad(rows)
                if np.array_equal(quarantine.is_bad(rows), is_bad):
                    raise  # the samples can be read, and what is made of them fails
                continue
            return np.where(is_bad, -1, rows), values

    def _look_for_cut_files(self, rows: NDArray[np.int64]) -> None:
        """DataError, or quarantine, where a mapped file has lost some of `rows`."""
        region = self._reader.cut_off()
        if region is None:
            return
        for row in rows[rows >= region.whole_rows].tolist():
            error = cut_off(region, row)
            if self._quarantine is None:
                raise error
            self._quarantine.add(row, str(error))

    def _look_for_bad(self, rows: NDArray[np.int64]) -> None:
        assert self._quarantine is not None  # else nobody looks
        data = self._part.data
        read_around(
            lambda first, last: _look_at(data, rows[first:last]),
            len(rows),
            self._quarantine,
            rows,
        )

    def any_good(self, count: int) -> NDArray[np.int64]:
        """A row of the part that can be read, as often as asked: of a slab no row can."""
        assert self._quarantine is not None  # else nothing is left out
        if self._good_row is None:
            self._good_row = self._find_good_row(self._quarantine)
        return np.repeat(self._good_row, count)

    def _find_good_row(self, quarantine: Quarantine) -> NDArray[np.int64]:
        for rows in self._part.rows.chunks():
            for row in rows[~quarantine.is_bad(rows)].reshape(-1, 1):
                self._look_for_bad(row)
                if not quarantine.is_bad(row).any():
                    return row
        raise BadSampleError(
            f"no sample of {self._part.data.name} can be read; repair the data",
            rows=quarantine.rows.tolist(),
        )


def _padded(rows: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Rows filled up by the last one, so that values of padding are valid; it weighs nothing."""
    missing = length - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing)]) if missing else rows


def _look_at(data: Dataset, rows: NDArray[np.int64]) -> None:
    data.rows(rows)
