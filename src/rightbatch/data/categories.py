"""Text to integer codes in sorted order, or to one column of zeros and ones a category."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import DataError

# Past this, a one-hot column is an identifier, and the columns would not fit in memory.
MOST_ONE_HOT_CATEGORIES = 10_000


def encode_texts(texts: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Codes (int64, the shape of `texts`) and the distinct texts in code order, sorted.

    >>> encode_texts(np.array(["b", "a", "b"]))
    (array([1, 0, 1]), ('a', 'b'))
    """
    categories, codes = np.unique(texts, return_inverse=True)
    names = [
        text.decode("utf-8", errors="replace") if isinstance(text, bytes) else str(text)
        for text in categories.tolist()
    ]
    return codes.reshape(texts.shape).astype(np.int64, copy=False), tuple(names)


def encode_arrow_texts(column: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The same for an Arrow chunked array of strings without nulls."""
    import pyarrow as pa

    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    texts = encoded.dictionary.to_pylist()
    in_order = sorted(range(len(texts)), key=texts.__getitem__)
    codes = np.empty(len(texts), dtype=np.int64)
    codes[in_order] = np.arange(len(texts))
    return codes[encoded.indices.to_numpy()], tuple(texts[index] for index in in_order)


def smallest_codes(codes: NDArray[np.int64], count: int) -> NDArray[Any]:
    """The codes of `count` categories in the smallest signed integer that holds them."""
    return codes.astype(np.min_scalar_type(-max(1, count)), copy=False)


def one_hot_columns(
    name: str, codes: NDArray[np.int64], categories: Sequence[str]
) -> dict[str, NDArray[np.uint8]]:
    """One uint8 column a category, called "name=category", 1 where the code is the category's.

    Raises DataError for more than 10,000 categories.

    >>> columns = one_hot_columns("sex", np.array([1, 0]), ["F", "M"])
    >>> {name: column.tolist() for name, column in columns.items()}
    {'sex=F': [0, 1], 'sex=M': [1, 0]}
    """
    if len(categories) > MOST_ONE_HOT_CATEGORIES:
        raise DataError(
            f"Column {name!r} has {len(categories):,} different texts, too many for one-hot columns"
            f" (at most {MOST_ONE_HOT_CATEGORIES:,}); use categories='codes', or leave it out by "
            "choosing other columns."
        )
    return {
        f"{name}={category}": (codes == code).astype(np.uint8)
        for code, category in enumerate(categories)
    }
