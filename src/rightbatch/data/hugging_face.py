"""Hugging Face `datasets.Dataset`: Arrow tables, read where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.arrays import check_target
from rightbatch.data.arrow_arrays import arrow_values, same_length
from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset, check_span, valid_rows
from rightbatch.data.options import OpenOptions
from rightbatch.data.pieces import Pieces
from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError

# The names under which people keep labels, where no column is a ClassLabel.
_TARGET_NAMES = ("label", "labels", "target")
_OWN_PARTS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
_PARTS_IN_ORDER = ("train", "val", "test")


def open_hugging_face(thing: Any, options: OpenOptions) -> Dataset:
    """The rows of a `datasets.Dataset`, or of all parts of a `datasets.DatasetDict`.

    Raises DataError for a stream, for a transform on access, for a dict without `train`, and for
    columns that batches can not be made of.
    """
    from datasets import DatasetDict, IterableDataset, IterableDatasetDict

    if isinstance(thing, (IterableDataset, IterableDatasetDict)):
        raise DataError(
            f"A Hugging Face {type(thing).__name__} is a stream: it has no length and no row by "
            "number, so it can not be split, shuffled or resumed exactly. Load it without "
            "streaming=True; of a stream that is no larger than the disk, "
            "datasets.Dataset.from_generator(lambda: iter(stream)) makes a data set of rows."
        )
    options.refuse_unused("a Hugging Face data set")
    if isinstance(thing, DatasetDict):
        parts, notes = _own_parts(thing)
        return HuggingFaceDataset(parts, options, notes=notes)
    return HuggingFaceDataset({"all": thing}, options)


class HuggingFaceDataset(Dataset):
    """Columns of `datasets.Dataset`s, one after the other, seen through Arrow without a copy.

    Numbers without missing values are read where they lie, memory-mapped or not, as long as no
    selection or shuffle stands before them and Arrow holds them in one chunk; otherwise they are
    joined in memory up to 256 MiB, and read chunk by chunk beyond. Lists of fixed length are
    arrays, so are lists that turn out to have one length; texts, bytes, encoded images and other
    lists are `Ragged`. A `ClassLabel` has its names as categories. The target, where none is named,
    is the only `ClassLabel`, else a column called `label`, `labels` or `target`.

    The fingerprint is that of the `datasets` library with the columns' description.

    >>> import datasets
    >>> rows = datasets.Dataset.from_dict({"text": ["so", "good"], "label": [0, 1]})
    >>> HuggingFaceDataset({"all": rows}, OpenOptions(name="reviews"))
    <Dataset reviews: 2 samples; text: uint8[…], label*: int64>
    """

    def __init__(
        self, parts: Mapping[str, Any], options: OpenOptions, *, notes: Sequence[str] = ()
    ) -> None:
        first = next(iter(parts.values()))
        name = options.name or _name(first)
        for part in parts.values():
            _refuse_transform(part, name)
        self._length = sum(len(part) for part in parts.values())
        if self._length == 0:
            raise DataError(f"{name} has zero samples; there is nothing to make batches of.")
        names = _column_names(first)
        target = None if options.target is not None else _find_target(first, names)
        chosen = options.choose(name, names, default_target=target)
        self._fingerprints = [(key, len(part), part._fingerprint) for key, part in parts.items()]
        self._columns: dict[str, Pieces] = {}
        columns, told = [], list(notes)
        for column in chosen.columns:
            pieces, note = _read(list(parts.values()), column, f"{name}: column {column!r}")
            self._columns[column] = pieces
            told += note
            columns.append(_describe(column, pieces, first.features[column], name))
        super().__init__(
            name=name,
            columns=columns,
            target=chosen.target,
            own_parts=_ranges(parts) if "all" not in parts else {},
            notes=told,
        )
        if chosen.target is not None:
            self._check_target(chosen.target)
        self.files = tuple(
            Path(file["filename"]) for part in parts.values() for file in part.cache_files
        )

    def __len__(self) -> int:
        return self._length

    def rows(self, indices: ArrayLike) -> Arrays:
        """Copies of the samples at `indices`."""
        rows = valid_rows(indices, self._length)
        return {name: pieces.take(rows) for name, pieces in self._columns.items()}

    def span(self, start: int, stop: int) -> Arrays:
        """The samples from `start` up to `stop`; views where they lie in one chunk."""
        check_span(start, stop, self._length)
        return {name: pieces.span(start, stop) for name, pieces in self._columns.items()}

    def array(self, name: str) -> NDArray[Any] | None:
        """The whole column where it is one array, else None."""
        whole = self._columns[self.column(name).name].whole
        return None if isinstance(whole, Ragged) else whole

    def ragged(self, name: str) -> Ragged | None:
        """The whole ragged column where it lies in one piece, else None."""
        whole = self._columns[self.column(name).name].whole
        return whole if isinstance(whole, Ragged) else None

    @cached_property
    def fingerprint(self) -> str:
        """Of the fingerprints that `datasets` keeps, the parts and the columns."""
        described = [
            (c.name, c.dtype.str, c.shape, c.categories, c.is_ragged, c.is_text)
            for c in self.columns
        ]
        words = repr((self._fingerprints, described))
        return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()

    def _check_target(self, target: str) -> None:
        for start in range(0, self._length, 2**20):
            stop = min(start + 2**20, self._length)
            check_target(self.name, target, self._columns[target].span(start, stop))


def _own_parts(parts: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The parts by the names that `split` knows, train first, and what is left out."""
    names = ", ".join(f"{name} ({len(part):,})" for name, part in parts.items())
    if len(parts) == 1:
        return {"all": next(iter(parts.values()))}, []
    found: dict[str, Any] = {}
    left_out = []
    for name, part in parts.items():
        role = _OWN_PARTS.get(name)
        if role is None or role in found:
            left_out.append(f"{name} ({len(part):,} samples)")
        elif len(part):
            found[role] = part
    if "train" not in found:
        raise DataError(
            f"The DatasetDict has no part 'train', but {names or 'no part at all'}; open one of "
            "them by its name: rb.open(parts[name])."
        )
    kept = {role: found[role] for role in _PARTS_IN_ORDER if role in found}
    first = kept["train"].features
    for role, part in kept.items():
        if part.features != first:
            raise DataError(
                f"The parts of the DatasetDict have different columns: train has {first}, and "
                f"{role} {part.features}. Open them apart, rb.open(parts[name]), or cast "
                "them alike."
            )
    if not left_out:
        return kept, []
    return kept, [f"Left out, as no train, validation or test part: {', '.join(left_out)}."]


