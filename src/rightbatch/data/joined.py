"""Several data sets with the same columns as one, a sample of each after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset, check_span, valid_rows
from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError


class JoinedDataset(Dataset):
    """The samples of `members`, those of the first one first.

    All have the same columns: names in the same order, dtypes, shapes, categories, target and
    inputs. Nothing is copied before it is read.

    Raises DataError that names what differs.

    >>> from rightbatch.data import open
    >>> data = JoinedDataset([open(([1, 2], [0, 1])), open(([5], [1]))])
    >>> len(data), data.rows([2, 0])
    (3, {'x': array([5, 1]), 'y': array([1, 0])})
    """

    def __init__(self, members: Sequence[Dataset]) -> None:
        first = members[0]
        for other in members[1:]:
            _refuse_difference(first, other)
        super().__init__(
            name=" + ".join(member.name for member in members),
            columns=first.columns,
            target=first.target,
            notes=[f"{member.name}: {note}" for member in members for note in member.notes],
        )
        self.members = tuple(members)
        self.overlap = max(member.overlap for member in members)
        self.runs_others_code = any(member.runs_others_code for member in members)
        self.files = tuple(path for member in members for path in member.files)
        self.remote_objects = tuple(one for member in members for one in member.remote_objects)
        self._starts = np.concatenate([[0], np.cumsum([len(member) for member in members])])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Every column that is an input of the members."""
        return self.members[0].inputs

    @cached_property
    def fingerprint(self) -> str:
        """A short text that changes with that of any member."""
        words = "\n".join(member.fingerprint for member in self.members)
        return f"joined-{hashlib.blake2b(words.encode(), digest_size=16).hexdigest()}"

    def start_of(self, member: int) -> int:
        """The row number of the first sample of the member with this number."""
        return int(self._starts[member])

    def rows(self, indices: ArrayLike) -> Arrays:
        """The samples at `indices`, from whichever member each is of."""
        rows = valid_rows(indices, len(self))
        of = np.searchsorted(self._starts, rows, side="right") - 1
        numbers = [int(number) for number in np.unique(of)]
        if len(numbers) <= 1:
            return self._read(numbers[0] if numbers else 0, rows)
        places = [np.flatnonzero(of == number) for number in numbers]
        read = [
            self._read(number, rows[here]) for number, here in zip(numbers, places, strict=True)
        ]
        return {column.name: _merged(column, read, places) for column in self.columns}

    def span(self, start: int, stop: int) -> Arrays:
        """The samples from `start` up to `stop`; a copy where they are of several members."""
        check_span(start, stop, len(self))
        pieces = [
            member.span(max(start - begin, 0), min(stop - begin, len(member)))
            for member, begin in zip(self.members, self._starts.tolist(), strict=False)
            if start < begin + len(member) and stop > begin
        ]
        if not pieces:
            return self.members[0].span(0, 0)
        if len(pieces) == 1:
            return pieces[0]
        return {
            column.name: _concatenated(column, [piece[column.name] for piece in pieces])
            for column in self.columns
        }

    def ragged_bytes(self, name: str) -> int | None:
        """The bytes of all values of a ragged column where every member knows its own."""
        known = [member.ragged_bytes(name) for member in self.members]
        return None if None in known else sum(count for count in known if count is not None)

    def locate(self, row: int) -> str:
        """Where a row stands: in which member, and where the member says."""
        number = int(np.searchsorted(self._starts[1:-1], row, side="right"))
        member = self.members[number]
        return f"row {row:,}, in {member.name} {member.locate(row - self.start_of(number))}"

    def refuse_cut_off(self, stop: int) -> None:
        """Raise DataError where a file was cut off since, and lacks samples before `stop`."""
        for member, begin in zip(self.members, self._starts.tolist(), strict=False):
            if stop > begin:
                member.refuse_cut_off(min(stop - begin, len(member)))

    def release_pages(self) -> None:
        """Let the process forget what it has read through memory maps."""
        for member in self.members:
            member.release_pages()

    def _read(self, number: int, rows: NDArray[np.int64]) -> Arrays:
        member, own = self.members[number], rows - self._starts[number]
        if len(own):
            # Whoever reads the whole can not see its files, and a map without one ends the process.
            member.refuse_cut_off(int(own.max()) + 1)
        return member.rows(own)


def _merged(
    column: Column, read: Sequence[Arrays], places: Sequence[NDArray[np.int64]]
) -> NDArray[Any] | Ragged:
    """A column's values from several members, each at its places."""
    if column.is_ragged:
        joined = Ragged.concatenate([arrays[column.name] for arrays in read])
        return joined.take(np.argsort(np.concatenate(places)))
    values = np.empty((sum(map(len, places)), *column.shape), column.dtype)
    for arrays, here in zip(read, places, strict=True):
        values[here] = arrays[column.name]
    return values


def _concatenated(column: Column, pieces: Sequence[Any]) -> NDArray[Any] | Ragged:
    return Ragged.concatenate(pieces) if column.is_ragged else np.concatenate(pieces)


def _names(columns: Iterable[Column]) -> list[str]:
    return [column.name for column in columns]


def _refuse_difference(first: Dataset, other: Dataset) -> None:
    """DataError that says where the columns of two data sets differ."""
    both = f"{first.name} and {other.name}"
    if _names(first.columns) != _names(other.columns):
        lacking = [
            f"{data.name} has no {', '.join(repr(name) for name in missing)}"
            for data, missing in (
                (other, [n for n in _names(first.columns) if n not in _names(other.columns)]),
                (first, [n for n in _names(other.columns) if n not in _names(first.columns)]),
            )
            if missing
        ]
        raise DataError(
            f"{both} do not have the same columns: "
            + ("; ".join(lacking) or "their order differs")
            + ". Choose the same ones in the same order when opening (columns=…)"
        )
    if first.target != other.target:
        raise DataError(
            f"{both} have other targets, {first.target!r} and {other.target!r}: name the same one "
            "when opening (target=…)"
        )
    if _names(first.inputs) != _names(other.inputs):
        hidden = sorted({*_names(first.inputs)} ^ {*_names(other.inputs)})
        raise DataError(
            f"{both} do not have the same inputs: {', '.join(map(repr, hidden))} is one in one of "
            "them alone. Split both with the same group and weights"
        )
    for one, two in zip(first.columns, other.columns, strict=True):
        if one == two:
            continue
        if one.categories != two.categories and one.kind == two.kind:
            only = sorted({*(one.categories or ())} ^ {*(two.categories or ())})
            shown = ", ".join(map(repr, only[:3])) + (", …" if len(only) > 3 else "")
            raise DataError(
                f"the column {one.name!r} of {both} has other categories"
                f"{f' ({shown} in one of them alone)' if only else ', in another order'}, so that "
                "equal codes stand for different texts: open them as one table first, or write "
                "the codes as numbers"
            )
        raise DataError(
            f"the column {one.name!r} is {one.kind} in {first.name} and {two.kind} in "
            f"{other.name}: give both the same dtype and shape, such as array.astype('float32')"
        )
