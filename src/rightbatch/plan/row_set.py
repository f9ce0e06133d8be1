"""Which rows of a data set belong to a part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.errors import OptionError
from rightbatch.plan.bitmap import (
    Bitmap,
    count_bits,
    empty_bits,
    fill_bits,
    first_and_last,
    length_of_bits,
    set_bits,
    set_members,
)
from rightbatch.plan.block_split import BlockShare
from rightbatch.plan.joined_rows import JoinedRows

LISTED_ROWS = 2**24
"""Up to so many rows are kept as a list; more as a bitmap."""

_CHUNK_LENGTH = 2**18
# So many rows of a share of a `BlockSplit` are written down in the time that one of them takes
# which lies alone: 25 ns and 2.5 us.
_ROWS_IN_TURN = 100
# Of more than 8.6 billion samples a bitmap takes over 1 GiB, and minutes.
_MOST_WRITTEN_DOWN = 2**33


class RowSet:
    """An ascending, frozen set of rows out of range(`total`).

    Consecutive rows cost nothing, up to 2^24 scattered rows an array of uint32 (int64 from
    2^32 rows in total on), more a bitmap of total / 8 bytes. The form follows from the rows
    alone, so equal sets have equal forms and fingerprints; but for a share of a `BlockSplit`,
    which is arithmetic and costs nothing, and sets of several data sets that were joined: these
    equal no set that is written down.

    Build one with `from_range`, `from_rows`, `from_mask_bits`, `from_share` or `joined`.

    >>> rows = RowSet.from_rows(10, [7, 1, 4])
    >>> len(rows), rows.take(np.array([2, 0]))
    (3, array([7, 1]))
    >>> rows.contains(np.array([1, 2]))
    array([ True, False])
    """

    def __init__(
        self,
        total: int,
        form: range | NDArray[np.integer] | Bitmap | BlockShare | JoinedRows,
    ) -> None:
        self.total = total
        self._form = form
        self._taken_far_apart = 0
        self._is_written_down = False

    @classmethod
    def from_range(cls, total: int, start: int, stop: int) -> RowSet:
        """Rows `start` up to `stop`; OptionError unless 0 <= start <= stop <= total."""
        if not 0 <= start <= stop <= total:
            raise OptionError(
                f"rows {start} up to {stop} lie outside the {total} rows of the data; "
                f"valid is 0 <= start <= stop <= {total}"
            )
        return cls(total, range(start, stop) if stop > start else range(0))

    @classmethod
    def from_rows(cls, total: int, rows: ArrayLike) -> RowSet:
        """The listed rows, in any order; OptionError for repeats and rows outside the data."""
        given = np.asarray(rows)
        if given.size and (given.ndim != 1 or given.dtype.kind not in "ui"):
            raise OptionError(
                f"rows of dtype {given.dtype} and shape {given.shape} are no list of row numbers; "
                "give integers of shape (count,)"
            )
        listed = given.astype(np.int64).reshape(-1)
        if np.any(listed[1:] <= listed[:-1]):
            listed.sort()
            repeated = listed[1:][listed[1:] == listed[:-1]]
            if len(repeated):
                raise OptionError(f"row {repeated[0]} is listed more than once; list each once")
        if len(listed) and (listed[0] < 0 or listed[-1] >= total):
            wrong = listed[0] if listed[0] < 0 else listed[-1]
            raise OptionError(f"row {wrong} lies outside the data: valid rows are 0 to {total - 1}")
        if len(listed) == 0 or listed[-1] - listed[0] == len(listed) - 1:
            start = int(listed[0]) if len(listed) else 0
            return cls.from_range(total, start, start + len(listed))
        if len(listed) <= LISTED_ROWS:
            return cls(total, _frozen(listed.astype(_row_dtype(total))))
        bits = empty_bits(total)
        for first in range(0, len(listed), _CHUNK_LENGTH):
            set_bits(bits, listed[first : first + _CHUNK_LENGTH])
        return cls(total, Bitmap(bits))

    @classmethod
    def from_mask_bits(cls, total: int, bits: NDArray[np.uint8]) -> RowSet:
        """The rows whose bit is set; row r is bit r % 8, from the low end, of byte r // 8.

        The bits are frozen and may be kept: give up your copy. OptionError where there are too
        few bytes, or a bit past `total` is set.
        """
        used = -(-total // 8)
        if (
            len(bits) < used
            or count_bits(bits[used:])
            or (total % 8 and int(bits[used - 1]) >> total % 8)
        ):
            raise OptionError(
                f"a mask of {len(bits)} bytes does not describe {total} rows: give {used} bytes "
                "or more, with no bit set from the total on"
            )
        if len(bits) != length_of_bits(total):
            padded = empty_bits(total)
            padded[:used] = bits[:used]
            bits = padded
        count = count_bits(bits)
        if count == 0:
            return cls.from_range(total, 0, 0)
        first, last = first_and_last(bits)
        if last - first == count - 1:
            return cls.from_range(total, first, last + 1)
        if count > LISTED_ROWS:
            return cls(total, Bitmap(bits))
        rows = np.empty(count, _row_dtype(total))
        at = 0
        for members in set_members(bits):
            rows[at : at + len(members)] = members
            at += len(members)
        return cls(total, _frozen(rows))

    @classmethod
    def from_share(cls, total: int, share: BlockShare) -> RowSet:
        """A part of a split by blocks of all rows; OptionError where that has another length."""
        if share.split.length != total:
            raise OptionError(
                f"a share of {share.split.length} rows describes no part of {total} rows"
            )
        return cls(total, share)

    @classmethod
    def joined(cls, members: Sequence[RowSet]) -> RowSet:
        """Rows of several data sets, numbered one after another as if they were one."""
        form = JoinedRows(members)
        if all(member.is_range == (0, member.total) for member in members):
            return cls.from_range(form.total, 0, form.total)
        return cls(form.total, form)

    def __len__(self) -> int:
        return len(self._form)

    @property
    def is_range(self) -> tuple[int, int] | None:
        """(start, stop) where the rows are consecutive, else None."""
        return (self._form.start, self._form.stop) if isinstance(self._form, range) else None

    @property
    def nbytes(self) -> int:
        """The bytes that the set takes."""
        return 0 if isinstance(self._form, range) else self._form.nbytes

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows at `positions` of the ascending list, int64 of the same shape (count,).

        Raises IndexError for a position that is negative or past the end.
        """
        positions = np.asarray(positions, dtype=np.int64)
        # Read as unsigned, a negative position is huge: one maximum checks both ends.
        if positions.size and int(positions.view(np.uint64).max()) >= len(self):
            wrong = positions[(positions < 0) | (positions >= len(self))][0]
            raise IndexError(f"position {wrong} lies outside 0 <= position < {len(self)}")
        if isinstance(self._form, range):
            return positions + self._form.start
        if isinstance(self._form, Bitmap):
            return self._form.select(positions)
        if isinstance(self._form, BlockShare | JoinedRows):
            return self._form.take(positions)
        return self._form[positions].astype(np.int64)

    def take_far_apart(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """What `take` gives of positions that lie far apart, of which more are to come.

        Where they are worked out, all rows are written down (`scattered`) once so many have been
        taken in this way that writing them down takes no longer than that took: the first ones
        come at once, and all together take at most twice the time of the better way.
        """
        if not self.is_arithmetic:
            return self.take(positions)
        if self._is_written_down:
            return self.scattered.take(positions)
        self._taken_far_apart += len(positions)
        self._is_written_down = (
            self._taken_far_apart > len(self) // _ROWS_IN_TURN and self.total <= _MOST_WRITTEN_DOWN
        )
        return self.take(positions)

    def between(self, start: int, stop: int) -> RowSet:
        """The rows at positions `start` up to `stop`, as a set.

        >>> RowSet.from_rows(10, [1, 4, 7]).between(1, 3).take(np.arange(2))
        array([4, 7])
        """
        span = self.is_range
        if span is not None:
            return RowSet.from_range(self.total, span[0] + start, span[0] + stop)
        return RowSet.from_rows(self.total, self.take(np.arange(start, stop)))

    def contains(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of `rows` belongs to the set; rows outside the data do not."""
        rows = np.asarray(rows, dtype=np.int64)
        if isinstance(self._form, range):
            return (rows >= self._form.start) & (rows < self._form.stop)
        inside = (rows >= 0) & (rows < self.total)
        clipped = np.where(inside, rows, 0)
        if isinstance(self._form, Bitmap | BlockShare | JoinedRows):
            return inside & self._form.contains(clipped)
        clipped = clipped.astype(self._form.dtype)
        at = np.minimum(np.searchsorted(self._form, clipped), len(self._form) - 1)
        found: NDArray[np.bool_] = self._form[at] == clipped
        return inside & found

    def chunks(self) -> Iterator[NDArray[np.int64]]:
        """All rows, ascending, as int64 arrays of bounded length."""
        if isinstance(self._form, Bitmap):
            yield from set_members(self._form.bits)
            return
        if isinstance(self._form, BlockShare | JoinedRows):
            yield from self._form.chunks()
            return
        for first in range(0, len(self._form), _CHUNK_LENGTH):
            chunk = self._form[first : first + _CHUNK_LENGTH]
            if isinstance(chunk, range):
                yield np.arange(chunk.start, chunk.stop, dtype=np.int64)
            else:
                yield chunk.astype(np.int64)

    def mask_bits(self) -> NDArray[np.uint8]:
        """A new packed mask of the rows, as `from_mask_bits` reads it."""
        if isinstance(self._form, Bitmap):
            return self._form.bits.copy()
        bits = empty_bits(self.total)
        if isinstance(self._form, range):
            fill_bits(bits, self._form.start, self._form.stop)
        else:
            for chunk in self.chunks():
                set_bits(bits, chunk)
        return bits

    @property
    def is_arithmetic(self) -> bool:
        """Whether the rows are worked out from a `BlockSplit` rather than stored."""
        return isinstance(self._form, BlockShare) or (
            isinstance(self._form, JoinedRows) and self._form.is_arithmetic
        )

    @cached_property
    def scattered(self) -> RowSet:
        """The same rows in a form from which any one is taken at once, for random access.

        That is a copy, as a list or a bitmap, of a share of a `BlockSplit`, where a row that lies
        alone costs the working out of its block; every other set is such a form already.
        """
        if not self.is_arithmetic:
            return self
        if isinstance(self._form, JoinedRows):
            return RowSet(self.total, self._form.scattered)
        if len(self) > LISTED_ROWS:
            return RowSet(self.total, Bitmap(self.mask_bits()))
        rows = np.empty(len(self), _row_dtype(self.total))
        at = 0
        for chunk in self.chunks():
            rows[at : at + len(chunk)] = chunk
            at += len(chunk)
        return RowSet(self.total, _frozen(rows))

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits (BLAKE2b) that are equal if and only if total and rows are."""
        digest = hashlib.blake2b(digest_size=16)
        if isinstance(self._form, range):
            digest.update(f"range:{self.total}:{self._form.start}:{self._form.stop}".encode())
        elif isinstance(self._form, BlockShare):
            digest.update(f"share:{self.total}:{self._form.description}".encode())
        elif isinstance(self._form, JoinedRows):
            digest.update(f"joined:{self.total}:{self._form.description}".encode())
        elif isinstance(self._form, Bitmap):
            digest.update(f"bitmap:{self.total}:".encode())
            digest.update(self._form.bits.data)
        else:
            little_endian = self._form.dtype.newbyteorder("<")
            digest.update(f"rows:{self.total}:".encode())
            digest.update(np.ascontiguousarray(self._form, little_endian).data)
        return digest.hexdigest()

    def count_common(self, other: RowSet) -> int:
        """How many rows belong to both sets; 0 means disjoint.

        Raises OptionError where the sets are of data of different lengths.
        """
        if self.total != other.total:
            raise OptionError(
                f"rows of {self.total} and rows of {other.total} cannot be compared: "
                "these sets belong to different data"
            )
        small, large = sorted((self, other), key=len)
        if isinstance(small._form, range) and isinstance(large._form, range):
            start = max(small._form.start, large._form.start)
            return max(0, min(small._form.stop, large._form.stop) - start)
        if isinstance(small._form, Bitmap) and isinstance(large._form, Bitmap):
            return small._form.count_common(large._form)
        if (
            isinstance(small._form, BlockShare)
            and isinstance(large._form, BlockShare)
            and small._form.split == large._form.split
        ):
            return len(small) if small._form == large._form else 0
        return sum(int(large.contains(chunk).sum()) for chunk in small.chunks())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowSet) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        span = self.is_range
        shown = f", {span[0]} up to {span[1]}" if span else ""
        return f"<RowSet: {len(self):,} of {self.total:,} rows{shown}>"


def _row_dtype(total: int) -> type[np.uint32] | type[np.int64]:
    return np.uint32 if total <= 2**32 else np.int64


def _frozen(rows: NDArray[np.integer]) -> NDArray[np.integer]:
    rows.flags.writeable = False
    return rows
