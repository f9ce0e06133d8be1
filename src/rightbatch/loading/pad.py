"""`pad`: entries of varying length as arrays, with a mask that says where they hold values."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError, OptionError, did_you_mean
from rightbatch.loading.row_random import RowRandom
from rightbatch.loading.transform import Function, Inputs, Values
from rightbatch.plan.checks import whole_number

MASK = "mask"
"""What the mask is called among the inputs of a batch."""

MASKED_TARGET = -100
"""The target of a place that holds no value; losses leave it out, as torch's and others' do."""


class Pad(Function):
    """See `pad`. `limited` makes one that refuses batches of more tokens than were asked for."""

    def __init__(
        self, value: float, longest: int | None, multiple_of: int, lengths_of: str | None
    ) -> None:
        self.function = self
        self.name = "pad"
        self.takes_random, self.takes_target = False, True
        self.value = value
        self.longest = longest
        self.multiple_of = multiple_of
        self.lengths_of = lengths_of
        self._fields: tuple[str, ...] = ()
        self._most_tokens: int | None = None

    @override
    def of_fields(self, fields: Sequence[str]) -> Self:
        named = copy.copy(self)
        named._fields = tuple(fields)
        return named

    def limited(self, most_tokens: int) -> Self:
        """The same, raising DataError where a padded batch holds more than so many tokens."""
        limited = copy.copy(self)
        limited._most_tokens = most_tokens
        return limited

    def padded_lengths(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """What entries of these lengths come to in a batch of their own: at least one place."""
        kept = lengths if self.longest is None else np.minimum(lengths, self.longest)
        return np.maximum(1, -(-kept // self.multiple_of)) * self.multiple_of

    def lengths(
        self, inputs: Any, target: Any, rows: NDArray[np.int64]
    ) -> NDArray[np.int64] | None:
        """The lengths of the samples, (B,), before anything is cut; None where none is ragged.

        They are those of the ragged inputs, which have to agree, or of `lengths_of`, or where no
        input is ragged those of the target. Raises DataError where they differ.
        """
        fields = self._by_name(inputs)
        found = {
            name: entries.lengths for name, entries in fields.items() if isinstance(entries, Ragged)
        }
        if not found:
            return target.lengths if isinstance(target, Ragged) else None
        return agreed_lengths(found, self.lengths_of, rows)

    @override
    def __call__(
        self, inputs: Inputs, target: Values | None, rng: RowRandom
    ) -> tuple[Inputs, Values | None]:
        """The batch with arrays in place of every Ragged."""
        lengths = self.lengths(inputs, target, rng.rows)
        if lengths is None:
            return inputs, target
        if self._most_tokens is not None and len(lengths):
            tokens = len(lengths) * int(self.padded_lengths(lengths).max())
            if tokens > self._most_tokens:
                raise DataError(
                    f"a batch of {tokens:,} tokens, padding counted, was made where "
                    f"{self._most_tokens:,} were asked for: a function before pad() gives "
                    "sequences of other lengths than it gave when they were measured. Draw their "
                    "lengths from nothing but the sample, or put the function after pad()"
                )
        fields = self._by_name(inputs)
        ragged = [name for name, entries in fields.items() if isinstance(entries, Ragged)]
        if MASK in fields and ragged:
            raise DataError(
                f"a field of the batch is called {MASK!r}, as the mask of pad() is: give that "
                "column another name"
            )
        padded: dict[str, Any] = {}
        masks: dict[str, NDArray[np.bool_]] = {}
        for name, entries in fields.items():
            if not isinstance(entries, Ragged):
                padded[name] = entries
                continue
            padded[name], mask = self._arrays(entries, self.value)
            if self.lengths_of is None or name == self.lengths_of:
                masks[MASK] = mask
            else:
                masks[f"{MASK}_{name}"] = mask
        if isinstance(target, Ragged):
            is_whole = target.dtype.kind in "iu"
            target = self._arrays(target, MASKED_TARGET if is_whole else np.nan)[0]
        return ({**padded, **masks} if ragged else inputs), target

    def _arrays(self, entries: Ragged, fill: float) -> tuple[Values, NDArray[np.bool_]]:
        if entries.dtype.kind in "iu" and entries.dtype != np.int64:
            # Ids for an embedding, and room for a fill of -100 beside bytes.
            wide = entries.values.astype(np.int64)
            entries = Ragged.of_checked(wide, entries.offsets, False)
        elif entries.dtype.kind == "b" and fill != 0:
            raise DataError(
                "pad() has no value for places without a target where targets are true or false: "
                "make whole numbers of them"
            )
        longest = int(self.padded_lengths(entries.lengths).max(initial=self.multiple_of))
        return entries.padded(fill, longest)

    def _by_name(self, inputs: Any) -> Mapping[str, Any]:
        """The fields of the inputs; a single one has the name of its column."""
        if isinstance(inputs, dict):
            return inputs
        return {self._fields[0] if self._fields else "inputs": inputs}

    @override
    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "pad",
            "value": self.value,
            "longest": self.longest,
            "multiple_of": self.multiple_of,
            "lengths_of": self.lengths_of,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pad) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(tuple(self.to_json().values()))

    def __repr__(self) -> str:
        given = {name: value for name, value in self.to_json().items() if name != "kind"}
        return f"pad({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def pad(
    *,
    value: float = 0,
    longest: int | None = None,
    multiple_of: int = 1,
    lengths_of: str | None = None,
) -> Pad:
    """Make arrays of entries that vary in length: as long as the longest of the batch.

    The inputs become a dict: each ragged column (B, L, …), filled up with `value`, and `mask`
    (B, L) of bool, true where a sample holds a value. A ragged target of whole numbers is filled up
    with -100, which losses leave out, one of floats with NaN. Whole numbers come out as int64,
    floats as they are; other fields stay as they are. L is at least 1.

    `longest` cuts what is longer, inputs and target alike; by default nothing is cut.
    `multiple_of=64` rounds L up, so that there are few shapes for a model that is compiled for
    each. Ragged inputs have to agree in length, sample by sample; where they do not, `lengths_of`
    names the column whose mask is `mask`, and each other one has a mask of its own, `mask_NAME`.

    It runs once a batch, after the functions before it and before those after it. Raises
    OptionError where an option is not valid; DataError, when a batch is made, where lengths differ.

    >>> import rightbatch as rb
    >>> data = rb.open({"ids": rb.Ragged.from_list([[5, 6, 7], [8]]), "y": [0, 1]}, target="y")
    >>> inputs, target = next(iter(rb.Batches(data.transform(rb.pad()), 2, shuffle=False)))
    >>> inputs["ids"].tolist(), inputs["mask"].tolist()
    ([[5, 6, 7], [8, 0, 0]], [[True, True, True], [True, False, False]])
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise OptionError(f"pad(value={value!r}): the value is a number, such as 0")
    multiple_of = whole_number("multiple_of", multiple_of, at_least=1)
    if longest is not None:
        longest = whole_number("longest", longest, at_least=1)
        if longest % multiple_of:
            raise OptionError(
                f"pad(longest={longest}, multiple_of={multiple_of}): the longest length is no "
                f"multiple; take {longest - longest % multiple_of or multiple_of}"
            )
    return Pad(value, longest, multiple_of, lengths_of)


def agreed_lengths(
    lengths: Mapping[str, NDArray[np.int64]], lengths_of: str | None, rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The lengths of samples whose ragged columns have these; DataError where they differ.

    >>> agreed_lengths({"ids": np.array([3, 1])}, None, np.array([7, 8])).tolist()
    [3, 1]
    """
    if lengths_of is not None:
        if lengths_of not in lengths:
            raise DataError(
                f"pad(lengths_of={lengths_of!r}) names no input of varying length."
                f"{did_you_mean(lengths_of, lengths)} Valid are: {', '.join(lengths)}."
            )
        return lengths[lengths_of]
    (first, found), *others = lengths.items()
    for name, other in others:
        wrong = np.flatnonzero(other != found)
        if len(wrong):
            place = int(wrong[0])
            raise DataError(
                f"row {rows[place]:,} has {found[place]:,} entries in {first!r} and "
                f"{other[place]:,} in {name!r}: say which column's lengths count, "
                f"pad(lengths_of={first!r}), or make them equal"
            )
    return found
