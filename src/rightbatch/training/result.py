"""What `fit` gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from rightbatch.data.column import Column
from rightbatch.loading.device_columns import Residency
from rightbatch.loading.parts import AnyTransform
from rightbatch.loading.quarantine import BadSample
from rightbatch.notebook import html_table
from rightbatch.training.captured_step import Capture
from rightbatch.training.history import Row
from rightbatch.training.task import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class FitResult:
    """A trained model and how it learned.

    `history` has a row an epoch: `epoch` (from 1), `steps`, `samples` and `seconds` since the
    start of the run, `train_loss` (mean over the epoch's samples of the loss before each update,
    without penalties) and, where there is a validation part, `val_loss` and `val_accuracy` or
    `val_r2`; from an epoch on in which memory ran out, also the `micro_batch_size` that it was
    cut down to. `micro_batch_size` is what the run ended with, None where batches were learned
    from whole. `step_losses` are pairs of (step from 1, loss). `seconds` is the time of this call,
    `samples_per_second` that of training alone, without validation. `leaked_samples` counts the
    held-out samples that training read, `bad_samples` lists those of training and
    validation that could not be read and were left out. `best_epoch` is the epoch whose weights
    the model has.
    `batch_size` is the number of samples of a batch; with `batch_tokens`, the most that one held.
    `inputs` and `target` are the columns that it learned from, `transforms` those of the held-out
    parts: predictions find columns by name and texts by themselves, and take these transforms.
    `capture` says whether steps were replayed as a CUDA graph, `residency` whether the training
    samples lived on the device; each has the reason.
    """

    model: nn.Module
    task: Task
    history: list[Row]
    step_losses: list[tuple[int, float]]
    batch_size: int
    micro_batch_size: int | None
    steps: int
    seconds: float
    samples_per_second: float
    leaked_samples: int
    bad_samples: tuple[BadSample, ...]
    best_epoch: int
    stopped_early: bool
    run: Path | None
    inputs: tuple[Column, ...]
    target: Column | None
    transforms: tuple[AnyTransform, ...] = ()
    batch_tokens: int | None = None
    capture: Capture | None = None
    residency: Residency | None = None

    @property
    def epochs(self) -> int:
        """The number of epochs trained, a begun one included."""
        return len(self.history)

    @property
    def _batches_text(self) -> str:
        if self.batch_tokens is None:
            return f"{self.batch_size:,}"
        return f"up to {self.batch_tokens:,} tokens"

    def _repr_html_(self) -> str:
        # The first epochs and the last ones tell how it went.
        shown = self.history if len(self.history) <= 10 else [*self.history[:5], *self.history[-5:]]
        # Memory that ran out is told of from its epoch on.
        names = [
            name
            for name in dict.fromkeys(name for row in shown for name in row)
            if name not in ("samples", "loading_seconds")
        ]
        return html_table(
            [name.replace("_", " ") for name in names],
            [[_text(row.get(name)) for name in names] for row in shown],
            caption=f"{self.epochs:,} epochs of batches of {self._batches_text}",
        )

    def __repr__(self) -> str:
        last = self.history[-1]
        measures = ", ".join(
            f"{name} {value:.4g}"
            for name, value in last.items()
            if name.startswith(("train_", "val_")) and value is not None
        )
        where = f", in {self.run}" if self.run else ""
        return (
            f"<FitResult: {self.epochs} epochs of batches of {self._batches_text}: {measures}; "
            f"{self.samples_per_second:,.0f} samples/s{where}>"
        )


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
