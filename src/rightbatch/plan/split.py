"""A split: disjoint, frozen sets of rows for training, validation and test."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.errors import OptionError
from rightbatch.plan.bitmap import empty_bits, set_bits
from rightbatch.plan.block_split import BlockSplit
from rightbatch.plan.checks import is_integer
from rightbatch.plan.hashing import derive_key
from rightbatch.plan.permutation import permute_span
from rightbatch.plan.rounding import largest_remainder, stratum_quotas
from rightbatch.plan.row_set import RowSet
from rightbatch.plan.split_groups import assign_groups

BLOCKED_LENGTH = 2**17
"""More samples than so many are split by blocks, unless strata or groups say otherwise."""

_CHUNK_LENGTH = 2**18

# Codes up to this or the number of samples are counted directly; others are sorted first.
_DIRECT_CODES = 2**20

Assigned = Iterator[tuple[int, NDArray[np.int64]]]
"""Parts (1 val, 2 test), each with positions among the candidates that it gets."""


def part_sizes(
    length: int, val: int | float | None, test: int | float | None
) -> tuple[int, int, int]:
    """The sizes (train, val, test) of a split of `length` samples.

    An integer is a count, a float in (0, 1) a share of the whole; None or 0 holds out nothing.
    Shares are rounded by largest remainder: every part gets the whole number below its share,
    and the samples left over go to the largest fractional parts, held-out parts first. A share
    counts as the decimal number it is written as, so 0.1 of 10 is 1.

    Raises OptionError for other values, for a part that would be empty though asked for, and
    where no training sample would be left.

    >>> part_sizes(569, 0.16, 0.2)
    (364, 91, 114)
    >>> part_sizes(60_000, 5_000, None)
    (55000, 5000, 0)
    """
    asked = {"val": val, "test": test}
    held_out = [_share_or_count(name, value, length) for name, value in asked.items()]
    train = length - held_out[0] - held_out[1]
    if train > 0:
        # Held-out parts come first, so they win ties.
        sizes = largest_remainder([*held_out, train])
        for (name, value), size in zip(asked.items(), sizes, strict=False):
            if value and size == 0:
                raise OptionError(
                    f"{name}={value!r} of {length} samples rounds to no sample; "
                    f"ask for a count ({name}=1) or a share of at least {1 / length:.2g}"
                )
        if sizes[2] > 0:
            return sizes[2], sizes[0], sizes[1]
    shown = " and ".join(f"{name}={value!r}" for name, value in asked.items() if value)
    raise OptionError(
        f"{shown or 'a split'} of {length} samples leaves none to train on; "
        f"hold out fewer than {length}"
    )


def split_rows(
    candidates: RowSet,
    *,
    val: int | float | None,
    test: int | float | None,
    seed: int,
    strata: NDArray[np.integer] | None = None,
    groups: NDArray[np.integer] | None = None,
) -> dict[str, RowSet]:
    """Split `candidates` into "train", "val" and "test"; a part not asked for has no rows.

    `val` and `test` are as in `part_sizes`. `strata` and `groups` are integer codes of shape
    (len(candidates),), aligned with the ascending candidates. With `strata` each part holds its
    share of every stratum, exact to one sample (`stratum_quotas`). With `groups` no group is cut:
    shuffled groups fill the parts until the next one would miss the asked size by more, so sizes
    are approximate, but no part that was asked for is empty; with both, a group's stratum is its
    most frequent one (the smaller code where two tie).

    More than 131,072 candidates that are all rows give, without strata or groups, their share in
    every block of 128 neighbours, by arithmetic (`BlockSplit`): such parts take no memory.

    The split is a pure function of the arguments and has no key in common with any epoch's
    order. Memory otherwise: a bitmap a part.

    Raises OptionError for sizes that cannot be had and for codes that do not fit.

    >>> parts = split_rows(RowSet.from_range(10, 0, 10), val=0.2, test=3, seed=7)
    >>> {name: len(rows) for name, rows in parts.items()}
    {'train': 5, 'val': 2, 'test': 3}
    """
    sizes = part_sizes(len(candidates), val, test)
    key = derive_key("split", seed, len(candidates))
    is_plain = strata is None and groups is None and candidates.is_range == (0, candidates.total)
    if is_plain and len(candidates) > BLOCKED_LENGTH and any(sizes[1:]):
        by_blocks = _split_by_blocks(sizes, key)
        if by_blocks is not None:
            return by_blocks
    stratum_codes = None if strata is None else _dense_codes("strata", strata, candidates)
    if groups is not None:
        group_codes = _dense_codes("groups", groups, candidates)
        assigned = _assign_by_group(sizes, key, group_codes, stratum_codes)
    elif stratum_codes is not None:
        assigned = _assign_by_stratum(sizes, key, stratum_codes)
    else:
        assigned = _assign_plainly(sizes, key)
    total = candidates.total
    train = candidates.mask_bits()
    held_out = {number: empty_bits(total) for number in (1, 2) if sizes[number]}
    for number, positions in assigned:
        if len(positions):
            set_bits(held_out[number], candidates.take(positions))
    for bits in held_out.values():
        train ^= bits
    parts = {"train": RowSet.from_mask_bits(total, train)}
    for number, name in ((1, "val"), (2, "test")):
        # Popped, so that bits that become a list of rows are freed before the next part.
        parts[name] = (
            RowSet.from_mask_bits(total, held_out.pop(number))
            if number in held_out
            else RowSet.from_range(total, 0, 0)
        )
    return parts


def contiguous_rows(
    candidates: RowSet, *, val: int | float | None, test: int | float | None, gap: int = 0
) -> dict[str, RowSet]:
    """Split `candidates`, a range of rows, into "train", "val" and "test" in that order.

    `val` and `test` are as in `part_sizes`, and have the sizes asked for; `gap` rows before each
    held-out part are in none, and train is smaller by them.

    Raises OptionError for sizes that cannot be had.

    >>> parts = contiguous_rows(RowSet.from_range(20, 0, 20), val=4, test=4, gap=2)
    >>> {name: rows.is_range for name, rows in parts.items()}
    {'train': (0, 8), 'val': (10, 14), 'test': (16, 20)}
    """
    span = candidates.is_range
    assert span is not None  # the rows of the data, or those of their own train part
    _, val_size, test_size = part_sizes(len(candidates), val, test)
    total, stop = candidates.total, span[1]
    parts = {}
    for name, size in (("test", test_size), ("val", val_size)):
        start = stop - size
        parts[name] = RowSet.from_range(total, max(start, 0), max(stop, 0))
        stop = start - gap if size else stop
    if stop <= span[0]:
        raise OptionError(
            f"val={val!r} and test={test!r} of {len(candidates)} samples leave none to train on, "
            f"with {gap} left out before each of them, which share content with them; hold out "
            "fewer"
        )
    return {
        "train": RowSet.from_range(total, span[0], stop),
        "val": parts["val"],
        "test": parts["test"],
    }


def _split_by_blocks(sizes: tuple[int, int, int], key: int) -> dict[str, RowSet] | None:
    """The parts by arithmetic; None where too few samples are left to train on for it."""
    total = sum(sizes)
    if not BlockSplit.is_possible(total, sizes[1], sizes[2]):
        return None
    split = BlockSplit(length=total, val=sizes[1], test=sizes[2], key=key)
    return {
        name: RowSet.from_share(total, split.part(number))
        if sizes[number]
        else RowSet.from_range(total, 0, 0)
        for number, name in enumerate(("train", "val", "test"))
    }


def _assign_plainly(sizes: tuple[int, int, int], key: int) -> Assigned:
    """The keyed permutation of the candidates: val first, test next, train the rest."""
    length, start = sum(sizes), 0
    for number in (1, 2):
        stop = start + sizes[number]
        for first in range(start, stop, _CHUNK_LENGTH):
            yield number, permute_span(length, key, first, min(stop, first + _CHUNK_LENGTH))
        start = stop


def _assign_by_stratum(sizes: tuple[int, int, int], key: int, codes: NDArray[np.int64]) -> Assigned:
    """The same permutation, read stratum by stratum: each fills its own quotas."""
    counts = np.bincount(codes)
    quotas = stratum_quotas(counts, sizes)
    val_until, test_until = quotas[:, 1], quotas[:, 1] + quotas[:, 2]
    seen = np.zeros(len(counts), np.int64)
    for first in range(0, len(codes), _CHUNK_LENGTH):
        stop = min(len(codes), first + _CHUNK_LENGTH)
        positions = permute_span(len(codes), key, first, stop)
        by_stratum = np.argsort(codes[positions], kind="stable")
        positions = positions[by_stratum]
        strata = codes[positions]
        in_chunk = np.bincount(strata, minlength=len(counts))
        # How many of its stratum come before each sample in the permutation.
        rank = np.arange(len(positions)) + (seen - (np.cumsum(in_chunk) - in_chunk))[strata]
        seen += in_chunk
        is_val = rank < val_until[strata]
        yield 1, positions[is_val]
        yield 2, positions[~is_val & (rank < test_until[strata])]


def _assign_by_group(
    sizes: tuple[int, int, int],
    key: int,
    codes: NDArray[np.int64],
    stratum_codes: NDArray[np.int64] | None,
) -> Assigned:
    parts = assign_groups(sizes, key, codes, stratum_codes)
    for first in range(0, len(codes), _CHUNK_LENGTH):
        chunk = parts[codes[first : first + _CHUNK_LENGTH]]
        for number in (1, 2):
            yield number, first + np.flatnonzero(chunk == number)


def _dense_codes(name: str, codes: NDArray[Any], candidates: RowSet) -> NDArray[np.int64]:
    """The codes renumbered 0, 1, 2, ... in ascending order, none of them unused."""
    codes = np.asarray(codes)
    if codes.shape != (len(candidates),) or codes.dtype.kind not in "bui":
        raise OptionError(
            f"{name} of dtype {codes.dtype} and shape {codes.shape} do not fit; give one integer "
            f"code for each of the {len(candidates)} samples"
        )
    if codes.min() >= 0 and codes.max() <= max(len(codes), _DIRECT_CODES):
        used = np.bincount(codes) > 0
        dense: NDArray[np.int64] = (np.cumsum(used) - 1)[codes]
    else:
        dense = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    return dense


def _share_or_count(name: str, value: object, length: int) -> Fraction:
    if value is None:
        return Fraction(0)
    if is_integer(value) and operator.index(value) >= 0:
        count = operator.index(value)
        if count > length:
            raise OptionError(f"{name}={count} asks for more than the {length} samples there are")
        return Fraction(count)
    if isinstance(value, float | np.floating) and 0.0 < value < 1.0:
        return Fraction(repr(float(value))) * length
    raise OptionError(
        f"{name}={value!r} is not valid; give a count (1, 2, ...), a share between 0 and 1, "
        "or None to hold out nothing"
    )
