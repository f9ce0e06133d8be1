"""A column: one named array of a data set, described without its values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Column:
    """The name, dtype and per-sample shape of one column.

    `shape` leaves out the sample axis: a 28 x 28 image has `(28, 28)`, a scalar `()`.
    `categories` are the texts that the integer codes of the column stand for, in code order;
    None where the column holds numbers of its own. In a column that `is_ragged` the samples differ
    in the length of a first axis that `shape` leaves out as well: bytes and texts have `()`. A
    column that `is_text` is ragged, and its bytes are UTF-8. A column that `is_token` holds codes
    of a vocabulary, to be looked up and never to be calculated with.

    >>> Column(name="image", dtype=np.dtype("uint8"), shape=(28, 28)).kind
    'uint8[28, 28]'
    >>> Column(name="review", dtype=np.dtype("uint8"), is_ragged=True, is_text=True).kind
    'uint8[…]'
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...] = ()
    categories: tuple[str, ...] | None = None
    is_ragged: bool = False
    is_text: bool = False
    is_token: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether the samples are arrays of one shape, with which arithmetic makes sense.

        Booleans count as 0 and 1.
        """
        return self.dtype.kind in "buif" and not self.is_ragged

    @property
    def kind(self) -> str:
        """The dtype and the sizes of one sample, for people; `…` is a size that varies."""
        sizes = ["…"] * self.is_ragged + [str(size) for size in self.shape]
        return f"{self.dtype}[{', '.join(sizes)}]" if sizes else str(self.dtype)
