"""What a table can be read from: a file or a frame with named columns and rows to point at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from rightbatch.data.bad_rows import BadRow


class TableFile(ABC):
    """One file (or frame) of a table: its column names are known before its values are read."""

    label: str
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    # Rows of the wrong length that were left out when the file was read.
    bad_rows: tuple[BadRow, ...] = ()

    @abstractmethod
    def read(self, columns: Sequence[str]) -> Any:
        """The chosen columns as a pyarrow.Table, in that order, null where a value is missing."""

    @abstractmethod
    def locate(self, row: int) -> str:
        """Where data row `row` (from 0) stands, as a person would count: file and line."""


def is_number(text: str) -> bool:
    """Whether a field's text reads as a number, as names of columns should not.

    >>> is_number("39"), is_number("age")
    (True, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return True
