"""A column of a pack: its description and the files of its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays
from rightbatch.data.packed_array import PackedArray
from rightbatch.data.packed_ragged import PackedOffsets, map_ragged

# Of the thousand or so files that a process may open, others need some.
_MOST_OPEN_FILES = 64


@dataclass(frozen=True, kw_only=True)
class PackedColumn:
    """A column of the pack: its description and the file of its values.

    A ragged column has a second file, its `offsets`.
    """

    name: str
    categories: tuple[str, ...] | None
    array: PackedArray
    offsets: PackedOffsets | None = None
    is_text: bool = False
    is_token: bool = False

    @property
    def column(self) -> Column:
        """The column as a Dataset describes it."""
        return Column(
            name=self.name,
            dtype=self.array.dtype,
            shape=self.array.shape[1:],
            categories=self.categories,
            is_ragged=self.offsets is not None,
            is_text=self.is_text,
            is_token=self.is_token,
        )

    @property
    def files(self) -> dict[str, PackedArray]:
        """The files by what they are for."""
        role = f"column {self.name!r}"
        if self.offsets is None:
            return {role: self.array}
        return {f"values of {role}": self.array, f"offsets of {role}": self.offsets}

    @property
    def identity(self) -> list[Any]:
        """What two packings must share, as JSON: the number of values is known in the end only."""
        described = [self.name, self.categories, self.array.file, self.array.dtype.str]
        if self.offsets is None:
            return [*described, self.array.shape]
        return [*described, self.array.shape[1:], self.offsets.file, self.is_text]


def map_columns(folder: Path, columns: Sequence[PackedColumn]) -> Arrays:
    """The columns' values by name, mapped into memory.

    Raises DataError where a file is missing, damaged or other than described.
    """
    keeps_open = sum(len(column.files) for column in columns) <= _MOST_OPEN_FILES
    mapped: Arrays = {}
    for column in columns:
        role = f"column {column.name!r}"
        mapped[column.name] = (
            column.array.map(folder, role, keeps_open=keeps_open)
            if column.offsets is None
            else map_ragged(
                folder,
                role,
                column.array,
                column.offsets,
                is_text=column.is_text,
                keeps_open=keeps_open,
            )
        )
    return mapped
