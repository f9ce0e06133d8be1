"""Rounding shares to whole samples so that every total is exact."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def largest_remainder(quotas: Sequence[Fraction]) -> list[int]:
    """Whole numbers next to `quotas` with the same (whole) sum; ties go to the earlier ones.

    >>> largest_remainder([Fraction(5, 2), Fraction(5, 2), Fraction(5)])
    [3, 2, 5]
    """
    sizes = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda at: sizes[at] - quotas[at])
    for at in by_remainder[: int(sum(quotas)) - sum(sizes)]:
        sizes[at] += 1
    return sizes


def stratum_quotas(counts: NDArray[np.int64], sizes: Sequence[int]) -> NDArray[np.int64]:
    """How many samples of each stratum each part gets: int64 of shape (strata, 3).

    `counts` holds the samples of each stratum, `sizes` those of the three parts, with equal sums N.
    Entry (s, p) is counts[s] * sizes[p] / N rounded up or down, rows add up to `counts` and
    columns to `sizes`: a controlled rounding (Bacharach, Matrix rounding problems, 1966). Every
    stratum first rounds up its largest remainders; units then move between parts until the
    columns are exact, where that costs least.

    >>> stratum_quotas(np.array([50, 30, 20]), [64, 16, 20])
    array([[32,  8, 10],
           [19,  5,  6],
           [13,  3,  4]])
    """
    total = int(counts.sum())
    products = counts[:, None] * np.asarray(sizes, np.int64)
    quotas, remainders = products // total, products % total
    ups_in_stratum = counts - quotas.sum(axis=1)
    by_remainder = np.argsort(-remainders, axis=1, kind="stable")
    rounded_up = np.zeros(quotas.shape, bool)
    np.put_along_axis(
        rounded_up, by_remainder, np.arange(len(sizes)) < ups_in_stratum[:, None], axis=1
    )
    surplus = quotas.sum(axis=0) + rounded_up.sum(axis=0) - np.asarray(sizes, np.int64)
    while surplus.any():
        _level(rounded_up, remainders, surplus)
    return quotas + rounded_up


def _level(
    rounded_up: NDArray[np.bool_], remainders: NDArray[np.int64], surplus: NDArray[np.int64]
) -> None:
    """Move roundings from the part with most surplus to the one with most deficit, in place."""
    giver, taker = int(np.argmax(surplus)), int(np.argmin(surplus))
    moved = min(int(surplus[giver]), -int(surplus[taker]))
    strata = _movable(rounded_up, remainders, giver, taker)[:moved]
    if len(strata):
        rounded_up[strata, giver], rounded_up[strata, taker] = False, True
        moved = len(strata)
    else:
        # Where no stratum can move a unit at once, the third part passes one on: an exact
        # rounding exists, so this augmenting path of its flow does too.
        (middle,) = {0, 1, 2} - {giver, taker}
        for start, end in ((giver, middle), (middle, taker)):
            stratum = _movable(rounded_up, remainders, start, end)[0]
            rounded_up[stratum, start], rounded_up[stratum, end] = False, True
        moved = 1
    surplus[giver] -= moved
    surplus[taker] += moved


def _movable(
    rounded_up: NDArray[np.bool_], remainders: NDArray[np.int64], giver: int, taker: int
) -> NDArray[np.intp]:
    """The strata that can move a rounding from `giver` to `taker`, the cheapest first."""
    strata = np.flatnonzero(
        rounded_up[:, giver] & ~rounded_up[:, taker] & (remainders[:, taker] > 0)
    )
    cost = remainders[strata, giver] - remainders[strata, taker]
    return strata[np.argsort(cost, kind="stable")]
