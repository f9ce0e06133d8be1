"""What the branches of a pilot have in common."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import nn

from rightbatch.advice.subject import Pool, name_of, own_copy
from rightbatch.loading.parts import Parts
from rightbatch.loading.tensors import find_device, to_torch
from rightbatch.training.building import build
from rightbatch.training.coupling import why_not_cut
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE, evaluation_mode
from rightbatch.training.models import build_model
from rightbatch.training.options import FitOptions
from rightbatch.training.settings import RandomState, run_settings, threads_for

_MOST_EVALUATION_SAMPLES = 4096

Model = str | nn.Module | Callable[[int], nn.Module]


class Ground:
    """What branches have in common: model, data, options, and the validation samples in memory.

    The validation part is looked at in full up to 4,096 samples. Where there is none, the first
    samples of the training part in a shuffled order take its place.
    """

    def __init__(
        self,
        model: Model,
        parts: Parts,
        options: FitOptions,
        *,
        device: str | torch.device | None = None,
    ) -> None:
        self.model = model
        self.parts = parts
        self.options = options
        # The samples that memory holds at a time; larger batches go in micro-batches of it.
        self.most_together: int | None = None
        self.device = torch.device("cpu")
        own = model if isinstance(model, str) else self._make(options.seed)
        network, self.task = build(own, parts.train, options)
        self._inputs = prod(parts.train.input_shape) if isinstance(model, str) else 0
        if device is not None:
            self.device = find_device(device)
        elif isinstance(model, nn.Module):
            self.device = next(iter(network.parameters())).device
        self.name = model if isinstance(model, str) else name_of(network)
        self.network_size = sum(parameter.numel() for parameter in network.parameters())
        part = parts.train if parts.val is None else parts.val
        samples = min(len(part), _MOST_EVALUATION_SAMPLES)
        prepared = self.task.prepare(part)
        self.train = self.task.prepare(parts.train)
        self._pool = Pool(prepared, samples, seed=options.seed, device=self.device)
        with run_settings(options.seed):
            torch.set_num_threads(self.threads(EVALUATION_BATCH_SIZE))
            self.initial_loss = self.loss(network.to(self.device))

    def build(self, seed: int) -> nn.Module:
        """A network of its own, with the initial weights of `seed`."""
        if isinstance(self.model, str):
            # Looking through the labels for the task, as `build` does, takes longer than a branch.
            network: nn.Module = build_model(
                self.model,
                inputs=self._inputs,
                outputs=self.task.outputs,
                activation=self.options.activation,  # type: ignore[arg-type]  # FitOptions has checked it
                init=self.options.init,
                seed=seed,
            )
        else:
            network = self._make(seed)
        return network.to(self.device)

    def _make(self, seed: int) -> nn.Module:
        """A copy of the user's module, or what their function makes."""
        if isinstance(self.model, nn.Module):
            return own_copy(self.model)
        assert not isinstance(self.model, str)  # names are built
        with run_settings(seed):
            return self.model(seed)

    def micro_batch_size(self, batch_size: int) -> int | None:
        """The micro-batch that a batch of this size is cut into; None where it stays whole."""
        together = self.most_together
        return together if together is not None and batch_size > together else None

    def first_samples(self, count: int) -> tuple[Any, torch.Tensor]:
        """The first samples of the training part as a batch."""
        part = self.train
        found = (to_torch(values, part.data, self.device) for values in part.example(count))
        inputs, target = found
        return inputs, target

    def why_coupled(self) -> str | None:
        """Why the model's samples can not be told apart; None where they can."""
        network = self.build(self.options.seed)
        network.train()
        inputs, target = next(self._pool.pieces(min(16, self._pool.samples)))
        assert target is not None  # the task has refused data without a target
        with run_settings(self.options.seed):
            devices = [self.device] if self.device.type == "cuda" else []
            return why_not_cut(network, self.task.loss, inputs, target, RandomState(devices))

    def threads(self, batch_size: int) -> int:
        """The threads that `fit` would take."""
        if self.options.threads is not None:
            return self.options.threads
        work = nn.Module()
        work.weights = nn.Parameter(torch.empty(self.network_size, device="meta"))
        return threads_for(work, batch_size, self.parts)

    def loss(self, network: nn.Module) -> float:
        """The mean loss over the validation samples."""
        total, count = 0.0, 0
        with evaluation_mode(network), torch.inference_mode():
            for inputs, target in self._pool.pieces(EVALUATION_BATCH_SIZE):
                assert target is not None  # the task has refused data without a target
                total += self.task.loss.per_sample(network(inputs), target).double().sum().item()
                count += self.task.loss.weight(target)
        return total / count
