"""What is to be learned: classes or numbers, the loss, and how the target is encoded for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from rightbatch.data.column import Column
from rightbatch.data.dataset import Dataset
from rightbatch.data.ragged import MAKE_ARRAYS, Ragged
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.parts import Part
from rightbatch.loading.token_batches import pad_of
from rightbatch.loading.transform import Function, Transform, Values, as_numpy
from rightbatch.loading.transforms import Cast
from rightbatch.training.losses import Loss, find_loss, refuse_token_shapes

# Whole numbers with more distinct values than this are quantities, not classes.
_MOST_CLASSES = 1000
_MOST_LOOKED_AT = 1000
_MOST_SHOWN = 12
# A source that reads samples whole reads fewer at a time.
_PIECE_ROWS, _SPAN_ROWS = 1 << 20, 1 << 12


@dataclass(frozen=True, eq=False)
class EncodeClasses(Transform):
    """Class labels to codes 0 … K-1, int64, or float32 0 and 1 for one sigmoid output."""

    classes: NDArray[Any]
    dtype: np.dtype[Any]
    column: str | None = None
    # In training the classes are those of the data themselves, and a batch of one sample pays.
    is_checked: bool = False

    @override
    def describe(self, column: Column) -> Column:
        return replace(column, dtype=self.dtype, shape=(), categories=None)

    @override
    def apply(self, values: Values) -> Values:
        values = values.reshape(len(values))
        if self.is_checked:
            self._refuse_unknown(values)
        if self._are_codes:
            return values.astype(self.dtype)
        return np.searchsorted(self.classes, values).astype(self.dtype)

    def _refuse_unknown(self, values: Values) -> None:
        unknown = np.unique(values[~np.isin(values, self.classes)]).tolist()
        if unknown:
            known = self.classes.tolist()
            shown = ", ".join(map(repr, known[:_MOST_SHOWN])) + (
                f", … {len(known) - _MOST_SHOWN} more" if len(known) > _MOST_SHOWN else ""
            )
            raise DataError(
                f"the target {self.column!r} holds {', '.join(map(repr, unknown[:_MOST_SHOWN]))}, "
                f"and the model has learned no such class; it knows {shown}. Leave such samples "
                "out, or open the data without a target to predict without scores"
            )

    @property
    def _are_codes(self) -> bool:
        return self.classes.dtype.kind in "bui" and np.array_equal(
            self.classes, np.arange(len(self.classes))
        )

    @override
    def to_json(self) -> dict[str, Any]:
        return {"kind": "encode_classes", "classes": self.classes.tolist(), "column": self.column}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a run learns.

    `classes` are the labels in code order, None for regression; `labels` the texts that they
    stand for, where the target is text; `outputs` is the number of outputs of a built-in model;
    `loss` the loss of its outputs. `is_per_token` says that a sample's target holds a code a token
    (T,), and its outputs are (T, K); the codes are the classes themselves then.
    """

    loss: Loss
    outputs: int
    classes: NDArray[Any] | None
    target: str
    keeps_integers: bool
    labels: tuple[str, ...] | None = None
    is_per_token: bool = False

    def prepare(self, part: Part, *, is_checked: bool = False) -> Part:
        """The part with its batches cast for the model and the target encoded for the loss.

        Data without a target are cast alone. With `is_checked=True`, reading a label that is none
        of the classes raises DataError.
        """
        inputs, target = part.example()
        added: list[Transform | Function] = []
        columns = {column.name for column in part.data.inputs}
        tokens = {column.name for column in part.data.inputs if column.is_token}
        for name, values in inputs.items() if isinstance(inputs, dict) else [(None, inputs)]:
            if isinstance(values, Ragged):
                raise DataError(
                    f"a model takes arrays, and the entries of "
                    f"{name or part.data.inputs[0].name!r} vary in length: {MAKE_ARRAYS}"
                )
            dtype = as_numpy(values).dtype
            if name is not None and dtype == np.bool_ and name not in columns:
                continue  # a mask of pad(), which models take as it is
            # Bytes are brightness, unless they are codes of a vocabulary.
            is_code = dtype.itemsize > 1 or (name or part.data.inputs[0].name) in tokens
            is_index = self.keeps_integers and dtype.kind in "ui" and is_code
            if dtype.kind not in "buif":
                raise DataError(
                    f"the inputs{f' {name!r}' if name else ''} are {dtype}; a model takes numbers"
                )
            # torch looks things up by int32 and int64 alone.
            wanted = np.dtype(np.int64 if is_index else np.float32)
            if dtype not in ((np.int32, np.int64) if is_index else (np.float32,)):
                added.append(Cast(wanted, name))
        column = part.data.target
        if column is None:
            return replace(part, transforms=(*part.transforms, *added))
        if self.is_per_token:
            if as_numpy(target).dtype != np.int64:
                added.append(Cast(np.dtype(np.int64), column))
        elif self.classes is not None:
            is_binary = self.loss.name == "binary_cross_entropy"
            wanted = np.dtype(np.float32 if is_binary else np.int64)
            added.append(EncodeClasses(self.classes, wanted, column, is_checked))
        elif as_numpy(target).dtype != np.float32:
            added.append(Cast(np.dtype(np.float32), column))
        return replace(part, transforms=(*part.transforms, *added))


