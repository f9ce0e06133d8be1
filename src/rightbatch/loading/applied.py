"""A data set with its transforms applied: what a batch would hold, read by span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rightbatch.data.column import Column
from rightbatch.data.dataset import Arrays, Dataset, check_span, valid_rows
from rightbatch.data.ragged import Ragged
from rightbatch.data.row_view import RowView
from rightbatch.errors import OptionError
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.transform import Transform


class Applied(RowView):
    """The fields of `data`'s batches as columns, after fitted transforms of single samples.

    Several stacked inputs are one column here, `inputs`. A `transform` has run already: the
    values come out as a loader would make them, batch by batch.

    Raises DataError where a transform does not fit the data, OptionError for one that may not be
    applied before a split.

    >>> from rightbatch.data import open
    >>> from rightbatch.loading.transforms import scale
    >>> data = Applied(open({"a": [1, 2], "b": [3, 4]}), [scale(0.5)])
    >>> data.span(0, 1)["inputs"].tolist()
    [[0.5, 1.5]]
    """

    def __init__(self, data: Dataset, transforms: Sequence[object]) -> None:
        self._transforms = [_applicable(transform) for transform in transforms]
        pipeline = Pipeline(_Unmapped(data), self._transforms)
        first: list[Any] = list(pipeline.gather(np.arange(1)))
        columns = [
            Column(
                name=track.column.name,
                dtype=values.dtype,
                shape=values.shape if isinstance(values, Ragged) else values.shape[1:],
                categories=track.column.categories,
                is_ragged=track.column.is_ragged,
                is_text=track.column.is_text,
                is_token=track.column.is_token,
            )
            for track, values in zip(pipeline.tracks, first, strict=True)
        ]
        names = [column.name for column in columns]
        if len(set(names)) < len(names):
            raise OptionError(
                f"{data.name}: the stacked inputs are packed as the column {data.target!r}, and so "
                "the target is called; give the target another name"
            )
        super().__init__(data, columns, data.target)
        self._pipeline = pipeline

    @property
    def fingerprint(self) -> str:
        """That of the data, and the transforms."""
        described = [transform.to_json() for transform in self._transforms]
        return f"{self._data.fingerprint}-applied-{described}"

    def rows(self, indices: ArrayLike) -> Arrays:
        """The samples at `indices`, transformed."""
        rows = valid_rows(indices, len(self))
        taken = self._named(self._pipeline.gather(rows))
        # Entries of consecutive rows come as they lie in the source.
        return {
            name: values.copy() if isinstance(values, Ragged) else values
            for name, values in taken.items()
        }

    def span(self, start: int, stop: int) -> Arrays:
        """The samples from `start` up to `stop`, transformed."""
        check_span(start, stop, len(self))
        return self._named(self._pipeline.gather(np.arange(start, stop)))

    def _named(self, values: Sequence[Any]) -> Arrays:
        return {column.name: found for column, found in zip(self.columns, values, strict=True)}


class _Unmapped(RowView):
    """The same data without whole columns: nothing of the source is stacked in memory.

    Consecutive rows are read as a span, which a source that streams can do.
    """

    def __init__(self, data: Dataset) -> None:
        super().__init__(data, data.columns, data.target)

    @property
    def fingerprint(self) -> str:
        return self._data.fingerprint

    def rows(self, indices: ArrayLike) -> Arrays:
        rows = np.asarray(indices)
        if len(rows) and bool((np.diff(rows) == 1).all()):
            return self._data.span(int(rows[0]), int(rows[-1]) + 1)
        return self._data.rows(rows)

    def span(self, start: int, stop: int) -> Arrays:
        return self._data.span(start, stop)

    def ragged_bytes(self, name: str) -> int | None:
        return self._data.ragged_bytes(name)


def _applicable(transform: object) -> Transform:
    """The transform, where applying it before a split leaks nothing and freezes no chance."""
    if not isinstance(transform, Transform):
        name = getattr(transform, "__qualname__", type(transform).__name__)
        raise OptionError(
            f"the transform {name} is a function and is not packed: it may draw at random, which "
            "would be the same in every epoch, and may depend on the batch. Leave it to run when "
            "the pack is read: transforms='leave'"
        )
    if transform.held_out() != transform:
        raise OptionError(
            f"{transform.to_json()['kind']}() draws at random and is not packed: the draws would "
            "be the same in every epoch. Leave it to run when the pack is read: transforms='leave'"
        )
    if transform.needs_fit:
        raise OptionError(
            f"{type(transform).__name__.lower()}() learns from the data and is not packed: fitted "
            "on all samples, it would carry the validation samples into training. Leave it "
            "to be fitted on the train part: transforms='leave'"
        )
    return transform
