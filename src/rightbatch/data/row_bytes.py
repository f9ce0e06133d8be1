"""How many bytes a sample takes, column by column; of a ragged column, on average."""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import numpy as np

from rightbatch.data.column import Column
from rightbatch.data.dataset import Dataset
from rightbatch.data.ragged import Ragged

OFFSET_BYTES = np.dtype(np.int64).itemsize
# Of a column that is in no map so many entries are read to guess the size of the others.
_LOOKED_AT = 64
# Reading them once is enough.
_guesses: WeakKeyDictionary[Dataset, dict[str, int]] = WeakKeyDictionary()


def row_bytes(data: Dataset, column: Column) -> int:
    """The bytes of one sample in a column; of a ragged one the mean, offset included.

    >>> from rightbatch.data import open
    >>> from rightbatch.data.ragged import Ragged
    >>> data = open({"text": Ragged.from_list(["a", "four", "seven.."]), "y": [1.0, 2.0, 3.0]})
    >>> [row_bytes(data, column) for column in data.columns]
    [12, 8]
    """
    element = column.dtype.itemsize * math.prod(column.shape)
    if not column.is_ragged:
        return element
    # Asked first: a remote column is fetched by whoever asks for it.
    known = data.ragged_bytes(column.name)
    if known is not None:
        return OFFSET_BYTES + -(-known // len(data))
    ragged = data.ragged(column.name)
    if ragged is not None:
        return _mean_bytes(ragged)
    guesses = _guesses.setdefault(data, {})
    if column.name not in guesses:
        entries = data.span(0, min(len(data), _LOOKED_AT))[column.name]
        guesses[column.name] = _mean_bytes(entries)
    return guesses[column.name]


def _mean_bytes(ragged: Ragged) -> int:
    return OFFSET_BYTES + -(-ragged.values.nbytes // len(ragged))


def column_bytes(data: Dataset, column: Column) -> int:
    """The bytes of a whole column: exact where it lies in memory or in a map."""
    known = data.ragged_bytes(column.name) if column.is_ragged else None
    if known is not None:
        return len(data) * OFFSET_BYTES + known
    ragged = data.ragged(column.name) if column.is_ragged else None
    if ragged is None:
        return len(data) * row_bytes(data, column)
    return len(data) * OFFSET_BYTES + ragged.values.nbytes
