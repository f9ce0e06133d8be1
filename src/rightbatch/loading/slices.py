"""The smallest entry: arrays, tensors or lists cut into mini-batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rightbatch.errors import DataError, OptionError
from rightbatch.loading.ahead import RowsAhead
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.checks import whole_number
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan
from rightbatch.plan.row_set import RowSet


class Slices(Sequence[Any]):
    """Mini-batches of arrays as a sequence: see `batches`."""

    def __init__(
        self,
        batch_size: int | str,
        arrays: tuple[Any, ...],
        *,
        shuffle: bool,
        seed: int,
        epoch: int,
    ) -> None:
        if not arrays:
            raise OptionError("batches() was given no array: batches(128, features, labels)")
        lengths = [_length(array) for array in arrays]
        # pandas looks entries up by label unless it is asked by position.
        arrays = tuple(getattr(array, "iloc", array) for array in arrays)
        if len(set(lengths)) > 1:
            found = ", ".join(f"{length:,}" for length in lengths)
            raise DataError(
                f"batches() was given arrays of different lengths: {found}. "
                "Entry k of every array must belong to the same sample"
            )
        self.samples = lengths[0]
        self.batch_size = resolve_batch_size(batch_size, max(1, self.samples))
        seed = whole_number("seed", seed)
        epoch = whole_number("epoch", epoch, at_least=0)
        self._arrays = arrays
        self._ahead = None
        if shuffle and self.samples:
            order = Order.resolve(shuffle=True, window=None, length=self.samples)
            every_row = RowSet.from_range(self.samples, 0, self.samples)
            plan = Plan(length=self.samples, batch_size=self.batch_size, order=order, seed=seed)
            self._ahead = RowsAhead(plan, every_row, epoch)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        start = position * self.batch_size
        stop = min(start + self.batch_size, self.samples)
        taken = self._take(start, stop)
        return taken[0] if len(taken) == 1 else taken

    def __iter__(self) -> Iterator[Any]:
        return (self[position] for position in range(len(self)))

    def __repr__(self) -> str:
        return f"<{len(self):,} batches of {self.batch_size:,}: {self.samples:,} samples>"

    def _take(self, start: int, stop: int) -> tuple[Any, ...]:
        if self._ahead is None:
            return tuple(array[start:stop] for array in self._arrays)
        rows = self._ahead.span(start, stop)
        return tuple(
            array[rows] if _takes_rows(array) else [array[row] for row in rows.tolist()]
            for array in self._arrays
        )


def _takes_rows(array: Any) -> bool:
    """Whether an array of positions gives all of them at once: arrays, tensors, pandas' iloc."""
    return hasattr(array, "shape") or hasattr(array, "obj")


def _length(array: Any) -> int:
    if isinstance(array, Mapping):
        raise OptionError(
            "batches() was given a dict; pass its arrays one by one: batches(128, *data.values())"
        )
    try:
        return len(array)
    except TypeError as error:
        raise OptionError(
            f"batches() was given {array!r}, which has no length. The batch size comes first: "
            "batches(128, features, labels)"
        ) from error


def batches(
    batch_size: int | str, *arrays: Any, shuffle: bool = False, seed: int = 0, epoch: int = 0
) -> Slices:
    """Cut arrays into mini-batches, in step with one another; the last one may be smaller.

    `arrays` are NumPy arrays, tensors, lists: whatever has a length and slices. Unshuffled
    batches are slices, so arrays are not copied. Shuffled ones follow the order of `seed` and
    `epoch`. With one array a batch is its slice, with several a tuple of slices. The result is a
    sequence: it has a length, and any batch can be had by its number.

    Raises DataError where the lengths differ, OptionError where the batch size or an array is not
    valid.

    >>> for features, labels in batches(2, [[1.0], [2.0], [3.0]], ["a", "b", "c"]):
    ...     print(features, labels)
    [[1.0], [2.0]] ['a', 'b']
    [[3.0]] ['c']
    >>> len(batches(128, range(1000)))
    8
    """
    return Slices(batch_size, arrays, shuffle=shuffle, seed=seed, epoch=epoch)
