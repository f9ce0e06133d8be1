"""What ties samples together in a split, as a whole number a sample: columns and equal content."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Dataset
from rightbatch.data.duplicates import equal_content_groups
from rightbatch.errors import DataError, RemoteError
from rightbatch.plan.row_set import RowSet

logger = logging.getLogger(__name__)

_PIECE_ROWS = 4096


def column_codes(data: Dataset, name: str, option: str, candidates: RowSet) -> NDArray[np.int64]:
    """Codes 0, 1, … of a column's distinct values, for the candidate rows."""
    column: Column = data.column(name)
    if (
        column.shape != ()
        or column.is_ragged
        or (option == "stratify" and column.dtype.kind == "f")
    ):
        raise DataError(
            f"{option}={name!r}: the column is {column.dtype} of shape {column.shape}"
            f"{', in entries that vary in length' if column.is_ragged else ''}; "
            f"{option} takes a column of one whole number or text a sample"
        )
    data.refuse_cut_off(len(data))
    values = data.array(name)
    if values is None:
        values = np.concatenate([data.rows(rows)[name] for rows in _pieces(candidates)])
    else:
        values = values[candidates.take(np.arange(len(candidates)))]
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def content_groups(data: Dataset, *, asked: bool) -> NDArray[np.int64] | None:
    """Groups of samples of equal inputs; None where a sample can not be read and nobody asked."""
    try:
        return equal_content_groups(data)
    except (MemoryError, RemoteError):
        raise
    except Exception as error:
        if asked:
            raise DataError(
                f"{data.name}: samples of equal inputs can not be looked for, since not all can be "
                f"read: {type(error).__name__}: {error}"
            ) from error
        logger.warning(
            f"{data.name}: samples of equal inputs were not looked for, since not all can be read: "
            f"{type(error).__name__}: {error}"
        )
        return None


def merged_groups(
    groups: NDArray[np.int64] | None, content: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Groups such that samples of one group, or of equal content, are in one: their union."""
    if groups is None:
        return np.unique(content, return_inverse=True)[1].astype(np.int64)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(max(groups.max(), content.max())) + 1
    # A bipartite graph of groups and contents, an edge a sample: its components are the union.
    edges = coo_array(
        (np.ones(len(groups), np.int8), (groups, content + size)), shape=(2 * size, 2 * size)
    )
    labels = connected_components(edges, directed=False)[1]
    return np.unique(labels[groups], return_inverse=True)[1].astype(np.int64)


def _pieces(rows: RowSet) -> Iterator[NDArray[np.int64]]:
    for chunk in rows.chunks():
        for start in range(0, len(chunk), _PIECE_ROWS):
            yield chunk[start : start + _PIECE_ROWS]
