"""The options of a training run, validated at birth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rightbatch.byte_sizes import parse_bytes
from rightbatch.errors import OptionError, did_you_mean
from rightbatch.loading.parts import Part
from rightbatch.loading.sampling import check_sampling, epoch_length
from rightbatch.loading.token_batches import refuse_with_tokens
from rightbatch.loading.weights import weights_text
from rightbatch.plan.batching import resolve_batch_size
from rightbatch.plan.checks import is_integer, whole_number
from rightbatch.training.models import ACTIVATIONS, parse_init
from rightbatch.training.optimizers import OPTIMIZERS

BATCH_STATISTICS = ("rank", "synchronised")


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """What `fit` was asked to do; the meaning of each option stands in its docstring.

    Raises OptionError where a value is not valid or two of them contradict each other.
    """

    batch_size: int | str = 32
    batch_tokens: int | None = None
    epochs: int | None = None
    steps: int | None = None
    learning_rate: float = 0.01
    optimizer: str = "sgd"
    momentum: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    loss: str | Callable[..., Any] | None = None
    activation: str = "relu"
    init: str = "default"
    seed: int = 0
    shuffle: bool = True
    window: int | None = None
    block: int | None = None
    memory: str | int | float | None = None
    weights: Any = None
    epoch_samples: int | None = None
    on_bad_sample: str = "stop"
    max_bad: int | float | None = None
    micro_batch_size: int | None = None
    batch_statistics: str | None = None
    evaluation_batch_size: int | None = None
    early_stopping: int | None = None
    target_loss: float | None = None
    threads: int | None = None
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("activation", self.activation, ACTIVATIONS)
        if self.batch_statistics is not None:
            _one_of("batch_statistics", self.batch_statistics, BATCH_STATISTICS)
        parse_init(self.init)
        # NumPy's numbers become Python's, which JSON can hold.
        sizes = ("batch_tokens", "micro_batch_size", "evaluation_batch_size", "epoch_samples")
        whole = ("epochs", "steps", *sizes)
        for name in (*whole, "early_stopping", "threads"):
            if getattr(self, name) is not None:
                value = whole_number(name, getattr(self, name), at_least=1)
                object.__setattr__(self, name, value)
        if self.memory is not None:
            parse_bytes(self.memory, name="memory")
        check_sampling(
            self.weights,
            self.epoch_samples,
            shuffle=self.shuffle,
            window=self.window,
            block=self.block,
        )
        object.__setattr__(self, "seed", whole_number("seed", self.seed))
        if self.batch_tokens is not None:
            # What is left at its default was not asked for.
            names = ("batch_size", "window", "block", "memory", "on_bad_sample", "weights")
            asked = {name: getattr(self, name) for name in (*names, "evaluation_batch_size")}
            if asked["batch_size"] == FitOptions.batch_size:
                del asked["batch_size"]
            refuse_with_tokens(asked)
        if isinstance(self.batch_size, str) and self.batch_size == "auto":
            raise OptionError(
                'batch_size="auto" is found by measuring, and fit measures nothing: take '
                'rb.run(data, batch_size="auto", …), or --batch-size auto on the command line, or '
                "ask rb.advise(model, parts, …) and give its batch_size"
            )
        if is_integer(self.batch_size):
            object.__setattr__(self, "batch_size", whole_number("batch_size", self.batch_size))
        for name in ("learning_rate", "momentum", "l1", "l2", "checkpoint_seconds"):
            value = getattr(self, name)
            bound = "above 0" if name == "learning_rate" else "from 0"
            if (
                not isinstance(value, int | float | np.number)
                or not math.isfinite(value)
                or value < 0
                or (value == 0 and name == "learning_rate")
            ):
                raise OptionError(f"{name}={value!r} is not valid; it is a number {bound}")
            object.__setattr__(self, name, float(value))
        if self.target_loss is not None:
            object.__setattr__(self, "target_loss", finite_loss(self.target_loss))
        if self.momentum and self.optimizer != "sgd":
            raise OptionError(
                f"momentum={self.momentum} goes with optimizer='sgd'; {self.optimizer} has "
                "moments of its own"
            )
        if self.momentum >= 1:
            raise OptionError(f"momentum={self.momentum} is not valid; it is below 1")
        if self.epochs is not None and self.steps is not None:
            raise OptionError(
                f"epochs={self.epochs} and steps={self.steps} contradict each other: give one"
            )

    @property
    def epochs_wanted(self) -> int | None:
        """The number of epochs; 10 where neither epochs nor steps were given."""
        return 10 if self.epochs is None and self.steps is None else self.epochs

    def samples_in_epoch(self, part: Part) -> int:
        """The samples that an epoch of the train part has.

        Raises OptionError where `epoch_samples` is given and every sample comes once.
        """
        return epoch_length(
            part,
            weights=self.weights,
            epoch_samples=self.epoch_samples,
            shuffle=self.shuffle,
        )

    def total_steps(self, samples: int) -> int:
        """The steps of a run of `samples` training samples an epoch, if it is not stopped early.

        >>> FitOptions(batch_size=128, epochs=2).total_steps(455)
        8
        """
        if self.steps is not None:
            return self.steps
        size = resolve_batch_size(self.batch_size, samples)
        return -(-samples // size) * (self.epochs_wanted or 0)

    def to_json(self) -> dict[str, Any]:
        """The options as JSON; a function is named, and of weights there is a digest."""
        options = {name: getattr(self, name) for name in self.__dataclass_fields__}
        options["weights"] = weights_text(self.weights)
        if callable(self.loss):
            options["loss"] = getattr(self.loss, "__qualname__", type(self.loss).__name__)
        return options


def finite_loss(value: Any) -> float:
    """A loss to come down to; OptionError where it is no finite number.

    >>> finite_loss("low")
    Traceback (most recent call last):
    rightbatch.errors.OptionError: target_loss='low' is not valid; it is a validation loss such \
as 0.1
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | np.number)
        or not math.isfinite(value)
    ):
        raise OptionError(
            f"target_loss={value!r} is not valid; it is a validation loss such as 0.1"
        )
    return float(value)


def _one_of(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise OptionError(
            f"{name}={value!r} is not valid.{did_you_mean(str(value), valid)} "
            f"Valid are: {', '.join(valid)}."
        )
