"""The fields of a batch: which arrays it has, and where their values come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rightbatch.data.column import Column
from rightbatch.data.dataset import Dataset
from rightbatch.errors import DataError

STACKED = "inputs"


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """One array of a batch, before any transform.

    `names` are the columns it is made of: one, or several numeric columns stacked side by side.
    """

    data: Dataset
    column: Column
    names: tuple[str, ...]

    @property
    def is_stacked(self) -> bool:
        """Whether several columns stand side by side in it."""
        return len(self.names) > 1

    @cached_property
    def array(self) -> Any:
        """The values of all samples where the data have them in memory or in a memory map.

        An array, or a `Ragged` where the column is ragged; None where they have to be read row by
        row. Stacked columns are stacked when this is asked for, which takes memory for all samples.
        """
        if self.is_stacked:
            return self.data.stacked(self.names, self.column.dtype)
        name = self.names[0]
        return self.data.ragged(name) if self.column.is_ragged else self.data.array(name)


def input_fields(data: Dataset) -> dict[str, Field]:
    """The input fields of a batch by name.

    One input column is a field of its own; several numeric columns of one value a sample are
    stacked, in column order, into the field `inputs` (B, F); other mixtures are a field a column.
    Raises DataError where there is no input column.
    """
    inputs = data.inputs
    if not inputs:
        raise DataError(
            f"{data.name} has no input column: its only column, {data.target!r}, is the target"
        )
    if len(inputs) > 1 and all(column.is_numeric and column.shape == () for column in inputs):
        names = tuple(column.name for column in inputs)
        dtype = _stacked_dtype([column.dtype for column in inputs])
        return {
            STACKED: Field(
                data=data,
                column=Column(name=STACKED, dtype=dtype, shape=(len(names),)),
                names=names,
            )
        }
    return {column.name: single_field(data, column) for column in inputs}


def single_field(data: Dataset, column: Column) -> Field:
    """The field of one column as it is."""
    return Field(data=data, column=column, names=(column.name,))


def _stacked_dtype(dtypes: list[np.dtype[Any]]) -> np.dtype[Any]:
    # Wide columns stay float64 until the transforms have run: a standardised time stamp needs
    # its digits. The batch is float32 in the end.
    narrow = all(np.can_cast(dtype, np.float32) for dtype in dtypes)
    return np.dtype(np.float32 if narrow else np.float64)
