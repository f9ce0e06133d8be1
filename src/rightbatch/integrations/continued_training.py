"""Training that goes on where an earlier call left off, as one longer run would have gone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.loading.parts import Parts
from rightbatch.training.checkpoint import optimizer_tensors, restore_optimizer
from rightbatch.training.models import Activation, DenseNetwork
from rightbatch.training.optimizers import Optimizer
from rightbatch.training.options import FitOptions
from rightbatch.training.settings import run_settings, threads_for
from rightbatch.training.task import Task
from rightbatch.training.trainer import Trainer


class GivenArrays(ArrayDataset):
    """Arrays handed to one call. No later run resumes on them, so nothing hashes their content."""

    @cached_property
    @override
    def fingerprint(self) -> str:
        """A constant: `partial_fit` would spend as long on a hash as on the training."""
        return "arrays of one call"


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """A network with what going on with its training needs.

    `seed` is that of the whole training and `epochs` the passes behind it, which together name
    the order of the next one. `optimizer` is what the optimizer, one of `optimizer_kind`,
    remembers. `losses` has the mean training loss of every epoch, `validation_losses` that of the
    validation part where one was held out. It pickles and copies as plain arrays.
    """

    network: DenseNetwork
    seed: int
    epochs: int = 0
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    optimizer_kind: str = ""
    losses: tuple[float, ...] = ()
    validation_losses: tuple[float, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # A network's parameters are views of one tensor, and torch would pickle it once for each.
        weights = {name: _array(value) for name, value in self.network.state_dict().items()}
        optimizer = {name: _array(value) for name, value in self.optimizer.items()}
        rest = (self.seed, self.epochs, self.losses, self.validation_losses, self.optimizer_kind)
        return _rebuild, (self.network.sizes, self.network.activation, weights, optimizer, *rest)


def go_on(
    learned: Learned, parts: Parts, task: Task, options: FitOptions, *, epochs: int
) -> Learned:
    """The network after `epochs` more epochs over `parts`; what `learned` holds is left as it is.

    `options.epochs` plays no part, and `options.seed` is `learned.seed`. The order of the samples
    and what the optimizer remembers go on too, so that 3 epochs and then 2 more give the weights
    of 5, bit for bit on the CPU. Where the optimizer has become another one it starts afresh, as
    it does after early stopping, whose weights are older than what the optimizer remembers.

    Raises what `rightbatch.fit` raises while it trains.
    """
    network = copy.deepcopy(learned.network)
    options = replace(options, epochs=learned.epochs + epochs, seed=learned.seed)
    with run_settings(options.seed):
        torch.set_num_threads(options.threads or threads_for(network, options.batch_size, parts))
        trainer = Trainer(
            network,
            parts,
            task,
            options,
            folder=None,
            device=None,
            watcher=None,
            observer=None,
        )
        cursor = trainer.train.state_dict()
        trainer.train.load_state_dict({**cursor, "epoch": learned.epochs})
        if learned.optimizer_kind == options.optimizer:
            _restore(trainer.optimizer, learned.optimizer)
        trainer.run()
    # What rb.fit hands back is in training mode; nothing here trains it any further in place.
    network.eval()
    history = trainer.history
    is_last_epoch = trainer.standing.best_epoch in (0, len(history))
    return Learned(
        network=network,
        seed=learned.seed,
        epochs=learned.epochs + len(history),
        optimizer=optimizer_tensors(trainer.optimizer) if is_last_epoch else {},
        optimizer_kind=options.optimizer,
        losses=learned.losses + tuple(row["train_loss"] for row in history),
        validation_losses=learned.validation_losses
        + tuple(row["val_loss"] for row in history if "val_loss" in row),
    )


def _restore(optimizer: Optimizer, remembered: Mapping[str, Tensor]) -> None:
    shapes = {name: tensor.shape for name, tensor in optimizer_tensors(optimizer).items()}
    if shapes == {name: tensor.shape for name, tensor in remembered.items()}:
        restore_optimizer(optimizer, dict(remembered))


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy().copy()


def _rebuild(
    sizes: tuple[int, ...],
    activation: Activation,
    weights: Mapping[str, NDArray[Any]],
    optimizer: Mapping[str, NDArray[Any]],
    seed: int,
    epochs: int,
    losses: tuple[float, ...],
    validation_losses: tuple[float, ...],
    optimizer_kind: str,
) -> Learned:
    # torch's layers draw weights when they are made; reading a file must not move its state.
    with torch.random.fork_rng(()):
        network = DenseNetwork(sizes, activation)
    # Copies, because joblib may hand over read-only memory maps.
    network.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return Learned(
        network=network.eval(),
        seed=seed,
        epochs=epochs,
        optimizer={name: torch.tensor(value) for name, value in optimizer.items()},
        optimizer_kind=optimizer_kind,
        losses=losses,
        validation_losses=validation_losses,
    )
