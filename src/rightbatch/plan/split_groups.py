"""Groups in a split: whole groups go to one part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import OptionError
from rightbatch.plan.hashing import derive_key
from rightbatch.plan.permutation import permute_span
from rightbatch.plan.rounding import stratum_quotas


def assign_groups(
    sizes: tuple[int, int, int],
    key: int,
    codes: NDArray[np.int64],
    stratum_codes: NDArray[np.int64] | None,
) -> NDArray[np.uint8]:
    """The part (0 train, 1 val, 2 test) of each group.

    `sizes` are the samples asked for by part, `codes` the group of each sample (dense codes),
    `stratum_codes` the stratum of each sample. Groups are shuffled by `key`; within each stratum
    the first ones go to val up to the cut nearest to val's quota, the next to test. What a
    stratum's cut misses is carried to the next stratum, so that misses do not add up. A part
    that was asked for and got nothing takes the smallest group of the part that has most groups.

    Raises OptionError where there are fewer groups than parts.
    """
    group_sizes = np.bincount(codes)
    asked = [number for number, size in enumerate(sizes) if size]
    if len(group_sizes) < len(asked):
        raise OptionError(
            f"{len(group_sizes)} groups cannot fill {len(asked)} parts without cutting a group; "
            "ask for fewer parts or group by a column with more values"
        )
    shuffled = permute_span(len(group_sizes), derive_key(key, "groups"), 0, len(group_sizes))
    if stratum_codes is None:
        strata = np.zeros(len(group_sizes), np.int64)
    else:
        strata = _most_frequent_stratum(codes, stratum_codes)
    members = np.split(
        shuffled[np.argsort(strata[shuffled], kind="stable")], np.cumsum(np.bincount(strata))[:-1]
    )
    quotas = stratum_quotas(np.bincount(strata, weights=group_sizes).astype(np.int64), sizes)
    parts = np.zeros(len(group_sizes), np.uint8)
    carried = [0, 0, 0]
    for groups, quota in zip(members, quotas, strict=True):
        filled = np.concatenate([[0], np.cumsum(group_sizes[groups])])
        begin = 0
        for number in (1, 2):
            wanted = int(quota[number]) + carried[number]
            end = max(begin, _nearest(filled, int(filled[begin]) + wanted))
            parts[groups[begin:end]] = number
            carried[number] = wanted - int(filled[end] - filled[begin])
            begin = end
    _fill_empty_parts(parts, asked, shuffled, group_sizes)
    return parts


def _nearest(ascending: NDArray[np.int64], value: int) -> int:
    """The index of the entry nearest to `value`, the smaller index where two tie."""
    above = min(int(np.searchsorted(ascending, value)), len(ascending) - 1)
    below = max(0, above - 1)
    return below if value - ascending[below] <= ascending[above] - value else above


def _most_frequent_stratum(
    codes: NDArray[np.int64], stratum_codes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Of each group, the stratum of most of its samples; the smaller code where two tie."""
    pairs, counts = np.unique(
        codes * (int(stratum_codes.max()) + 1) + stratum_codes, return_counts=True
    )
    groups, strata = np.divmod(pairs, int(stratum_codes.max()) + 1)
    best_first = np.lexsort((strata, -counts, groups))
    firsts = np.flatnonzero(np.diff(groups[best_first], prepend=-1))
    majority: NDArray[np.int64] = strata[best_first][firsts]
    return majority


def _fill_empty_parts(
    parts: NDArray[np.uint8],
    asked: list[int],
    shuffled: NDArray[np.int64],
    group_sizes: NDArray[np.int64],
) -> None:
    for number in asked:
        if not np.any(parts == number):
            donor = int(np.argmax(np.bincount(parts, minlength=3)))
            candidates = shuffled[parts[shuffled] == donor]
            parts[candidates[np.argmin(group_sizes[candidates])]] = number
