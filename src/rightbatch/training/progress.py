"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from rightbatch.training.history import Row


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands; sent a few times a second and at the end of every epoch.

    `epoch` counts from 1; `total_steps` is what the run will take if it is not stopped early;
    `train_loss` the mean over the epoch so far; `loading_share` the share of the epoch's time that
    training waited for batches (0 to 1); `bad_samples` how many were left out; `row` the epoch's
    row of the history where one has just ended, else None; `micro_batch_size` the samples that a
    batch is worked through in at a time, None where that is the whole batch.
    """

    epoch: int
    steps: int
    total_steps: int
    train_loss: float
    samples_per_second: float
    loading_share: float = 0.0
    bad_samples: int = 0
    row: Row | None = None
    micro_batch_size: int | None = None


Watcher = Callable[[Progress], None]
# Called after every step with its number (from 1), its loss and the model as the step left it.
StepObserver = Callable[[int, float, nn.Module], None]
