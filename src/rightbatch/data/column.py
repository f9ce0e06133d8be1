"""A column: one named array of a data set, described without its values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Column:
    """The name, dtype and per-sample shape of one column.

    `shape` leaves out the sample axis: a 28 x 28 image has `(28, 28)`, a scalar `()`.
    `categories` are the texts that the integer codes of the column stand for, in code order;
    None where the column holds numbers of its own.

    >>> Column(name="age", dtype=np.dtype("int64"))
    Column(name='age', dtype=dtype('int64'), shape=(), categories=None)
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...] = ()
    categories: tuple[str, ...] | None = None

    @property
    def is_numeric(self) -> bool:
        """Whether arithmetic on the values makes sense (booleans count as 0 and 1)."""
        return self.dtype.kind in "buif"
