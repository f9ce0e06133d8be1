"""What is to be learned: classes or numbers, the loss, and how the target is encoded for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from rightbatch.data.column import Column
from rightbatch.data.dataset import Dataset
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.parts import Part
from rightbatch.loading.transform import Function, Transform, Values, as_numpy
from rightbatch.loading.transforms import Cast
from rightbatch.training.losses import Loss, find_loss

# Whole numbers with more distinct values than this are quantities, not classes.
_MOST_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class EncodeClasses(Transform):
    """Class labels to codes 0 … K-1, int64, or float32 0 and 1 for one sigmoid output."""

    classes: NDArray[Any]
    dtype: np.dtype[Any]
    column: str | None = None

    @override
    def describe(self, column: Column) -> Column:
        return replace(column, dtype=self.dtype, categories=None)

    @override
    def apply(self, values: Values) -> Values:
        if self._are_codes:
            return values.astype(self.dtype)
        return np.searchsorted(self.classes, values).astype(self.dtype)

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

    `classes` are the labels in code order, None for regression; `outputs` is the number of
    outputs of a built-in model; `loss` the loss of its outputs.
    """

    loss: Loss
    outputs: int
    classes: NDArray[Any] | None
    target: str
    keeps_integers: bool

    def prepare(self, part: Part) -> Part:
        """The part with its batches cast for the model and the target encoded for the loss."""
        inputs, target = part.example()
        added: list[Transform | Function] = []
        for name, values in inputs.items() if isinstance(inputs, dict) else [(None, inputs)]:
            dtype = as_numpy(values).dtype
            is_index = self.keeps_integers and dtype.kind in "ui" and dtype.itemsize > 1
            if dtype.kind not in "buif":
                raise DataError(
                    f"the inputs{f' {name!r}' if name else ''} are {dtype}; a model takes numbers"
                )
            if dtype != np.float32 and not is_index:
                added.append(Cast(np.dtype(np.float32), name))
        encoded = as_numpy(target)
        if encoded.ndim == 1 and self.classes is not None:
            wanted = np.float32 if self.loss.name == "binary_cross_entropy" else np.int64
            added.append(EncodeClasses(self.classes, np.dtype(wanted), self.target))
        elif encoded.dtype != np.float32:
            added.append(Cast(np.dtype(np.float32), self.target))
        return replace(part, transforms=(*part.transforms, *added))


def resolve_task(
    part: Part,
    *,
    model: str | None,
    outputs: int | None = None,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Task:
    """The task that target, model and loss define together.

    Whole numbers, booleans and texts are classes, floats are quantities; so are whole numbers
    with more than 1,000 distinct values, and every target of the model `linear`. Two classes are
    learned with one output and binary cross-entropy, except by `softmax`; more with one output
    a class. `outputs` is the number of outputs of a model that is not built in.

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
    target = as_numpy(part.example()[1])
    wants_numbers = name == "linear" or (given is not None and given.name == "squared_error")
    classes = None if wants_numbers or target.ndim > 1 else _classes(data)
    if name in ("softmax", "logistic") and classes is None and target.ndim == 1:
        raise OptionError(
            f"{name} learns classes, and the target {data.target!r} of {data.name} is a "
            "quantity: use --model linear or mlp:100"
        )
    if classes is not None and len(classes) < 2:
        raise DataError(
            f"the target {data.target!r} of {data.name} has the one value {classes[0]!r}; "
            "there is nothing to tell apart"
        )
    if name == "logistic" and classes is not None and len(classes) > 2:
        raise OptionError(
            f"logistic tells two classes apart and the target {data.target!r} has "
            f"{len(classes)}: use --model softmax"
        )
    chosen = given or _default_loss(name, target, classes, outputs)
    wide = target.shape[1] if target.ndim > 1 else 1
    if chosen.name == "cross_entropy":
        count = len(classes) if classes is not None else wide
    elif chosen.name == "binary_cross_entropy" and classes is not None and len(classes) > 2:
        raise OptionError(
            f"binary_cross_entropy is for two classes and the target {data.target!r} has "
            f"{len(classes)}: use --loss cross_entropy"
        )
    else:
        count = wide
    if outputs is not None and chosen.name != "custom" and outputs != count:
        what = f"{len(classes)} classes" if classes is not None else f"{wide} values a sample"
        raise OptionError(
            f"the model has {outputs} outputs; {chosen.name} with the target {data.target!r} "
            f"({what}) takes {count}"
        )
    return Task(
        loss=chosen,
        outputs=count,
        classes=classes,
        target=data.target,
        keeps_integers=model is None,
    )


def _default_loss(
    name: str | None, target: Values, classes: NDArray[Any] | None, outputs: int | None
) -> Loss:
    if classes is None:
        # Rows of numbers under a softmax are class probabilities (one_hot makes them).
        is_probability = target.ndim == 2 and (name == "softmax" or _is_one_hot(target))
        return find_loss("cross_entropy" if is_probability else "squared_error")
    if len(classes) == 2 and name != "softmax" and outputs in (None, 1):
        return find_loss("binary_cross_entropy")
    return find_loss("cross_entropy")


def _is_one_hot(target: Values) -> bool:
    return bool(np.isin(target, (0, 1)).all() and (target.sum(axis=1) == 1).all())


def _classes(data: Dataset) -> NDArray[Any] | None:
    """The labels of the target in order; None where the target is a quantity."""
    assert data.target is not None  # the caller has refused data without one
    column = data.column(data.target)
    if column.categories is not None:
        return np.arange(len(column.categories))
    if column.dtype.kind not in "bui":
        return None
    values = data.array(data.target)
    if values is None:
        values = data.span(0, len(data))[data.target]
    classes = np.unique(values)
    return classes if len(classes) <= _MOST_CLASSES else None