def _ranges(parts: Mapping[str, Any]) -> dict[str, range]:
    ends = np.cumsum([0, *(len(part) for part in parts.values())]).tolist()
    return {name: range(ends[k], ends[k + 1]) for k, name in enumerate(parts)}


def _name(part: Any) -> str:
    return str(part.info.dataset_name or "the Hugging Face data set")


def _column_names(part: Any) -> list[str]:
    """The columns that `set_format(columns=…)` left, or all of them."""
    wanted = part.format["columns"]
    if part.format["output_all_columns"] or wanted is None:
        return list(part.column_names)
    return [name for name in part.column_names if name in wanted]


def _refuse_transform(part: Any, name: str) -> None:
    if part.format["type"] == "custom":
        raise DataError(
            f"{name} has a transform on access (set_transform, with_transform), which reading "
            "Arrow would leave out in silence. Take it off, dataset.with_format(None), and attach "
            "it as a function of a batch: parts.transform(function)."
        )


def _find_target(part: Any, names: Sequence[str]) -> str | None:
    from datasets import ClassLabel

    labels = [name for name in names if isinstance(part.features[name], ClassLabel)]
    if len(labels) == 1:
        return labels[0]
    if len(labels) > 1:
        return None
    return next((name for name in _TARGET_NAMES if name in names), None)


