"""Batches for Hugging Face's `Trainer`, as a DataLoader that skips by arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rightbatch.errors import OptionError
from rightbatch.integrations.batch_access import BatchAccess
from rightbatch.loading.batches import Batches

Address = tuple[int, int]
"""Epoch and number of a batch."""


def data_loader(batches: Batches, *, inputs: str = "inputs", target: str = "labels") -> EpochLoader:
    """A torch `DataLoader` whose batches are those of `batches`, as the keywords of a model.

    A batch is a dict of tensors: the inputs called `inputs` (those of several fields by their own
    names), the target called `target`, and, where `batches` has them, `rows` and `weights`. Give it
    as the `get_train_dataloader` of a `transformers.Trainer`: the Trainer says which epoch it is
    in, and skips what a checkpoint has seen without reading it. In a loop of your own call
    `loader.set_epoch(epoch)` before each epoch.

    Raises OptionError where several processes train, each of which would take every batch, and,
    when a batch is made, where two of its arrays have one name.

    >>> import rightbatch as rb
    >>> train = rb.Batches(([[1.0], [2.0], [3.0]], [0, 1, 0]), 2, shuffle=False)
    >>> [batch["labels"].tolist() for batch in data_loader(train)]
    [[0, 1], [0]]
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        processes = torch.distributed.get_world_size()
        if processes > 1:
            raise OptionError(
                f"{processes} processes train, and each would be given every batch: train in one, "
                "or hand the Trainer a data set of its own"
            )
    source = _Source(batches, inputs=inputs, target=target)
    return EpochLoader(source, batch_sampler=_Addresses(batches), collate_fn=_only)


class EpochLoader(DataLoader[Any]):
    """A DataLoader that is told which epoch to go through next, 0 before it is told any."""

    def set_epoch(self, epoch: int) -> None:
        """Go through epoch `epoch` next; trainers call it before every epoch."""
        addresses: Any = self.batch_sampler
        addresses.set_epoch(epoch)


class _Source(Dataset[dict[str, Any]]):
    """The batches by address, as a data set that is asked for one at a time."""

    def __init__(self, batches: Batches, *, inputs: str, target: str) -> None:
        self._access = BatchAccess(batches)
        self._inputs = inputs
        self._target = target

    def __len__(self) -> int:
        """The number of samples in an epoch, which trainers report."""
        return self._access.batches.plan.length

    def __getitem__(self, address: Address) -> dict[str, Any]:
        return self._named(self._access.get(*address))

    def _named(self, batch: Any) -> dict[str, Any]:
        values = list(batch) if isinstance(batch, tuple) else [batch]
        first = values.pop(0)
        named = dict(first) if isinstance(first, Mapping) else {self._inputs: first}
        beside = {}
        if self._access.batches.part.data.target is not None:
            beside[self._target] = values.pop(0)
        for value in values:
            beside["weights" if _is_float(value) else "rows"] = value
        if common := sorted(named.keys() & beside.keys()):
            raise OptionError(
                f"an input is called {common[0]!r}, as something else of the batch is that a model "
                "is given by name: rename the column, or say what the target is called, target=…"
            )
        named |= beside
        return {name: _tensor(value, name) for name, value in named.items()}


class _Addresses:
    """The addresses of an epoch's batches, in order: what torch calls a batch sampler."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.batch_size = batches.batch_size
        self.drop_last = False
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Go through epoch `epoch` next."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Address]]:
        return ([(self._epoch, number)] for number in range(len(self)))


def _only(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The batch, which is all that an address stands for."""
    (batch,) = samples
    return batch


def _is_float(value: Any) -> bool:
    return bool(value.is_floating_point() if isinstance(value, Tensor) else value.dtype.kind == "f")


def _tensor(value: Any, name: str) -> Any:
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray):
        raise OptionError(
            f"{name!r} is {type(value).__name__} and no array: attach a function of a batch that "
            "makes arrays, such as one that pads"
        )
    # torch takes neither read-only nor flipped arrays.
    return torch.from_numpy(
        value if value.flags.writeable and min(value.strides, default=0) >= 0 else value.copy()
    )
