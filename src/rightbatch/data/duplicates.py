"""Samples whose inputs are equal byte for byte."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.block_checksums import array_bytes
from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset
from rightbatch.data.ragged import Ragged
from rightbatch.data.row_bytes import column_bytes, row_bytes

_CHUNK_BYTES = 2**20
_RELEASED_CHUNKS = 64
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_SECOND_FACTOR = np.uint64(0x94D049BB133111EB)


def content_bytes(data: Dataset) -> int:
    """The size in bytes of all inputs: what finding duplicates has to read.

    >>> from rightbatch.data import open
    >>> content_bytes(open((np.zeros((3, 4)), [0, 1, 0])))
    96
    """
    return sum(column_bytes(data, column) for column in data.inputs)


def content_keys(data: Dataset) -> NDArray[np.uint64]:
    """A 64-bit hash of each sample's inputs, shape (samples,).

    Equal inputs have equal keys; unequal ones differ but for chance of about 2**-64 a pair.
    """
    keys = np.empty(len(data), dtype=np.uint64)
    for number, (start, stop) in enumerate(_chunks(len(data), _row_bytes(data))):
        keys[start:stop] = _keys(data, data.span(start, stop))
        if number % _RELEASED_CHUNKS == _RELEASED_CHUNKS - 1:
            data.release_pages()
    return keys


def span_keys(data: Dataset, arrays: Arrays) -> NDArray[np.uint64]:
    """The content keys of the samples in `arrays`, which `data.span` gave."""
    keys = np.empty(len(next(iter(arrays.values()))), dtype=np.uint64)
    for start, stop in _chunks(len(keys), _row_bytes(data)):
        piece = {name: array[start:stop] for name, array in arrays.items()}
        keys[start:stop] = _keys(data, piece)
    return keys


def equal_content_groups(data: Dataset) -> NDArray[np.int64]:
    """A group code for each sample, shape (samples,): equal inputs share one, others never do.

    Codes count the groups in the order of their first sample. Inputs are compared byte for byte
    (so 0.0 and -0.0 differ, and a NaN equals the same NaN), entries of varying length with their
    lengths; the target plays no part. The data are read once, in chunks, and samples with equal
    hashes are read again to be compared.

    >>> from rightbatch.data import open
    >>> equal_content_groups(open({"x": [5, 7, 5], "y": [0, 1, 1]}, target="y")).tolist()
    [0, 1, 0]
    """
    return _group(data, content_keys(data))


def _group(data: Dataset, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The groups of equal content, given keys that are equal where contents are."""
    firsts = first_of_equal(data, keys, np.arange(len(keys), dtype=np.int64))
    _, groups = np.unique(firsts, return_inverse=True)
    return groups.astype(np.int64, copy=False)


