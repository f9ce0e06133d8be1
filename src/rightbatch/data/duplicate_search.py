"""Samples of equal inputs among more than memory holds: their keys are sorted by way of the disk.

The content keys are dealt out to files by their leading bits, so that equal keys meet in one file
that memory holds. There they are sorted, and rows of equal keys are compared byte for byte. The
pairs that are found are dealt out once more, by row, and so come into order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.block_checksums import array_bytes, checksum
from rightbatch.data.dataset import Dataset
from rightbatch.data.duplicates import Seen, first_of_equal, separate_collisions
from rightbatch.data.packed_array import DUPLICATES_FILE, PackedArray, describe_array, header_of

# What is sorted at once: records of 16 bytes, and about four times that while they are sorted.
BUCKET_ROWS = 2**19
_MOST_BITS = 10
_SPLIT_BITS = 4
_KEY_BITS = 64
_PAIRS_OF_BLOCK = 2**16

_KEYED = np.dtype([("key", np.uint64), ("row", np.int64)])
_PAIR = np.dtype((np.int64, 2))


def find_duplicates(
    data: Dataset,
    keys_path: Path,
    scratch: Path,
    folder: Path,
    *,
    progress: Callable[[float], None],
) -> PackedArray | None:
    """Write the duplicates of `data` to `folder`, and describe the file; None where there are none.

    `keys_path` holds the content key of every row, uint64. The file is int64 (D, 2): each row
    whose inputs are equal to those of an earlier one, ascending, and the first such row. About
    40 MiB are held, and `scratch` (an empty folder) takes 16 bytes a row. `progress` is told the
    share of the work that is done.
    """
    length = len(data)
    # Half of what a bucket may hold: chance fills some more than others.
    bits = min(_MOST_BITS, max(0, math.ceil(math.log2(2 * length / BUCKET_ROWS))))
    row_groups = max(1, min(2**_MOST_BITS, -(-length // BUCKET_ROWS)))
    rows_of_group = -(-length // row_groups)
    for start, keys in _pieces(keys_path, np.dtype(np.uint64)):
        records = np.empty(len(keys), _KEYED)
        records["key"] = keys
        records["row"] = np.arange(start, start + len(keys))
        _deal(records, _leading(keys, 0, bits), scratch, "keys")
        progress(0.3 * (start + len(keys)) / length)
    search = _Search(data, scratch)
    for bucket in range(2**bits):
        for rows, firsts in search.bucket(scratch / f"keys-{bucket}", bits):
            pairs = np.stack([rows, firsts], axis=1)
            _deal(pairs, rows // rows_of_group, scratch, "pairs")
        progress(0.3 + 0.6 * (bucket + 1) / 2**bits)
    return _in_order([scratch / f"pairs-{group}" for group in range(row_groups)], folder)


class _Search:
    """Finds equal rows bucket by bucket."""

    def __init__(self, data: Dataset, scratch: Path) -> None:
        self._data = data
        self._scratch = scratch

    def bucket(
        self, path: Path, bits: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows and their firsts, of the records in `path`, whose keys share `bits` leading bits."""
        if not path.is_file():
            return
        if path.stat().st_size <= BUCKET_ROWS * _KEYED.itemsize:
            records = np.fromfile(path, _KEYED)
            path.unlink()
            yield from self._equal(records)
        elif _has_one_key(path):
            yield from self._of_one_key(path)
        else:
            # Many samples of few contents: deal them out by the bits that follow.
            step = min(_SPLIT_BITS, _KEY_BITS - bits)
            for _, records in _pieces(path, _KEYED):
                _deal(records, _leading(records["key"], bits, step), self._scratch, path.name)
            path.unlink()
            for part in range(2**step):
                yield from self.bucket(self._scratch / f"{path.name}-{part}", bits + step)

    def _equal(
        self, records: NDArray[Any]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        keys, rows = records["key"].copy(), records["row"].copy()
        firsts = first_of_equal(self._data, keys, rows)
        found = np.flatnonzero(firsts != rows)
        if len(found):
            yield rows[found], firsts[found]

    def _of_one_key(self, path: Path) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Every key is the same: the first row is compared with all that follow, in pieces."""
        leader: np.int64 | None = None
        seen: Seen = {}
        for _, records in _pieces(path, _KEYED):
            keys, rows = records["key"].copy(), records["row"].copy()
            leader = rows[0] if leader is None else leader
            firsts = np.full(len(rows), leader, np.int64)
            separate_collisions(self._data, keys, rows, firsts, seen)
            found = np.flatnonzero(firsts != rows)
            if len(found):
                yield rows[found], firsts[found]
        path.unlink()


def _in_order(groups: list[Path], folder: Path) -> PackedArray | None:
    """One file of all pairs, ascending by row."""
    present = [path for path in groups if path.is_file()]
    count = sum(path.stat().st_size for path in present) // _PAIR.itemsize
    if count == 0:
        return None
    dtype, shape = np.dtype(np.int64), (count, 2)
    checksums: list[int] = []
    with (folder / DUPLICATES_FILE).open("wb") as file:
        file.write(header_of(dtype, shape))
        pending = np.empty((0, 2), np.int64)
        for path in present:
            pairs = np.fromfile(path, np.int64).reshape(-1, 2)
            path.unlink()
            pending = np.concatenate([pending, pairs[np.argsort(pairs[:, 0])]])
            while len(pending) >= _PAIRS_OF_BLOCK or (path is present[-1] and len(pending)):
                block = array_bytes(pending[:_PAIRS_OF_BLOCK])
                file.write(block)
                checksums.append(checksum(block))
                pending = pending[_PAIRS_OF_BLOCK:]
    return describe_array(
        DUPLICATES_FILE, dtype, shape, block_rows=_PAIRS_OF_BLOCK, checksums=checksums
    )


def _has_one_key(path: Path) -> bool:
    first: np.uint64 | None = None
    for _, records in _pieces(path, _KEYED):
        keys = records["key"]
        first = keys[0] if first is None else first
        if bool((keys != first).any()):
            return False
    return True


def _pieces(path: Path, dtype: np.dtype[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The records of a file in pieces, each with the number of its first one."""
    start = 0
    with path.open("rb") as file:
        while len(records := np.fromfile(file, dtype, BUCKET_ROWS)):
            yield start, records
            start += len(records)


def _leading(keys: NDArray[np.uint64], skipped: int, bits: int) -> NDArray[np.int64]:
    """The number that `bits` bits of each key make, after the `skipped` leading ones."""
    if bits == 0:
        return np.zeros(len(keys), np.int64)
    shifted = (keys << np.uint64(skipped)) >> np.uint64(_KEY_BITS - bits)
    return shifted.astype(np.int64)


def _deal(records: NDArray[Any], numbers: NDArray[np.int64], folder: Path, stem: str) -> None:
    """Append each record to the file of its number, `stem-number`, keeping the order."""
    order = np.argsort(numbers, kind="stable")
    records, numbers = records[order], numbers[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(numbers)], strict=True):
        with (folder / f"{stem}-{numbers[start]}").open("ab") as file:
            file.write(array_bytes(records[start:stop]))
