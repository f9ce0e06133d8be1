"""Ragged: entries of varying length as one flat array and where each of them ends."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.errors import DataError, OptionError

_OFFSETS_OF_CHECK = 1 << 20


class Ragged:
    """N arrays that differ in the length of their first axis, such as texts, files or sequences.

    `values` (T, …) holds them one after another, `offsets` (N + 1,) of int64 says where each
    begins and the next one does: entry k is `values[offsets[k]:offsets[k + 1]]`. The first offset
    is 0 and the last one T. `is_text` says that the entries are texts as bytes of UTF-8.

    An index gives an entry, a slice a Ragged; both are views. An array of row numbers, or `take`,
    gives a Ragged of its own memory. Two are equal where lengths, dtypes and bytes are.

    Raises DataError where the offsets do not fit the values.

    >>> words = Ragged.from_list(["the", "cat", "sat down"])
    >>> words
    <Ragged of 3 entries: uint8[…], 14 in all>
    >>> words[1].tobytes(), words[np.array([2, 0])].texts()
    (b'cat', ['sat down', 'the'])
    """

    # An array has no hash, and neither has this.
    __hash__ = None  # type: ignore[assignment]  # object has one

    def __init__(
        self, values: NDArray[Any], offsets: NDArray[np.int64], *, is_text: bool = False
    ) -> None:
        values = np.asarray(values)
        offsets = np.asarray(offsets)
        if values.ndim == 0 or values.dtype.hasobject:
            raise DataError(
                f"the values of a Ragged are {values.dtype} of shape {values.shape}; valid is an "
                "array whose first axis holds the entries one after another"
            )
        if is_text and (values.dtype != np.uint8 or values.ndim != 1):
            raise DataError(
                f"texts are bytes of UTF-8, uint8 in one axis, and the values are {values.dtype} "
                f"of shape {values.shape}"
            )
        problem = wrong_offsets(offsets, len(values))
        if problem is not None:
            raise DataError(f"the offsets of a Ragged are not valid: {problem}")
        self._set(values, offsets, is_text)

    def _set(self, values: NDArray[Any], offsets: NDArray[np.int64], is_text: bool) -> None:
        self.values = values
        # A view, so that nobody makes invalid by accident what was checked.
        self.offsets = offsets.view()
        self.offsets.flags.writeable = False
        self.is_text = is_text

    @classmethod
    def of_checked(cls, values: NDArray[Any], offsets: NDArray[np.int64], is_text: bool) -> Ragged:
        """Of offsets that are known to fit the values."""
        made = cls.__new__(cls)
        made._set(values, offsets, is_text)
        return made

    @classmethod
    def from_list(cls, entries: Sequence[Any], *, dtype: Any = None) -> Ragged:
        """Of texts, of bytes, or of arrays (lists) that differ in their first axis alone.

        `dtype` is that of the arrays; by default the one that holds them all. Raises DataError,
        naming the entry, where one is of another kind or shape.

        >>> Ragged.from_list([[1, 2], [], [3]]).to_list()
        [array([1, 2]), array([], dtype=int64), array([3])]
        """
        is_text = bool(len(entries)) and isinstance(entries[0], str)
        is_bytes = bool(len(entries)) and isinstance(entries[0], (bytes, bytearray, memoryview))
        if is_text or is_bytes:
            _refuse_other_kinds(entries, texts=is_text)
            contents = [entry.encode() if is_text else entry for entry in entries]
            lengths = [memoryview(content).nbytes for content in contents]
            values = np.frombuffer(bytearray().join(contents), np.uint8)
            return cls.of_checked(values, offsets_of(lengths), is_text)
        arrays = [_entry(entry, row) for row, entry in enumerate(entries)]
        shapes = [array.shape[1:] for array in arrays if array.size or array.ndim > 1]
        shape = shapes[0] if shapes else ()
        # An empty list has no dtype of its own.
        dtypes = [array.dtype for array in arrays if array.size] or [a.dtype for a in arrays]
        wanted = (
            np.dtype(dtype)
            if dtype is not None
            else np.result_type(*(dtypes or [np.dtype(np.float64)]))
        )
        for row, array in enumerate(arrays):
            if array.shape[1:] != shape and (array.size or array.ndim > 1):
                raise DataError(
                    f"entry {row} (counting from 0) has the shape {array.shape}, and others end in "
                    f"{shape}: entries of a Ragged may differ in the length of their first axis"
                )
        flat = [array.reshape(len(array), *shape).astype(wanted) for array in arrays]
        values = np.concatenate(flat) if flat else np.empty((0,), wanted)
        return cls.of_checked(values, offsets_of([len(array) for array in arrays]), False)

    @classmethod
    def concatenate(cls, pieces: Sequence[Ragged]) -> Ragged:
        """The entries of all pieces, one after another.

        >>> Ragged.concatenate([Ragged.from_list(["a"]), Ragged.from_list(["b", ""])]).texts()
        ['a', 'b', '']
        """
        lengths = np.concatenate([piece.lengths for piece in pieces])
        values = np.concatenate([piece.values for piece in pieces])
        return cls.of_checked(values, offsets_of(lengths), all(p.is_text for p in pieces))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an entry without its first axis: () for texts and bytes."""
        return self.values.shape[1:]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each entry, (N,) of int64."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """The bytes of values and offsets."""
        return self.values.nbytes + self.offsets.nbytes

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice | NDArray[Any] | list[int]) -> Ragged: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return self.take(np.arange(start, stop, step))
            return self._span(start, max(start, stop))
        if np.ndim(index) == 0 and not isinstance(index, (bool, np.bool_)):
            position = range(len(self))[index]
            return self._between(int(self.offsets[position]), int(self.offsets[position + 1]))
        rows = np.asarray(index)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise IndexError(f"a mask of shape {rows.shape} for {len(self):,} entries")
            rows = np.flatnonzero(rows)
        elif rows.size and rows.dtype.kind not in "iu":
            raise IndexError(f"entries are taken by whole numbers, and not by {rows.dtype}")
        return self.take(np.where(rows < 0, rows + len(self), rows))

    def __iter__(self) -> Iterator[NDArray[Any]]:
        bounds = itertools.pairwise(self.offsets.tolist())
        return (self._between(first, last) for first, last in bounds)

    def _between(self, first: int, last: int) -> NDArray[Any]:
        """The values of an entry; a damaged file may say anything of where they are by now."""
        if not 0 <= first <= last <= len(self.values):
            raise changed_offsets()
        return self.values[first:last]

    def _span(self, start: int, stop: int) -> Ragged:
        if (start, stop) == (0, len(self)):
            return self
        bounds = self.offsets[start : stop + 1]
        first = int(bounds[0])
        values = self._between(first, int(bounds[-1]))
        return self.of_checked(values, bounds - first, self.is_text)

    def take(self, rows: ArrayLike) -> Ragged:
        """Copies of the entries `rows` (whole numbers from 0, any order, repeats) as a Ragged.

        Raises IndexError where a row is negative or past the end, DataError where the offsets were
        damaged since they were checked.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.ndim != 1:
            raise OptionError(f"entries are taken by rows in one axis, and not {wanted.shape}")
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"rows outside 0 <= row < {len(self):,}")
        starts, stops = self.offsets[wanted], self.offsets[wanted + 1]
        lengths = stops - starts
        if wanted.size and (
            starts.min() < 0 or (stops < starts).any() or stops.max() > len(self.values)
        ):
            raise changed_offsets()
        offsets = offsets_of(lengths)
        return self.of_checked(_gathered(self.values, starts, offsets), offsets, self.is_text)

    def padded(
        self, fill: Any = 0, length: int | None = None
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The entries as an array (N, longest, …), and where it holds values: a mask (N, longest).

        The rest is `fill`. With `length` every entry has that length, and longer ones are cut.

        >>> values, mask = Ragged.from_list([[1, 2, 3], [4]]).padded(length=2)
        >>> values.tolist(), mask.tolist()
        ([[1, 2], [4, 0]], [[True, True], [True, False]])
        """
        lengths = self.lengths
        longest = int(lengths.max(initial=0)) if length is None else length
        if longest < 0:
            raise OptionError(f"padded(length={length}): a length is a whole number from 0")
        mask = np.arange(longest) < lengths[:, None]
        values = np.full((len(self), longest, *self.shape), fill, self.dtype)
        kept = np.minimum(lengths, longest)
        # Where nothing is cut, the values are there one after another, in the mask's own order.
        is_whole = int(lengths.max(initial=0)) <= longest
        values[mask] = (
            self.values if is_whole else _gathered(self.values, self.offsets[:-1], offsets_of(kept))
        )
        return values, mask

    def texts(self) -> list[str]:
        r"""The entries as texts; DataError, naming the entry, where one is no UTF-8.

        >>> Ragged.from_list([b"caf\xc3\xa9", b""]).texts()
        ['café', '']
        """
        found = []
        for row, entry in enumerate(self):
            try:
                found.append(str(entry.tobytes(), "utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(
                    f"entry {row} (counting from 0) is no text of UTF-8: {error}. Open the source "
                    "in the encoding that it has, or decode the bytes yourself: entry.tobytes()"
                ) from error
        return found

    def to_list(self) -> list[NDArray[Any]]:
        """The entries as arrays, views of the values."""
        return list(self)

    def copy(self) -> Self:
        """The same in memory of its own, which may be written into."""
        made = type(self).__new__(type(self))
        made._set(self.values.copy(), self.offsets.copy(), self.is_text)
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ragged):
            return NotImplemented
        return (
            self.is_text == other.is_text
            and self.dtype == other.dtype
            and self.shape == other.shape
            and np.array_equal(self.offsets, other.offsets)
            and self.values.tobytes() == other.values.tobytes()
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        del dtype, copy
        raise DataError(f"{len(self):,} entries of varying length are no array: {MAKE_ARRAYS}")

    def __repr__(self) -> str:
        sizes = "".join(f", {size}" for size in self.shape)
        kind = f"{self.dtype}[…{sizes}]"
        return f"<Ragged of {len(self):,} entries: {kind}, {len(self.values):,} in all>"


MAKE_ARRAYS = (
    "encoded images are decoded by rb.decode_images(224) (--image-size 224); to others attach "
    "rb.pad(), which makes arrays and a mask of them, or a function of a batch that does: "
    "values, mask = inputs.padded(); training pads by itself in batches of tokens, "
    "batch_tokens=4096 (--batch-tokens 4096)"
)


def offsets_of(lengths: ArrayLike) -> NDArray[np.int64]:
    """Where entries of these lengths begin, and where the last one ends.

    >>> offsets_of([2, 0, 3]).tolist()
    [0, 2, 2, 5]
    """
    lengths = np.asarray(lengths, np.int64)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def wrong_offsets(offsets: NDArray[Any], total: int) -> str | None:
    """What is wrong with the offsets of `total` values; None where nothing is.

    They are read in pieces: a file that memory does not hold can be checked.

    >>> wrong_offsets(np.array([0, 3, 2, 4]), 4)
    'entry 1 ends at 2, before its beginning at 3'
    """
    if offsets.ndim != 1 or offsets.dtype != np.int64 or len(offsets) == 0:
        return f"they are {offsets.dtype} of shape {offsets.shape}, not int64 in one axis"
    if offsets[0] != 0:
        return f"the first one is {offsets[0]:,}, not 0"
    for start in range(0, len(offsets) - 1, _OFFSETS_OF_CHECK):
        piece = offsets[start : start + _OFFSETS_OF_CHECK + 1]
        wrong = np.flatnonzero(piece[1:] < piece[:-1])
        if len(wrong):
            row = int(wrong[0])
            return (
                f"entry {start + row:,} ends at {piece[row + 1]:,}, before its beginning at "
                f"{piece[row]:,}"
            )
    if offsets[-1] != total:
        return f"the last one is {offsets[-1]:,}, and there are {total:,} values"
    return None


def _gathered(
    values: NDArray[Any], starts: NDArray[np.int64], offsets: NDArray[np.int64]
) -> NDArray[Any]:
    """Stretches of `values` from `starts`, of the lengths that `offsets` say, one after another."""
    total, count = int(offsets[-1]), len(starts)
    if total > _LONG * count:
        # Copying a long entry costs less than an index for each of its values.
        out = np.empty((total, *values.shape[1:]), values.dtype)
        for start, begin, end in zip(
            starts.tolist(), offsets[:-1].tolist(), offsets[1:].tolist(), strict=True
        ):
            out[begin:end] = values[start : start + end - begin]
        return out
    index = np.arange(total) + np.repeat(starts - offsets[:-1], np.diff(offsets))
    return values.take(index, axis=0) if values.flags.c_contiguous else values[index]


# Values an entry, on average, from which on copying entry by entry is the faster way.
_LONG = 250


def changed_offsets() -> DataError:
    """What to say of offsets that fitted the values when they were checked, and do no more."""
    return DataError(
        "the offsets of a ragged column point outside of its values: the file was damaged since it "
        "was opened. Put it back from a copy; rightbatch.verify_pack names what is damaged"
    )


def _entry(entry: Any, row: int) -> NDArray[Any]:
    if isinstance(entry, (str, bytes, bytearray, memoryview)):
        raise DataError(f"entry {row} (counting from 0) is {type(entry).__name__}, others are not")
    try:
        array = np.asarray(entry)
    except ValueError as error:
        raise DataError(f"entry {row} (counting from 0) is no array: {error}") from error
    if array.ndim == 0 or array.dtype.kind not in "buif":
        raise DataError(
            f"entry {row} (counting from 0) is {array.dtype} of shape {array.shape}; valid are "
            "texts, bytes, and arrays of numbers with one axis at least"
        )
    return array


def _refuse_other_kinds(entries: Sequence[Any], *, texts: bool) -> None:
    valid: Any = str if texts else (bytes, bytearray, memoryview)
    for row, entry in enumerate(entries):
        if not isinstance(entry, valid):
            raise DataError(
                f"entry {row} (counting from 0) is {type(entry).__name__}, and the first one is "
                f"{'text' if texts else 'bytes'}: give all of one kind"
            )