def first_of_equal(
    data: Dataset, keys: NDArray[np.uint64], rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """For each of `rows`, ascending, the first of them whose inputs are equal byte for byte.

    `keys` are the rows' content keys; rows of equal keys are read and compared.
    """
    # A stable sort keeps rows ascending within a run of equal keys: the first is the lowest.
    order = np.argsort(keys, kind="stable").astype(np.int64, copy=False)
    in_order = keys[order]
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = in_order[1:] != in_order[:-1]
    first_positions = np.flatnonzero(is_first)
    firsts = np.empty(len(order), dtype=np.int64)
    firsts[order] = rows[order[first_positions][np.cumsum(is_first) - 1]]
    seen: Seen = {}
    separate_collisions(data, keys, rows, firsts, seen)
    return firsts


def separate_collisions(
    data: Dataset,
    keys: NDArray[np.uint64],
    rows: NDArray[np.int64],
    firsts: NDArray[np.int64],
    seen: Seen,
) -> None:
    """Compare every row with its first; give those that differ a first of their own, in place.

    `seen` remembers the contents that have met another one of the same key.
    """
    followers = np.flatnonzero(firsts != rows).astype(np.int64, copy=False)
    collided: list[int] = []
    for start, stop in _chunks(len(followers), _row_bytes(data)):
        places = followers[start:stop]
        left, right = data.rows(rows[places]), data.rows(firsts[places])
        differs = (_row_matrix(data, left) != _row_matrix(data, right)).any(axis=1)
        for column in _ragged_inputs(data):
            differs |= _differing(left[column.name], right[column.name])
        collided.extend(places[differs].tolist())
    for place in collided:
        row = int(rows[place])
        arrays = data.rows(np.array([row], dtype=np.int64))
        # A tuple: the bytes of one column must not run into those of the next.
        content = (
            _row_matrix(data, arrays).tobytes(),
            *(arrays[column.name].values.tobytes() for column in _ragged_inputs(data)),
        )
        firsts[place] = seen.setdefault((int(keys[place]), content), row)


Seen = dict[tuple[int, tuple[bytes, ...]], int]
"""The first row of each content among those whose key another content has."""


def _row_bytes(data: Dataset) -> int:
    return sum(row_bytes(data, column) for column in data.inputs)


def _ragged_inputs(data: Dataset) -> list[Column]:
    return [column for column in data.inputs if column.is_ragged]


def _keys(data: Dataset, arrays: Arrays) -> NDArray[np.uint64]:
    """The content keys of the samples in `arrays`."""
    words = [_row_matrix(data, arrays)]
    words += [_entry_keys(arrays[column.name])[:, None] for column in _ragged_inputs(data)]
    return _hash_rows(words[0] if len(words) == 1 else np.concatenate(words, axis=1))


def _entry_keys(ragged: Ragged) -> NDArray[np.uint64]:
    """A 64-bit hash of each entry's bytes, (N,): a microsecond each, and then a byte a cycle."""
    element = _element_bytes(ragged)
    content = array_bytes(ragged.values)
    bounds = (ragged.offsets * element).tolist()
    digests = [
        blake2b(content[start:stop], digest_size=8).digest()
        for start, stop in itertools.pairwise(bounds)
    ]
    return np.frombuffer(b"".join(digests), np.uint64)


def _element_bytes(ragged: Ragged) -> int:
    return ragged.dtype.itemsize * math.prod(ragged.shape)


def _differing(left: Ragged, right: Ragged) -> NDArray[np.bool_]:
    """Which entries differ in length or in a byte, (N,)."""
    differs: NDArray[np.bool_] = left.lengths != right.lengths
    same = np.flatnonzero(~differs)
    if len(same):
        some, others = left.take(same), right.take(same)
        one, other = (
            np.frombuffer(array_bytes(piece.values), np.uint8) for piece in (some, others)
        )
        places = np.flatnonzero(one != other) // _element_bytes(left)
        differs[same[np.searchsorted(some.offsets, places, side="right") - 1]] = True
    return differs


def _chunks(length: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Spans whose bytes stay in the cache while they are hashed."""
    step = max(1, _CHUNK_BYTES // max(1, row_bytes))
    return ((start, min(start + step, length)) for start in range(0, length, step))


def _row_matrix(data: Dataset, arrays: Arrays) -> NDArray[np.uint64]:
    """The bytes of each row's inputs as words of 64 bits, zero-padded, shape (rows, words).

    Ragged columns are left out.
    """
    rows = len(next(iter(arrays.values())))
    inputs = [column for column in data.inputs if not column.is_ragged]
    total = sum(row_bytes(data, column) for column in inputs)
    matrix = np.zeros((rows, -(-total // 8)), dtype=np.uint64)
    as_bytes: NDArray[Any] = matrix.view(np.uint8)
    offset = 0
    for column in inputs:
        array = np.ascontiguousarray(arrays[column.name]).reshape(rows, -1).view(np.uint8)
        as_bytes[:, offset : offset + array.shape[1]] = array
        offset += array.shape[1]
    return matrix


def _hash_rows(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Sum over words of a keyed mix of each: a position's key makes the order of words count."""
    keys = np.arange(1, words.shape[1] + 1, dtype=np.uint64) * _GOLDEN
    mixed = words + keys
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST_FACTOR
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND_FACTOR
    mixed ^= mixed >> np.uint64(31)
    total: NDArray[np.uint64] = mixed.sum(axis=1, dtype=np.uint64)
    return total
