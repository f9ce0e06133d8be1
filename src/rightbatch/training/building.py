"""A model for given data: the network that a name means, and the task that a module has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rightbatch.errors import DataError, OptionError, is_out_of_memory
from rightbatch.loading.parts import Part
from rightbatch.training.evaluate import evaluation_mode
from rightbatch.training.losses import find_loss
from rightbatch.training.models import DenseNetwork, ModelName, build_model
from rightbatch.training.options import FitOptions
from rightbatch.training.task import Task, resolve_task

_CAST_HINT = (
    " Whole numbers are handed on as they are, for embeddings; where they are quantities, "
    "parts.transform(rb.cast('float32'))"
)


def build(model: str | nn.Module, train: Part, options: FitOptions) -> tuple[nn.Module, Task]:
    """The network that `model` names for these data, or the given one, and its task."""
    if isinstance(model, nn.Module):
        if (options.activation, options.init) != (FitOptions.activation, FitOptions.init):
            raise OptionError(
                "activation and init are for models by name; a torch.nn.Module has its own"
            )
        return model, task_of(model, train, options.loss)
    ModelName.parse(model)
    task = resolve_task(train, model=model, loss=options.loss)
    network = build_model(
        model,
        inputs=prod(train.input_shape),
        outputs=task.outputs,
        activation=options.activation,  # type: ignore[arg-type]  # FitOptions has checked it
        init=options.init,
        seed=options.seed,
    )
    return network, task


def task_of(
    model: nn.Module, part: Part, loss: str | Callable[[Tensor, Tensor], Tensor] | None
) -> Task:
    """The task of a module for these data."""
    # Whole numbers may be indices of an embedding; a dense network has none.
    keeps_integers = not isinstance(model, DenseNetwork)
    shape = None
    if part.data.target is not None:
        shape = find_output_shape(model, part, keeps_integers=keeps_integers)
    task = resolve_task(part, model=None, output_shape=shape, loss=loss)
    return replace(task, keeps_integers=keeps_integers)


def find_output_shape(
    model: nn.Module, part: Part, *, keeps_integers: bool
) -> tuple[int, ...] | None:
    """The shape of a module's outputs for one sample, found by running it; None if unclear."""
    any_classes = Task(
        loss=find_loss("squared_error"),
        outputs=1,
        classes=None,
        target=part.data.target or "",
        keeps_integers=keeps_integers,
    )
    # By the part's own way for a few rows, which stacks no columns of all samples.
    inputs = _tensors(any_classes.prepare(part).example()[0])
    first = next(model.parameters(), None)
    if first is not None:
        inputs = _to(inputs, first.device)
    try:
        with evaluation_mode(model), torch.no_grad(), torch.random.fork_rng():
            outputs = model(inputs)
    except IndexError as error:
        if not is_look_up(error):
            raise
        raise beyond_vocabulary(part.data.name, error) from error
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise OptionError(
            f"the model can not take the inputs of {part.data.name}, shape "
            f"{tuple(getattr(inputs, 'shape', ()))} {getattr(inputs, 'dtype', '')}: {error}."
            f"{_CAST_HINT if keeps_integers and _has_integers(inputs) else ''}"
        ) from error
    if not isinstance(outputs, Tensor):
        return None
    return tuple(outputs.shape[1:])


def is_look_up(error: IndexError) -> bool:
    """Whether an embedding was asked for what it does not have, rather than any list."""
    return "index out of range in self" in str(error)


def beyond_vocabulary(data: str, error: IndexError) -> DataError:
    """What to say where a model looks up a number of the data that it has no place for."""
    return DataError(
        f"{data}: {error}. An input holds a number that is beyond what the model knows, such as a "
        "code above those of an embedding, or one below zero. Leave such samples out, give the "
        "data the codes of the training, or give the model a place for each"
    )


def _has_integers(inputs: Any) -> bool:
    tensors = inputs.values() if isinstance(inputs, dict) else [inputs]
    return any(not tensor.is_floating_point() for tensor in tensors)


def _tensors(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: _tensors(values) for name, values in inputs.items()}
    return inputs if isinstance(inputs, Tensor) else torch.from_numpy(np.array(inputs))


def _to(inputs: Any, device: torch.device) -> Any:
    if isinstance(inputs, dict):
        return {name: values.to(device) for name, values in inputs.items()}
    return inputs.to(device)