def _read(parts: Sequence[Any], column: str, described: str) -> tuple[Pieces, list[str]]:
    """The values of a column of all parts, and what is to be told of them."""
    arrays: list[Any] = []
    orders: list[NDArray[np.int64]] = []
    is_mapped, is_list = False, False
    begin = first_row = 0
    for part in parts:
        chunks, order = part.data.column(column), _order(part)
        if chunks.null_count and order is not None:
            # The rows that were chosen may be those that have a value.
            chunks, order = chunks.take(order), None
        _refuse_missing(chunks, described, first_row)
        is_list = is_list or _is_list(chunks.type)
        made = [arrow_values(chunk, described) for chunk in chunks.chunks]
        arrays += made
        is_mapped = is_mapped or order is not None
        orders.append(begin + (np.arange(len(part)) if order is None else order))
        begin += sum(map(len, made))
        first_row += len(part)
    arrays, notes = _alike([array for array in arrays if len(array)], described, is_list=is_list)
    return Pieces(arrays, np.concatenate(orders) if is_mapped else None), notes


def _order(part: Any) -> NDArray[np.int64] | None:
    """The rows of the table that a selection or shuffle left; None where it is all of them."""
    if part._indices is None:
        return None
    order: NDArray[np.int64] = part._indices.column(0).to_numpy().astype(np.int64)
    return order


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    kind = getattr(kind, "storage_type", kind)
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _alike(arrays: list[Any], described: str, *, is_list: bool) -> tuple[list[Any], list[str]]:
    """The chunks as values of one shape: lists that all have one length become arrays."""
    notes = []
    if is_list:
        lengths = {same_length(array) for array in arrays}
        if len(lengths) == 1 and None not in lengths:
            arrays = [array.values.reshape(len(array), *lengths, *array.shape) for array in arrays]
            notes.append(f"{described}: all lists have one length, {lengths.pop()}: an array.")
    shapes = {array.shape if isinstance(array, Ragged) else array.shape[1:] for array in arrays}
    if len(shapes) > 1:
        raise DataError(
            f"{described} holds lists of lists of different lengths: {sorted(shapes)[:4]}. Samples "
            "may vary in the length of one axis, the first: pad the others."
        )
    return arrays, notes


def _refuse_missing(chunks: Any, described: str, first_row: int) -> None:
    if chunks.null_count:
        row = int(np.flatnonzero(chunks.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(
            f"{described} has {chunks.null_count:,} missing values, the first in row "
            f"{first_row + row:,} (counting from 0). Leave those rows out, dataset.filter(lambda "
            "row: row[name] is not None), or fill them with dataset.map."
        )


def _describe(column: str, pieces: Pieces, feature: Any, name: str) -> Column:
    from datasets import ClassLabel

    like = pieces.like
    if isinstance(like, Ragged):
        return Column(
            name=column, dtype=like.dtype, shape=like.shape, is_ragged=True, is_text=like.is_text
        )
    categories = None
    if isinstance(feature, ClassLabel) and feature.names:
        categories = tuple(feature.names)
        _refuse_unlabelled(column, pieces, len(categories), name)
    return Column(name=column, dtype=like.dtype, shape=like.shape[1:], categories=categories)


def _refuse_unlabelled(column: str, pieces: Pieces, classes: int, name: str) -> None:
    """DataError where a label has no name: -1 is how test sets say that there is none."""
    for start in range(0, len(pieces), 2**20):
        labels = pieces.span(start, min(start + 2**20, len(pieces)))
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if len(wrong):
            raise DataError(
                f"{name}: the label {column!r} is {labels[wrong[0]]} in row {start + wrong[0]:,} "
                f"(counting from 0), and its {classes} classes are 0 to {classes - 1}. Leave such "
                f"rows out, dataset.filter(lambda row: row[{column!r}] >= 0), or open other "
                "columns."
            )
