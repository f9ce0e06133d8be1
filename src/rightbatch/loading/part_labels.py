"""The labels of a part's samples as codes, read where they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.column import Column
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.parts import Part
from rightbatch.plan.sampled_epoch import MOST_POSITIONS

# Whole numbers with more distinct values than this are quantities, not classes.
_MOST_CLASSES = 1000
_LABEL_KINDS = "biuSUT"
_STRETCHES = 64


class PartLabels:
    """The labels of a part: their shares, whether neighbours are alike, and codes by position.

    `counts` (C,) are the samples of each label: of all samples up to 2^20, of so many evenly
    spaced ones beyond. A label that is not among those has the code C.

    >>> import rightbatch as rb
    >>> labels = PartLabels.of(rb.split(rb.open("iris"), val=0.2, seed=1).train, [0, 0, 1] * 40)
    >>> labels.counts, labels.codes(np.arange(4))
    (array([80, 40]), array([0, 0, 1, 0]))
    """

    def __init__(
        self, part: Part, values: NDArray[Any] | None = None, column: str | None = None
    ) -> None:
        self._part = part
        self._values = values
        self._column = column
        length = len(part)
        looked_at = min(length, MOST_POSITIONS)
        # Steps of n/m by whole numbers of Python: a product of two could be too large for int64.
        chosen = (
            np.arange(length, dtype=np.int64)
            if looked_at == length
            else np.array([length * k // looked_at for k in range(looked_at)], np.int64)
        )
        self.known, self.counts = np.unique(self._read(chosen), return_counts=True)

    @classmethod
    def of(cls, part: Part, labels: ArrayLike | str) -> PartLabels:
        """From an array of a label a sample of the part, or the name of a column.

        Raises OptionError where the array is of another length or of quantities, DataError where
        the column is not there or holds quantities.
        """
        if isinstance(labels, str):
            why = quantities(part.data.column(labels))
            if why:
                raise DataError(f"labels={labels!r}: {why}. {_BIN_THEM}")
            return cls(part, column=labels)
        values = np.asarray(labels)
        if values.dtype.kind == "O" and all(isinstance(value, str) for value in values.flat):
            values = values.astype(np.str_)
        if values.shape != (len(part),):
            raise OptionError(
                f"labels of shape {values.shape} do not fit the {len(part):,} samples of "
                f"{part.data.name}, {part.name}: give one label a sample of the part, in its order"
            )
        if values.dtype.kind not in _LABEL_KINDS:
            raise OptionError(
                f"labels of {values.dtype} are no classes: valid are whole numbers, booleans and "
                f"texts. {_BIN_THEM}"
            )
        return cls(part, values)

    @property
    def equal_by_chance(self) -> float:
        """The chance that two different samples have the same label: Σ K(K - 1) / n(n - 1)."""
        counts, total = self.counts.astype(np.float64), float(self.counts.sum())
        return float((counts * (counts - 1)).sum() / (total * (total - 1))) if total > 1 else 1.0

    def codes(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The codes of the labels at `positions` of the part, int64 (M,)."""
        values = self._read(positions)
        codes = np.minimum(np.searchsorted(self.known, values), len(self.known) - 1)
        return np.where(self.known[codes] == values, codes, len(self.known))

    def equal_neighbours(self) -> float:
        """The share of neighbouring samples that have the same label."""
        length = len(self._part)
        if length < 2:
            return 1.0
        stretches = [(0, length)]
        if length > MOST_POSITIONS:
            size = MOST_POSITIONS // _STRETCHES
            firsts = [(length - size) * k // (_STRETCHES - 1) for k in range(_STRETCHES)]
            stretches = [(first, first + size) for first in firsts]
        equal = [np.diff(self.codes(np.arange(*stretch))) == 0 for stretch in stretches]
        return float(np.concatenate(equal).mean())

    def _read(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        if self._values is not None:
            return self._values[positions]
        assert self._column is not None  # one of the two is given
        data, rows = self._part.data, self._part.rows.take(positions)
        values = data.array(self._column)
        if values is not None:
            return values[rows].reshape(len(rows))
        # In ascending order every piece of a file is read once.
        order = np.argsort(rows)
        read = np.asarray(data.rows(rows[order])[self._column]).reshape(len(rows))
        values = np.empty_like(read)
        values[order] = read
        return values


def target_labels(part: Part) -> tuple[PartLabels | None, str | None]:
    """The labels of the target, or None and a sentence that says why there are none."""
    name = part.data.target
    if name is None:
        return None, "the data have no target: hand labels=… over to measure their balance"
    why = quantities(part.data.column(name))
    if why:
        return None, f"the balance of labels was not measured: {why}. {_BIN_THEM}"
    labels = PartLabels(part, column=name)
    if labels.known.dtype.kind in "iu" and len(labels.known) > _MOST_CLASSES:
        why = f"the target {name!r} has {len(labels.known):,} distinct values, no classes"
        return None, f"the balance of labels was not measured: {why}. {_BIN_THEM}"
    return labels, None


# Bins of the library's own choice would decide the verdict.
_BIN_THEM = "Sort them into bins of your choice first, labels=np.digitize(values, edges)"


def quantities(column: Column) -> str | None:
    """Why the values of a column are no labels; None where they may be.

    >>> quantities(Column(name="price", dtype=np.dtype("float64")))
    "the column 'price' is float64 of shape (), quantities and no classes"
    """
    is_single = column.shape in ((), (1,)) and not column.is_ragged
    if is_single and column.dtype.kind in _LABEL_KINDS:
        return None
    shape = f"{column.kind}, " if column.is_ragged else f"{column.dtype} of shape {column.shape}, "
    return f"the column {column.name!r} is {shape}" + (
        "quantities and no classes" if is_single else "and a label is one value a sample"
    )
