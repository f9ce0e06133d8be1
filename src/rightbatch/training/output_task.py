"""The task of a network that nobody told what it had learned: it follows from its outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from rightbatch.errors import DataError
from rightbatch.loading.parts import Part
from rightbatch.loading.transform import as_numpy
from rightbatch.training.losses import Loss, find_loss
from rightbatch.training.task import Task, count_outputs, resolve_task


class UnknownLoss(Loss):
    """The loss of a run whose function is not at hand: outputs are values, and loss is NaN."""

    name = "custom"
    metric = ""

    @override
    def per_sample(self, outputs: Tensor, target: Tensor) -> Tensor:
        return torch.full((len(target),), torch.nan)

    @override
    def with_derivative(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("a loss that is not known has no derivative")


def task_of_outputs(
    output_shape: tuple[int, ...] | None,
    part: Part,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None,
    *,
    keeps_integers: bool,
) -> Task:
    """What a network with outputs of this shape a sample says of the samples of `part`.

    Without a target, several outputs are the scores of as many classes (a softmax makes them
    probabilities) and one is a quantity, unless `loss` says otherwise. With whole numbers as the
    target they are the classes 0 … K-1, also where the part does not hold all of them; K other
    labels are the classes in ascending order. Everything else is as in training.

    Raises OptionError and DataError where outputs, loss and target contradict one another.
    """
    target = part.data.target
    outputs = count_outputs(output_shape)
    if target is None:
        is_per_token = any(column.is_token for column in part.data.inputs)
        if output_shape is not None and len(output_shape) > 1 and is_per_token:
            return Task(
                loss=find_loss(loss or "cross_entropy"),
                outputs=output_shape[-1],
                classes=None,
                target="",
                keeps_integers=keeps_integers,
                is_per_token=True,
            )
        is_scores = outputs is not None and outputs > 1
        chosen = find_loss(loss or ("cross_entropy" if is_scores else "squared_error"))
        return Task(
            loss=chosen,
            outputs=outputs or 1,
            classes=None,
            target="",
            keeps_integers=keeps_integers,
        )
    classes = _numbered_classes(part, target, outputs, loss)
    if classes is None:
        task = resolve_task(part, model=None, output_shape=output_shape, loss=loss)
        return replace(task, keeps_integers=keeps_integers)
    name = "binary_cross_entropy" if outputs == 1 else "cross_entropy"
    return Task(
        loss=find_loss(name),
        outputs=outputs or 1,
        classes=classes,
        target=target,
        keeps_integers=keeps_integers,
    )


def _numbered_classes(
    part: Part, target: str, outputs: int | None, loss: Any
) -> NDArray[Any] | None:
    """The classes 0 … K-1 that K outputs stand for; None where the target is something else."""
    # One output with two classes is a sigmoid's; more outputs are a softmax's.
    wanted = (None, "binary_cross_entropy") if outputs == 1 else (None, "cross_entropy")
    encoded = as_numpy(part.example()[1])
    if (
        outputs is None
        or loss not in wanted
        or encoded.dtype.kind not in "bui"
        or prod(encoded.shape[1:]) != 1
    ):
        return None
    count = max(outputs, 2)
    texts = part.data.column(target).categories
    if texts is not None:
        if len(texts) == count:
            return None
        raise DataError(
            f"the target {target!r} of {part.data.name} holds {len(texts)} texts and the model has "
            f"{_outputs(outputs)}: which output is which text can not be known. Give the classes "
            f"as numbers from 0 to {count - 1}, or open the data without a target"
        )
    values = part.data.array(target)
    if values is None:
        values = part.data.span(0, len(part.data))[target]
    labels = np.unique(values)
    if len(labels) == count:
        return None
    if labels[0] >= 0 and labels[-1] < count:
        return np.arange(count)
    if outputs == 1 and loss is None:
        return None
    raise DataError(
        f"the target {target!r} of {part.data.name} holds {len(labels):,} classes from {labels[0]} "
        f"to {labels[-1]}, and the model has {_outputs(outputs)}: it needs classes from 0 to "
        f"{count - 1}. Where the target is a quantity, say so: loss='squared_error' "
        "(--loss squared_error)"
    )


def _outputs(count: int) -> str:
    return f"{count} output{'s' if count != 1 else ''}"
