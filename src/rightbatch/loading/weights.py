"""Weights of samples: from an array, a column or the classes of the target to an order of draws."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rightbatch.data.dataset import Dataset
from rightbatch.data.without_input import WithoutInput
from rightbatch.errors import DataError, OptionError, did_you_mean
from rightbatch.loading.parts import Part, Parts
from rightbatch.plan.weighted import WeightedOrder

BALANCED = "balanced"
"""In the place of weights: all classes of the target equally likely."""

_PIECE_ROWS = 4096


def weighted_order(part: Part, weights: ArrayLike | str, length: int) -> WeightedOrder:
    """The order that draws from `part` by `weights`, in epochs of `length` draws.

    `weights` are numbers, one a sample of the part or one a sample of its data, the name of a
    column of numbers, or "balanced".

    Raises OptionError where a number is negative or not finite, where all are 0 and where there
    are too many or too few, DataError where a column is none of numbers, or the target none of
    classes.

    >>> import rightbatch as rb
    >>> order = weighted_order(rb.split(rb.open("iris"), val=30).train, "balanced", 300)
    >>> order.population, order.length
    (120, 300)
    """
    if isinstance(weights, str) and weights == BALANCED:
        return WeightedOrder.balanced(_target_codes(part), length)
    numbers = _column(part, weights) if isinstance(weights, str) else _given(part, weights)
    return WeightedOrder.from_weights(numbers, length, name=lambda place: _row(part, place))


def without_weights(part: Part, weights: ArrayLike | str | None) -> Part:
    """The part without the column that weighs its samples among the inputs.

    Raises OptionError where transforms have been attached with it among them.
    """
    name = _hidden_column(part.data, weights)
    if name is None:
        return part
    _refuse_attached(part, name)
    return replace(part, data=WithoutInput(part.data, name))


def parts_without_weights(parts: Parts, weights: ArrayLike | str | None) -> Parts:
    """All parts without that column among the inputs; see `without_weights`."""
    name = _hidden_column(parts.data, weights)
    if name is None:
        return parts
    data = WithoutInput(parts.data, name)
    for part in parts.all.values():
        _refuse_attached(part, name)
    changed: dict[str, Any] = {
        part_name: replace(part, data=data) for part_name, part in parts.all.items()
    }
    settings = {**parts.settings, "weights": name}
    return replace(parts, data=data, settings=settings, **changed)


def weights_text(weights: ArrayLike | str | None) -> str | None:
    """The weights for a run's configuration: a word, or a digest of the numbers.

    >>> weights_text("balanced"), weights_text([1.0, 2.0])
    ('balanced', '2 numbers, 2bc1933bf39751c1')
    """
    if weights is None or isinstance(weights, str):
        return weights
    numbers = np.ascontiguousarray(_numbers(weights), "<f8")
    return f"{len(numbers)} numbers, {hashlib.blake2b(numbers.data, digest_size=8).hexdigest()}"


def _hidden_column(data: Dataset, weights: ArrayLike | str | None) -> str | None:
    """The column of weights where it is an input of the data."""
    if not isinstance(weights, str) or weights == BALANCED:
        return None
    return weights if any(column.name == weights for column in data.inputs) else None


def _refuse_attached(part: Part, name: str) -> None:
    if part.transforms:
        raise OptionError(
            f"weights={name!r} is an input of {part.data.name}, and transforms have been attached "
            f"with it among the inputs: name it before, rb.split(data, weights={name!r}, …)"
        )


def _numbers(weights: ArrayLike) -> NDArray[Any]:
    try:
        numbers = np.asarray(weights)
    except (TypeError, ValueError):
        # Lists of unequal lengths, and tensors that lie on a device or are being learned.
        numbers = np.empty(0, object)
    if numbers.dtype.kind not in "buif" or not numbers.ndim:
        shown = reprlib.repr(weights)
        raise OptionError(
            f"weights={shown} are no numbers, one a sample: give a list or an array of them, the "
            f"name of a column, or {BALANCED!r} for classes that are equally likely"
        )
    return numbers


def _given(part: Part, weights: ArrayLike) -> NDArray[Any]:
    numbers = _numbers(weights)
    if numbers.ndim == 1 and len(numbers) == len(part):
        return numbers
    if numbers.ndim == 1 and len(numbers) == len(part.data):
        # A part as long as the data is all of them, so that the two can not be mistaken.
        return numbers[part.rows.take(np.arange(len(part)))]
    raise OptionError(
        f"weights of shape {numbers.shape} do not fit: give one number for each of the "
        f"{len(part):,} samples of {part.name}, in their order, or for each of the "
        f"{len(part.data):,} of {part.data.name}"
    )


def _column(part: Part, name: str) -> NDArray[Any]:
    data = part.data
    names = [column.name for column in data.columns]
    if name not in names:
        raise DataError(
            f"weights={name!r} is no column of {data.name}."
            f"{did_you_mean(name, [*names, BALANCED])} Valid are {', '.join(names)}, and "
            f"{BALANCED!r} for classes that are equally likely."
        )
    column = data.column(name)
    if name == data.target:
        raise DataError(
            f"weights={name!r} is the target of {data.name}: for classes that are equally likely "
            'say weights="balanced", else name a column of weights'
        )
    if (
        column.shape not in ((), (1,))
        or column.is_ragged
        or column.categories is not None
        or column.dtype.kind not in "buif"
    ):
        what = "texts" if column.categories is not None or column.is_text else column.kind
        raise DataError(
            f"weights={name!r}: the column is {what}, and a weight is one number a sample"
        )
    return _values(part, name)


def _target_codes(part: Part) -> NDArray[np.int64]:
    name = part.data.target
    if name is None:
        raise DataError(
            f'weights="balanced" makes the classes of the target equally likely, and '
            f"{part.data.name} has no target: name it when opening (target=…), or give weights"
        )
    column = part.data.column(name)
    if column.shape not in ((), (1,)) or column.is_ragged or column.dtype.kind not in "biuSU":
        is_quantity = column.dtype.kind == "f" and column.shape in ((), (1,))
        remedy = "sort it into bins and" if is_quantity else "leave it out, or"
        raise DataError(
            f'weights="balanced" takes a target of classes, one a sample, and {name!r} of '
            f"{part.data.name} is {column.kind}: {remedy} give weights of your own"
        )
    return np.unique(_values(part, name), return_inverse=True)[1].astype(np.int64)


def _values(part: Part, name: str) -> NDArray[Any]:
    """A column's values in the part, (samples,)."""
    part.data.refuse_cut_off(len(part.data))
    array = part.data.array(name)
    pieces = [
        part.data.rows(rows)[name] if array is None else array[rows] for rows in _pieces(part)
    ]
    return np.concatenate(pieces).reshape(len(part))


def _pieces(part: Part) -> Iterator[NDArray[np.int64]]:
    for chunk in part.rows.chunks():
        for start in range(0, len(chunk), _PIECE_ROWS):
            yield chunk[start : start + _PIECE_ROWS]


def _row(part: Part, place: int) -> str:
    row = int(part.rows.take(np.array([place]))[0])
    return f"row {row:,} of {part.data.name}"
