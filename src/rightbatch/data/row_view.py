"""A data set that shows the samples of another one, row for row, in another way."""

from __future__ import annotations

from collections.abc import Sequence

from rightbatch.data.column import Column
from rightbatch.data.dataset import Dataset


class RowView(Dataset):
    """What holds of a sample of `data` whatever its columns are shown as.

    Name, own parts, notes, files and what else is known of the rows are those of `data`. What is
    known of columns is not: whole columns, regions of files and duplicates are for those who know
    what they have made of the columns.
    """

    def __init__(self, data: Dataset, columns: Sequence[Column], target: str | None) -> None:
        super().__init__(
            name=data.name,
            columns=columns,
            target=target,
            own_parts=data.own_parts,
            notes=data.notes,
        )
        self._data = data
        self.files = data.files
        self.remote_objects = data.remote_objects
        self.source_rows = data.source_rows
        self.overlap = data.overlap
        self.runs_others_code = data.runs_others_code

    def __len__(self) -> int:
        return len(self._data)

    def locate(self, row: int) -> str:
        """Where a row stands, as the data say."""
        return self._data.locate(row)

    def refuse_cut_off(self, stop: int) -> None:
        """Raise DataError where a file was cut off since, and lacks samples before `stop`."""
        self._data.refuse_cut_off(stop)

    def release_pages(self) -> None:
        """Let the process forget what it has read through memory maps."""
        self._data.release_pages()
