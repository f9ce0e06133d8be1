"""A data set with one column that can be read but is not an input."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset
from rightbatch.data.file_region import FileRegion
from rightbatch.data.ragged import Ragged
from rightbatch.data.ragged_region import RaggedRegion
from rightbatch.data.row_view import RowView


class WithoutInput(RowView):
    """The same samples, in which the column `hidden` is no longer an input.

    A column that says which samples belong together (a patient, a session) is needed to split
    the data and must not be learned from.

    >>> from rightbatch.data import open
    >>> data = open({"age": [3, 5], "patient": [1, 1], "ill": [0, 1]}, target="ill")
    >>> [column.name for column in WithoutInput(data, "patient").inputs]
    ['age']
    """

    def __init__(self, data: Dataset, hidden: str) -> None:
        data.column(hidden)
        super().__init__(data, data.columns, data.target)
        self.transforms = data.transforms
        if any(column.name == hidden for column in data.inputs):
            # Samples that differed in the hidden column alone are equal now.
            self.known_duplicates = None
        else:
            self.known_duplicates = data.known_duplicates
        self._hidden = hidden

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Every input of the data but the hidden column, in order."""
        return tuple(column for column in self._data.inputs if column.name != self._hidden)

    @property
    def fingerprint(self) -> str:
        """That of the data, and the name of what is hidden."""
        return f"{self._data.fingerprint}-without-{self._hidden}"

    def rows(self, indices: ArrayLike) -> Arrays:
        """The samples at `indices`, every column."""
        return self._data.rows(indices)

    def span(self, start: int, stop: int) -> Arrays:
        """The samples from `start` up to `stop`, every column."""
        return self._data.span(start, stop)

    def ragged_bytes(self, name: str) -> int | None:
        """The bytes of all values of a ragged column where the data know them."""
        return self._data.ragged_bytes(name)

    def region(self, name: str) -> FileRegion | None:
        """Where the rows of a column lie in a file, else None."""
        return self._data.region(name)

    def array(self, name: str) -> NDArray[Any] | None:
        """The whole column where it lies in memory, else None."""
        return self._data.array(name)

    def ragged(self, name: str) -> Ragged | None:
        """The whole ragged column where it lies in memory, else None."""
        return self._data.ragged(name)

    def ragged_region(self, name: str) -> RaggedRegion | None:
        """Where values and offsets of a ragged column lie in files, else None."""
        return self._data.ragged_region(name)
