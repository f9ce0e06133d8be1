"""What a uniform shuffle does on average, in closed form."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# From here on drawing without replacement is told from drawing with it by the variance alone.
_LARGE = 2**26


def mean_travel(positions: NDArray[np.int64], length: int) -> float:
    """The mean of |p - x| over `positions` p and all x of range(`length`), by the length.

    For one position it is (p(p + 1) + (n - 1 - p)(n - p)) / 2n²; over all of them it is
    (1 - 1/n²) / 3, a third.

    >>> mean_travel(np.arange(100), 100)
    0.3333
    """
    before = positions.astype(np.float64)
    behind = length - 1.0 - before
    return float((before * (before + 1) + behind * (behind + 1)).mean() / 2 / length / length)


def travel_quantile(share: float) -> float:
    """The travel, by the length, that `share` of the samples do not exceed: 1 - √(1 - share).

    >>> round(travel_quantile(0.1), 4), round(travel_quantile(0.9), 4)
    (0.0513, 0.6838)
    """
    return 1 - math.sqrt(1 - share)


def mean_distinct_blocks(batch_size: int, length: int, block: int) -> float:
    """How many blocks of `block` neighbours a batch comes from, on average.

    A block of b of the n samples is missed with the probability C(n - b, B) / C(n, B), the product
    of 1 - b/(n - i) over i from 0 up to B; the last block may be shorter.

    >>> round(mean_distinct_blocks(2, 4, 2), 4)  # the second is of the other block 2 times of 3
    1.6667
    """
    whole, short = divmod(length, block)
    expected = 0.0
    for count, size in ((whole, block), (1, short)):
        if not size or not count:
            continue
        rest = length - np.arange(batch_size, dtype=np.float64)
        if (rest <= size).any():
            expected += count
        else:
            expected += count * -math.expm1(float(np.log1p(-size / rest).sum()))
    return expected


def mean_imbalance(batch_size: int, length: int, counts: NDArray[np.int64]) -> float:
    """The mean total-variation distance of a batch's label shares to those of the whole.

    Of the n samples, K have a label; a batch of B has X of them, and its share is off by
    E|X - BK/n| = 2v(n - K - B + v)/n · P(X = v) on average, v = ⌊BK/n⌋ + 1, X being
    hypergeometric (Diaconis and Zabell, Closed form summation for classical distributions, 1991).
    The distance is half the sum over the labels, divided by B. From 2^26 samples on, X is taken
    as binomial, E|X - Bp| = 2v(1 - p) P(X = v), times √((n - B)/(n - 1)).

    `counts` (C,) are the samples of each label, of all n or of a fair sample of them.

    >>> round(mean_imbalance(1, 4, np.array([2, 2])), 6)
    0.5
    >>> mean_imbalance(4, 4, np.array([2, 2]))
    0.0
    """
    from scipy.special import betaln, gammaln, xlog1py, xlogy

    shares = counts / counts.sum()
    if batch_size >= length:
        return 0.0
    size = float(batch_size)
    if length > _LARGE:
        value = np.floor(size * shares) + 1
        logarithm = gammaln(size + 1) - gammaln(value + 1) - gammaln(size - value + 1)
        logarithm += xlogy(value, shares) + xlog1py(size - value, -shares)
        narrower = math.sqrt((length - size) / (length - 1))
        off = np.where(value > size, 0.0, 2 * value * (1 - shares) * np.exp(logarithm)) * narrower
        return float(off.sum() / 2 / size)
    whole, members = float(length), np.rint(shares * length)
    value = np.floor(size * members / whole) + 1
    # A label that all or none have is never off, and has no such probability.
    is_possible = (members > 0) & (value <= np.minimum(size, members))
    is_possible &= whole - members - size + value > 0
    value, members = value[is_possible], members[is_possible]
    others = whole - members
    logarithm = betaln(members + 1, 1) + betaln(others + 1, 1) - betaln(whole + 1, 1)
    logarithm += betaln(whole - size + 1, size + 1) - betaln(value + 1, members - value + 1)
    logarithm -= betaln(size - value + 1, others - size + value + 1)
    off = 2 * value * (others - size + value) / whole * np.exp(logarithm)
    return float(off.sum() / 2 / size)
