"""Exact evaluation: loss and metric of a model over a part, whatever the batch size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rightbatch.loading.batches import Batches
from rightbatch.training.losses import Loss

# Only time depends on this: sums are over samples.
EVALUATION_BATCH_SIZE = 1024


@dataclass
class Score:
    """Sums over samples, from which the exact means follow.

    >>> score = Score(metric="accuracy")
    >>> score.add(torch.tensor([0.5, 0.1]), torch.tensor([[2.0, 0.0], [0.0, 1.0]]),
    ...           torch.tensor([0, 0]))
    >>> score.result()["accuracy"]
    0.5
    """

    metric: str
    samples: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    squared_error: float = 0.0
    target_mean: Any = 0.0
    target_squares: Any = 0.0

    def add(self, losses: Tensor, outputs: Tensor, target: Tensor) -> None:
        """Count one batch: per-sample losses (B,), outputs (B, K), encoded target."""
        added = len(target)
        self.loss_sum += losses.double().sum().item()
        if self.metric == "accuracy":
            self.correct += int((predicted_classes(outputs) == _true_classes(target)).sum())
        elif self.metric == "r2":
            values = target.reshape(added, -1).double().cpu().numpy()
            difference = outputs.reshape(added, -1).double().cpu().numpy() - values
            self.squared_error += float(np.square(difference).sum())
            # Merged as in `standardize`: exact where the mean is large against the spread.
            mean = values.mean(axis=0)
            delta = mean - self.target_mean
            total = self.samples + added
            self.target_squares = (
                self.target_squares
                + np.square(values - mean).sum(axis=0)
                + np.square(delta) * (self.samples * added / total)
            )
            self.target_mean = self.target_mean + delta * (added / total)
        self.samples += added

    def result(self) -> dict[str, float]:
        """`loss` and `accuracy` or `r2`, each over all samples seen.

        R² is 1 - Σ (ŷ - y)² / Σ (y - mean y)², both sums over all outputs, so that an output
        weighs as much as it varies.
        """
        result = {"loss": self.loss_sum / self.samples}
        if self.metric == "accuracy":
            result["accuracy"] = self.correct / self.samples
        elif self.metric == "r2":
            # R² is not defined where every target is the same.
            spread = float(np.sum(self.target_squares))
            result["r2"] = 1.0 - self.squared_error / spread if spread else float("nan")
        return result


def predicted_classes(outputs: Tensor) -> Tensor:
    """The class codes (B,) that logits stand for: the largest of K, or the sign of one.

    >>> predicted_classes(torch.tensor([[0.3], [-2.0]])).tolist()
    [1, 0]
    """
    if outputs.dim() == 1 or outputs.shape[1] == 1:
        return (outputs.reshape(-1) > 0).long()
    return outputs.argmax(1)


def _true_classes(target: Tensor) -> Tensor:
    return target.argmax(1) if target.dim() == 2 else target.long()


def score(model: nn.Module, batches: Batches, loss: Loss) -> dict[str, float]:
    """Loss and metric of `model` over one epoch of `batches`, in evaluation mode.

    The model is left in the mode it was in.
    """
    total = Score(metric=loss.metric)
    with evaluation_mode(model), torch.inference_mode():
        for inputs, target in batches.epoch(0):
            outputs = model(inputs)
            total.add(loss.per_sample(outputs, target), outputs, target)
    return total.result()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for the time of the context; every layer's own mode is put back."""
    # A layer may be frozen in evaluation mode while the model around it is being trained.
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes.items():
            module.training = was_training
