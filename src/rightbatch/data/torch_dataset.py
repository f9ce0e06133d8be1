"""Map-style `torch.utils.data.Dataset`: samples that somebody else's code makes, one by one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rightbatch.data.arrays import open_arrays
from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset, check_span, valid_rows
from rightbatch.data.options import OpenOptions
from rightbatch.data.sample_values import (
    Sample,
    as_array,
    collate,
    digest,
    named_values,
    value_names,
)
from rightbatch.errors import DataError

LOOKED_AT = 32
"""Samples, evenly spaced from the first to the last, that opening reads twice."""


def open_torch_dataset(dataset: Any, options: OpenOptions) -> Dataset:
    """The samples of a map-style data set, by row number.

    A `TensorDataset` is taken apart: its tensors become columns without a copy, and those of a
    `Subset` of it too where the subset is a stretch of rows. Anything else is read by its own
    `__getitems__` or `__getitem__` whenever a batch is made.

    Raises DataError where it is a stream, has no length or gives what can not be a column.
    """
    from torch.utils.data import DataLoader, IterableDataset

    kind = type(dataset).__name__
    options.refuse_unused(f"a torch data set ({kind})")
    if isinstance(dataset, DataLoader):
        raise DataError(
            "A DataLoader shuffles and cuts batches itself; give what it reads from, "
            "rb.open(loader.dataset), and take batches with rb.Batches."
        )
    if isinstance(dataset, IterableDataset):
        raise DataError(
            f"{kind} is an IterableDataset: a stream has no length and no row by number, so it can "
            "not be split, shuffled or resumed exactly. Give a map-style data set "
            "(__len__ and __getitem__), or keep the samples as arrays: "
            "rb.pack((inputs, target), folder)."
        )
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"{kind} lacks __len__ or __getitem__; a map-style data set has both, and gives sample "
            "k of len(dataset) by dataset[k]."
        )
    tensors = _tensors(dataset)
    if tensors is not None:
        name = options.name or kind
        named = dict(zip(value_names(len(tensors)), tensors, strict=True))
        default_target = "y" if len(tensors) == 2 else None
        return open_arrays(named, options, source=name, default_target=default_target)
    return TorchDataset(dataset, options)


class TorchDataset(Dataset):
    """A map-style data set of torch, read by its own code.

    A sample is an array, tensor, number or text (column `x`), a pair of them (`x` and `y`, the
    target), a longer tuple (`column_0`, …) or a dict. Entries that differ in the length of
    their first axis, texts and bytes are ragged columns. Where the data set has `classes`, a list
    of texts, they are the categories of a target of whole numbers.

    Data sets are seldom made for threads, so one thread reads at a time; one that says
    `thread_safe = True` is read by several.

    The fingerprint is made of the type's name, the length, the columns and the content of 32
    samples, evenly spaced; or of the data set's own `fingerprint`, where that is a text.

    Raises DataError where samples are not all of one kind, or can not be columns.

    >>> from torch.utils.data import StackDataset
    >>> data = TorchDataset(StackDataset(list("abc"), [1.0, 2.0, 4.0]), OpenOptions())
    >>> data
    <Dataset StackDataset: 3 samples; x: uint8[…], y*: float64>
    >>> data.rows([2, 0])["y"]
    array([4., 1.])
    """

    runs_others_code = True

    def __init__(self, dataset: Any, options: OpenOptions) -> None:
        name = options.name or type(dataset).__name__
        self._dataset = dataset
        self._length = len(dataset)
        self._label = name
        self._lock = threading.Lock()
        if self._length == 0:
            raise DataError(f"{name} has zero samples; there is nothing to make batches of.")
        looked_at = min(self._length, LOOKED_AT)
        rows = [k * (self._length - 1) // max(1, looked_at - 1) for k in range(looked_at)]
        samples = self._readable(rows)
        chosen = options.choose(
            name,
            list(next(iter(samples.values()))),
            default_target="y" if set(next(iter(samples.values()))) == {"x", "y"} else None,
        )
        columns = [
            self._describe(column, {row: sample.get(column) for row, sample in samples.items()})
            for column in chosen.columns
        ]
        super().__init__(
            name=name,
            columns=[self._with_classes(column, chosen.target) for column in columns],
            target=chosen.target,
        )
        self._digest, unsteady = self._content(samples, rows)
        if unsteady:
            self.notes = (
                f"{', '.join(unsteady)}: a sample was not the same when it was read a second time, "
                "so its randomness belongs to no seed, and runs can not be repeated or resumed "
                "exactly. Leave augmentation out of the data set and attach it as a function of "
                "(inputs, target, rng): parts.transform(function, train_only=True).",
            )

    def __len__(self) -> int:
        return self._length

    def rows(self, indices: ArrayLike) -> Arrays:
        """The samples at `indices`, by the data set's own code.

        Raises DataError, naming the row, where that raises or gives another kind of sample.
        """
        rows = valid_rows(indices, self._length).tolist()
        return collate(self._read(rows), self.columns, rows, self._label)

    def span(self, start: int, stop: int) -> Arrays:
        """The samples from `start` up to `stop`."""
        check_span(start, stop, self._length)
        return self.rows(np.arange(start, stop))

    @cached_property
    def fingerprint(self) -> str:
        """Of the type, the length, the columns and 32 samples, or of the data set's own one."""
        own = getattr(self._dataset, "fingerprint", None)
        based_on = own if isinstance(own, str) and own else self._digest
        columns = [(c.name, c.dtype.str, c.shape, c.categories, c.is_text) for c in self.columns]
        words = repr((type(self._dataset).__name__, self._length, columns, based_on))
        return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()

    def _read(self, rows: Sequence[int]) -> list[Any]:
        """The samples at `rows`, as the data set gives them."""
        if not rows:
            return []
        with self._reading:
            return self._fetch(rows)

    @property
    def _reading(self) -> AbstractContextManager[Any]:
        return nullcontext() if getattr(self._dataset, "thread_safe", False) else self._lock

    def _fetch(self, rows: Sequence[int]) -> list[Any]:
        many = getattr(self._dataset, "__getitems__", None)
        if not callable(many):
            return [self._item(self._dataset.__getitem__, row) for row in rows]
        try:
            found = many(list(rows))
        except MemoryError:
            raise
        except Exception as error:
            # Which of them failed is known by asking for each; an error names its row.
            for row in rows:
                self._item(lambda row: many([row]), row)
            raise DataError(
                f"{self._label}: __getitems__ raised {_told(error)} for {len(rows):,} rows, and "
                "for none of them alone; repair it, or take it out of the data set."
            ) from error
        if len(found) != len(rows):
            raise DataError(
                f"{self._label}: __getitems__ gave {len(found):,} samples for {len(rows):,} rows; "
                "it has to give one for each, in their order."
            )
        return list(found)

    def _item(self, get: Any, row: int) -> Any:
        try:
            return get(row)
        except MemoryError:
            raise
        except Exception as error:
            raise DataError(
                f"{self._label}, row {row:,} (counting from 0): the data set raised {_told(error)}."
            ) from error

    def _readable(self, rows: Sequence[int]) -> dict[int, Sample]:
        """The samples that can be read; DataError where none can."""
        samples: dict[int, Sample] = {}
        failed: DataError | None = None
        for row in rows:
            try:
                samples[row] = named_values(self._read([row])[0])
            except DataError as error:
                failed = failed or error
        if failed is not None and not samples:
            raise failed
        return samples

    def _describe(self, name: str, values: Mapping[int, Any]) -> Column:
        """The column that these values belong to."""
        arrays = [
            as_array(value, f"{self._label}, row {row:,} (counting from 0), {name!r}")
            for row, value in values.items()
        ]
        is_text = any(isinstance(value, str) for value in values.values())
        is_bytes = any(isinstance(value, (bytes, bytearray)) for value in values.values())
        dtype = np.result_type(*{array.dtype for array in arrays})
        shapes = {array.shape for array in arrays}
        if is_text or is_bytes:
            return Column(name=name, dtype=np.dtype(np.uint8), is_ragged=True, is_text=is_text)
        if len(shapes) == 1:
            return Column(name=name, dtype=dtype, shape=shapes.pop())
        ends = {shape[1:] for shape in shapes}
        if len(ends) > 1 or () in shapes:
            some = ", ".join(map(str, sorted(shapes)[:4]))
            raise DataError(
                f"{self._label}: samples differ in the shape of {name!r}: {some}. A column's "
                "entries may differ in the length of their first axis alone; resize, crop or pad "
                "them in the data set."
            )
        return Column(name=name, dtype=dtype, shape=ends.pop(), is_ragged=True)

    def _with_classes(self, column: Column, target: str | None) -> Column:
        classes = getattr(self._dataset, "classes", None)
        is_code = column.name == target and column.shape == () and column.dtype.kind in "iu"
        if not (is_code and isinstance(classes, (list, tuple)) and len(classes)):
            return column
        if not all(isinstance(text, str) for text in classes):
            return column
        return Column(name=column.name, dtype=column.dtype, categories=tuple(classes))

    def _content(self, samples: Mapping[int, Sample], rows: Sequence[int]) -> tuple[str, list[str]]:
        """The digest of the samples looked at, and the columns that differ when read again."""
        again = self._readable(rows)
        digests: dict[str, str] = {}
        unsteady: list[str] = []
        for column in self.columns:
            first, second = (
                [(row, digest(values[row][column.name])) for row in values]
                for values in (samples, again)
            )
            if first == second:
                digests[column.name] = repr(first)
            else:
                unsteady.append(column.name)
        return repr(digests), unsteady

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._lock = threading.Lock()


def _tensors(dataset: Any) -> tuple[Any, ...] | None:
    """The tensors that hold all samples, in their order; None where there are none such."""
    from torch.utils.data import Subset, TensorDataset

    # A subclass may have a way of its own to give a sample.
    if type(dataset) is TensorDataset:
        return tuple(dataset.tensors)
    if type(dataset) is not Subset:
        return None
    tensors = _tensors(dataset.dataset)
    if tensors is None:
        return None
    indices = np.asarray(dataset.indices, np.int64)
    if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[0] + len(indices))):
        return tuple(tensor[int(indices[0]) : int(indices[-1]) + 1] for tensor in tensors)
    return tuple(tensor[indices] for tensor in tensors)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