def resolve_task(
    part: Part,
    *,
    model: str | None,
    output_shape: tuple[int, ...] | None = None,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Task:
    """The task that target, model and loss define together.

    Whole numbers, booleans and texts are classes, floats are quantities; so are whole numbers
    with more than 1,000 distinct values, and every target of the model `linear`. Two classes are
    learned with one output and binary cross-entropy, except by `softmax`; more with one output
    a class. Rows of numbers are class probabilities where they are not negative and add up to
    one, as one-hot rows do. A target of shape (B, 1) is one of (B,). `output_shape` is that of one
    sample's outputs of a model that is not built in. Whole numbers (B, T) beside outputs (B, T, K)
    are a class a token.

    Raises DataError where the data have no target, OptionError where model, loss and target
    contradict one another.
    """
    data = part.data
    if data.target is None:
        names = ", ".join(column.name for column in data.columns)
        raise DataError(
            f"{data.name} has no target, so there is nothing to learn: name it when opening "
            f"(target=…, --target). The columns are: {names}."
        )
    name = model.partition(":")[0] if model else None
    given = None if loss is None else find_loss(loss)
    if data.column(data.target).is_ragged and isinstance(part.example()[1], Ragged):
        raise DataError(
            f"a loss takes arrays, and the entries of the target {data.target!r} vary in length: "
            f"{MAKE_ARRAYS}"
        )
    target = as_numpy(part.example()[1])
    if target.dtype.kind == "f" and (given is None or given.name != "custom"):
        _refuse_padded_numbers(part)
    outputs = count_outputs(output_shape)
    if _is_per_token(part, target, output_shape, name, given):
        return _token_task(data, given or find_loss("cross_entropy"), output_shape)
    width = prod(target.shape[1:])
    wants_numbers = name == "linear" or (given is not None and given.name == "squared_error")
    is_binary = name == "logistic" or (given is not None and given.name == "binary_cross_entropy")
    # Whole numbers that a transform has made into others are quantities.
    is_label = width == 1 and (target.dtype.kind in "bui" or is_binary)
    classes = _classes(data, target.dtype) if is_label and not wants_numbers else None
    rows_are_probabilities = width > 1 and target.ndim == 2 and _are_probabilities(part)
    if classes is not None and len(classes) < 2:
        raise DataError(
            f"the target {data.target!r} of {data.name} has the one value {classes[0].item()!r}; "
            "there is nothing to tell apart"
        )
    if given is not None:
        chosen = given
    elif name == "softmax":
        chosen = find_loss("cross_entropy")
    elif is_binary or (classes is not None and len(classes) == 2 and outputs in (None, 1)):
        chosen = find_loss("binary_cross_entropy")
    elif classes is not None or (rows_are_probabilities and not wants_numbers):
        chosen = find_loss("cross_entropy")
    else:
        chosen = find_loss("squared_error")
    who = f"the model {name}" if name in ("softmax", "logistic") else f"loss {chosen.name}"
    found = f"the target {data.target!r} of {data.name}"
    if name in ("softmax", "logistic") and wants_numbers:
        raise OptionError(
            f"the model {name} learns classes and loss {chosen.name} quantities: use "
            "the model linear, or leave the loss out"
        )
    if is_binary and classes is None:
        raise OptionError(
            f"{who} is for two classes, and {found} holds {_describe(target)}: use "
            f"{'softmax' if rows_are_probabilities else 'linear or mlp:100 with squared_error'}"
        )
    if is_binary and classes is not None and len(classes) > 2:
        raise OptionError(
            f"{who} tells two classes apart, and {found} has {len(classes)}: use the model softmax "
            "or mlp:100 with the loss cross_entropy"
        )
    if chosen.name == "cross_entropy" and classes is None and not rows_are_probabilities:
        raise OptionError(
            f"{who} learns classes, and {found} holds {_describe(target)}: use the model linear, "
            "or mlp:100 with the loss squared_error"
        )
    if classes is None:
        count = width
    elif chosen.name == "cross_entropy" or name == "softmax" or len(classes) > 2:
        count = len(classes)
    else:
        count = 1
    if outputs is not None and chosen.name != "custom" and outputs != count:
        what = f"{len(classes)} classes" if classes is not None else _describe(target)
        raise OptionError(
            f"the model has {outputs} output{'s' if outputs != 1 else ''}; {chosen.name} with the "
            f"target {data.target!r} ({what}) takes {count}"
            + (
                ". Where the target is a quantity, say so: loss='squared_error' "
                "(--loss squared_error)"
                if classes is not None and given is None and outputs == 1
                else ""
            )
        )
    return Task(
        loss=chosen,
        outputs=count,
        classes=classes,
        target=data.target,
        keeps_integers=model is None,
        labels=None if classes is None else data.column(data.target).categories,
    )


def count_outputs(output_shape: tuple[int, ...] | None) -> int | None:
    """The number of outputs of a sample; None where that is not one axis, or not known.

    >>> count_outputs((10,)), count_outputs(()), count_outputs((64, 10)), count_outputs(None)
    (10, 1, None, None)
    """
    if output_shape is None or len(output_shape) > 1:
        return None
    return output_shape[0] if output_shape else 1


def _is_per_token(
    part: Part,
    target: Values,
    output_shape: tuple[int, ...] | None,
    name: str | None,
    given: Loss | None,
) -> bool:
    """Whether the target holds a class a token; OptionError where the model tells no such."""
    if target.ndim < 2 or target.dtype.kind not in "iu":
        return False
    data = part.data
    assert data.target is not None  # the caller has refused data without one
    is_token = data.column(data.target).is_token
    if given is not None and given.name not in ("cross_entropy", "custom"):
        if is_token:
            raise OptionError(
                f"loss {given.name} is for other targets, and {data.target!r} of {data.name} holds "
                "codes of tokens: leave the loss out, or take cross_entropy"
            )
        return False
    if output_shape is not None and (1, *output_shape[:-1]) == target.shape:
        return True
    if is_token and given is not None and given.name == "custom":
        return True  # a function takes outputs of whatever shape it likes
    is_cross_entropy = given is not None and given.name == "cross_entropy"
    if target.size == 1 and not is_token:
        return False  # a class a sample, (B, 1)
    if not is_token and (not is_cross_entropy or (target.ndim == 2 and _are_probabilities(part))):
        return False
    if output_shape is not None:
        refuse_token_shapes(("B", *output_shape), ("B", *target.shape[1:]))
    places = ", ".join(map(str, target.shape[1:]))
    raise OptionError(
        f"the target {data.target!r} of {data.name} holds a code for each of {places} tokens, and "
        f"{f'the model {name}' if name else 'a built-in model'} says one thing a sample: give a "
        f"torch.nn.Module whose outputs are (B, {places}, classes) (--model FILE.py:FUNCTION)"
    )


def _refuse_padded_numbers(part: Part) -> None:
    """OptionError where the target holds numbers a token, which pad() fills up with NaN."""
    data = part.data
    assert data.target is not None  # the caller has refused data without one
    if data.column(data.target).is_ragged and pad_of(part) is not None:
        raise OptionError(
            f"the target {data.target!r} of {data.name} holds numbers a token, filled up with NaN "
            "where a sample has none, and the built-in losses leave out tokens of whole numbers "
            "alone: give a function of (outputs, target) that leaves NaN out (loss=…)"
        )


def _token_task(data: Dataset, loss: Loss, output_shape: tuple[int, ...] | None) -> Task:
    """The task of telling a code for each token."""
    assert data.target is not None  # the caller has refused data without one
    count = output_shape[-1] if output_shape else 1
    labels = data.column(data.target).categories
    if labels is not None and len(labels) != count and loss.name == "cross_entropy":
        raise OptionError(
            f"the model has {count} outputs a token, and the vocabulary of the target "
            f"{data.target!r} of {data.name} has {len(labels)}: give it {len(labels)}"
        )
    return Task(
        loss=loss,
        outputs=count,
        classes=None,
        target=data.target,
        keeps_integers=True,
        labels=labels,
        is_per_token=True,
    )


def _describe(target: Values) -> str:
    """What the target of a sample is, for messages."""
    return "quantities" if target.ndim == 1 else f"values of shape {target.shape[1:]} a sample"


def _are_probabilities(part: Part) -> bool:
    """Whether the target's rows are class probabilities, one-hot rows included.

    Up to 1,000 samples across the part are looked at: one alone could be such by chance.
    """
    places = np.unique(np.linspace(0, len(part) - 1, _MOST_LOOKED_AT).astype(np.int64))
    rows = part.rows.take(places)
    pipeline = part.pipeline
    target = as_numpy(pipeline.finish(pipeline.gather(rows), rows, seed=0, epoch=0)[1])
    sums = target.sum(axis=1, dtype=np.float64)
    return bool((target >= 0).all() and np.abs(sums - 1.0).max() < 1e-3)


def _classes(data: Dataset, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """The labels of the target in order; None where the target is a quantity.

    `dtype` is the target's after the transforms. Floats are labels where they are all 0 or 1:
    who asks for two classes writes them so.
    """
    assert data.target is not None  # the caller has refused data without one
    column = data.column(data.target)
    if column.categories is not None:
        return np.arange(len(column.categories))
    is_float = dtype.kind == "f"
    classes: NDArray[Any] | None = None
    for values in _target_pieces(data, data.target):
        if is_float and not bool(((values == 0) | (values == 1)).all()):
            return None
        found = np.unique(values)
        classes = found if classes is None else np.union1d(classes, found)
        if len(classes) > _MOST_CLASSES:
            return None
    return classes


def _target_pieces(data: Dataset, target: str) -> Iterator[NDArray[Any]]:
    """The target's values, a piece at a time: there may be more than memory holds."""
    values = data.array(target)
    step = _SPAN_ROWS if values is None else _PIECE_ROWS
    for start in range(0, len(data), step):
        stop = min(start + step, len(data))
        if values is None:
            yield from _readable(data, target, start, stop)
        else:
            yield values[start:stop]


def _readable(data: Dataset, target: str, start: int, stop: int) -> Iterator[NDArray[Any]]:
    """The target of the samples that can be read: those that can not are told when trained on."""
    waiting = [(start, stop)]
    while waiting:
        first, last = waiting.pop()
        try:
            yield data.span(first, last)[target]
        except MemoryError:
            raise
        except Exception:
            if last - first > 1:
                middle = (first + last) // 2
                waiting += [(middle, last), (first, middle)]
