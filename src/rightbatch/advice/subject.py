"""What a measurement is made on: a copy of the model, real samples, and what to do with them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rightbatch.errors import (
    OptionError,
    RightbatchError,
    TrainingError,
    did_you_mean,
    is_out_of_memory,
)
from rightbatch.loading.batches import Batches
from rightbatch.loading.parts import Part
from rightbatch.training.building import build, task_of
from rightbatch.training.losses import CustomLoss, Loss
from rightbatch.training.models import MODELS, DenseNetwork
from rightbatch.training.optimizers import build_optimizer
from rightbatch.training.options import FitOptions
from rightbatch.training.result import FitResult
from rightbatch.training.saved_model import load_saved
from rightbatch.training.step import Step, find_gradient
from rightbatch.training.weights_file import WEIGHT_ENDINGS

# Consecutive calls take different samples, as a loop would, from a pool of about this size.
_POOL_SAMPLES = 4096
_POOL_BYTES = 64 << 20
_MOST_VIEWS = 64
# Those with a derivative of their own; `load_saved` has others for outputs alone.
_LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error")

Model = str | Path | nn.Module | FitResult | Mapping[str, Any]
Call = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network of our own, and the part with batches as it takes them.

    `loss` is that of training, None where the network is only asked for its outputs.
    """

    name: str
    network: nn.Module
    part: Part
    loss: Loss | None


def find_subject(
    model: Model,
    part: Part,
    *,
    is_training: bool,
    options: FitOptions,
    activation: str | None,
) -> Subject:
    """The subject that `model` means for these data; the caller's model is copied.

    Raises OptionError where there is no such model, DataError where it does not fit the data.
    """
    if isinstance(model, str) and model.partition(":")[0] in MODELS:
        network, task = build(model, part, options)
        return Subject(name=model, network=network, part=task.prepare(part), loss=task.loss)
    saved = load_saved(_untouched(model), activation=activation, loss=options.loss)
    is_given = isinstance(model, nn.Module | FitResult)
    name = name_of(saved.network) if is_given else saved.name
    if is_training and saved.task is None:
        task = task_of(saved.network, part, options.loss)
        prepared = task.prepare(part)
    else:
        prepared, task = saved.fit_to(part)
    if is_training and part.data.target is None:
        raise OptionError(
            f"a step needs a target to learn, and {part.data.name} has none: name it when opening "
            "(target=…, --target), or time predictions (mode='predict', --mode predict)"
        )
    if is_training and not (isinstance(task.loss, CustomLoss) or task.loss.name in _LOSSES):
        raise OptionError(
            f"the loss of {name} is not known: give it (loss=…), or time predictions "
            "(mode='predict', --mode predict)"
        )
    return Subject(name=name, network=saved.network, part=prepared, loss=task.loss)


def _untouched(model: Model) -> Model:
    """The model, or a copy of it where it is the caller's own."""
    if isinstance(model, FitResult):
        return replace(model, model=own_copy(model.model))
    if isinstance(model, nn.Module):
        return own_copy(model)
    if isinstance(model, str) and not Path(model).expanduser().exists():
        hint = did_you_mean(model.partition(":")[0], MODELS)
        raise OptionError(
            f"no model, file or folder is called {model!r}.{hint} Valid "
            "are: linear, softmax, logistic, mlp:100, mlp:50,50, the folder of a run, a weights "
            f"file ({', '.join(WEIGHT_ENDINGS)}), a torch.nn.Module, or on the command line "
            "module.py:factory"
        )
    return model


def name_of(network: nn.Module) -> str:
    """What a network is called that came without a name.

    >>> name_of(DenseNetwork((784, 100, 10), "relu")), name_of(nn.Linear(3, 1))
    ('dense network 784-100-10', 'Linear')
    """
    if type(network) is DenseNetwork:
        return f"dense network {'-'.join(map(str, network.sizes))}"
    return type(network).__name__


def own_copy(network: nn.Module) -> nn.Module:
    """A deep copy; OptionError where the module can not be copied."""
    try:
        return copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        raise OptionError(
            f"the model {type(network).__name__} can not be copied, and its own weights are not to "
            f"be touched: {error}. Give a function of the seed that makes it instead"
        ) from error


