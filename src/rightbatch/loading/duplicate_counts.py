"""How many held-out samples have the inputs of a sample on the other side of the split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rightbatch.plan.row_set import RowSet

KnownDuplicates = tuple[NDArray[np.int64], NDArray[np.int64]]


def count_duplicates(content: NDArray[np.int64], parts: Mapping[str, RowSet]) -> int:
    """The count from a code of every row's inputs, (N,): test against both, val against train.

    >>> halves = {"train": RowSet.from_range(4, 0, 2), "val": RowSet.from_range(4, 2, 4)}
    >>> count_duplicates(np.array([0, 1, 1, 2]), halves)
    1
    """
    return _count_straddling(
        {name: content[rows.take(np.arange(len(rows)))] for name, rows in parts.items()}
    )


def count_known_duplicates(known: KnownDuplicates, parts: Mapping[str, RowSet]) -> int:
    """The same count from the duplicates alone: every other sample is like no other one.

    >>> halves = {"train": RowSet.from_range(4, 0, 2), "val": RowSet.from_range(4, 2, 4)}
    >>> count_known_duplicates((np.array([2]), np.array([1])), halves)
    1
    """
    rows, firsts = known
    members = np.unique(firsts)
    rows, codes = np.concatenate([rows, members]), np.concatenate([firsts, members])
    return _count_straddling({name: codes[part.contains(rows)] for name, part in parts.items()})


def groups_of_known(length: int, known: KnownDuplicates) -> NDArray[np.int64]:
    """A code for each of `length` rows, the first row of equal inputs: equal inputs share one.

    >>> groups_of_known(4, (np.array([2]), np.array([1]))).tolist()
    [0, 1, 1, 3]
    """
    groups = np.arange(length, dtype=np.int64)
    groups[known[0]] = known[1]
    return groups


def _count_straddling(codes: Mapping[str, NDArray[np.int64]]) -> int:
    """The held-out samples whose code an earlier part has too, given each part's codes."""
    earlier: Sequence[NDArray[np.int64]] = [codes["train"]]
    duplicates = 0
    for name in ("val", "test"):
        if name in codes:
            duplicates += int(np.isin(codes[name], np.concatenate(earlier)).sum())
            earlier = [*earlier, codes[name]]
    return duplicates