def pool_size(part: Part, largest: int) -> int:
    """How many samples to hold for batches of up to `largest` samples."""
    spare = min(_POOL_SAMPLES, _POOL_BYTES // max(1, part.pipeline.sample_bytes), len(part))
    return max(largest, spare)


class Pool:
    """Samples of a part as tensors, in a shuffled order, from which batches are cut.

    Where more samples are asked for than there are, they come again.
    """

    def __init__(self, part: Part, samples: int, *, seed: int, device: torch.device | None) -> None:
        held = min(samples, len(part))
        # One batch alone: the other samples have no business on the device.
        batches = Batches(
            part, held, seed=seed, output="torch", device=device, device_memory=0, threads=0
        )
        batch = next(iter(batches.epoch(0)))
        self.inputs, self.target = batch if isinstance(batch, tuple) else (batch, None)
        self.samples = samples
        if samples > held:
            again = torch.arange(samples) % held
            self.inputs = _at(self.inputs, again)
            self.target = None if self.target is None else self.target[again]

    def views(self, batch_size: int) -> list[tuple[Any, Tensor | None]]:
        """Batches of that size, one after another, without copying."""
        count = min(_MOST_VIEWS, self.samples // batch_size)
        spans = [slice(k * batch_size, (k + 1) * batch_size) for k in range(count)]
        return [
            (_at(self.inputs, span), None if self.target is None else self.target[span])
            for span in spans
        ]

    def pieces(self, batch_size: int, *, first: int = 0) -> Iterator[tuple[Any, Tensor | None]]:
        """The samples from `first` on once, in batches of that size and a smaller last one.

        They are cut without copying.
        """
        for start in range(first, self.samples, batch_size):
            span = slice(start, start + batch_size)
            yield _at(self.inputs, span), None if self.target is None else self.target[span]


def _at(inputs: Any, index: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: values[index] for name, values in inputs.items()}
    return inputs[index]


class Predicting:
    """The forward pass, in evaluation mode and without a graph."""

    def __init__(self, subject: Subject) -> None:
        self.network = subject.network.eval()

    def call_with(self, views: list[tuple[Any, Tensor | None]]) -> Call:
        """The call that goes through `views` in turn."""
        network, inputs, count = self.network, [view[0] for view in views], len(views)
        return lambda number: network(inputs[number % count])

    def prepare(self) -> None:
        """Nothing to put back: the forward pass changes no weights."""


class Training:
    """A whole step: gradient of the mean loss and the optimizer's update."""

    def __init__(self, subject: Subject, options: FitOptions) -> None:
        assert subject.loss is not None  # find_subject has found it, for training
        network = subject.network.train()
        gradient = find_gradient(network, subject.loss)
        optimizer = build_optimizer(
            options.optimizer,
            gradient.parameters,
            learning_rate=options.learning_rate,
            momentum=options.momentum,
        )
        self.step = Step(gradient, optimizer, l1=0.0, l2=0.0, micro_batch_size=None)
        self.learning_rate = options.learning_rate
        # Taken after the gradient was set up, which may move the weights to other memory.
        self._live = [value for value in network.state_dict().values() if isinstance(value, Tensor)]
        self._first = [value.clone() for value in self._live]

    def call_with(self, views: list[tuple[Any, Tensor | None]]) -> Call:
        """The call that learns from `views` in turn."""
        step, count, learning_rate = self.step, len(views), self.learning_rate

        def call(number: int) -> None:
            inputs, target = views[number % count]
            loss = step(inputs, target)  # type: ignore[arg-type]  # training has a target
            if loss - loss != 0.0:
                raise TrainingError(
                    f"the loss became {loss} while steps of {len(target)} samples were timed, "  # type: ignore[arg-type]  # the same
                    "and such a step is cut short: lower the learning rate (now "
                    f"{learning_rate:g}), or scale the inputs (--standardize, rb.standardize())"
                )

        return call

    def prepare(self) -> None:
        """Put the first weights back: thousands of steps would lead anywhere."""
        with torch.no_grad():
            for live, first in zip(self._live, self._first, strict=True):
                live.copy_(first)


def refused(error: Exception, *, batch_size: int, data: str) -> Exception:
    """What to raise for an error of the model's own on its first batch."""
    if isinstance(error, RightbatchError) or is_out_of_memory(error):
        return error
    return OptionError(f"the model can not take a batch of {batch_size:,} of {data}: {error}")
