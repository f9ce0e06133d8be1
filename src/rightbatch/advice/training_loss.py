"""The training loss at given weights: what contours and paths are made of."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rightbatch.advice.trajectory import named_weights
from rightbatch.loading.batches import Batches
from rightbatch.loading.parts import Parts
from rightbatch.loading.sampling import epoch_length
from rightbatch.training.task import Task

# Contours hardly move when samples are added: the mean's error is 2 % of the spread.
_MOST_SAMPLES = 2048


class TrainingLoss:
    """The mean loss over training samples (2,048 at the most, evenly drawn) at any weights.

    Evenly, or in the proportions of a mixture; weights by which `fit` draws play no part.

    Penalties are not in it, augmentation (`train_only` transforms) is left out, and the model is
    in evaluation mode.
    """

    def __init__(self, model: nn.Module, task: Task, parts: Parts) -> None:
        # The caller's module keeps its mode and its weights.
        self._model = copy.deepcopy(model).cpu().eval()
        self._loss = task.loss
        part = replace(parts.train, transforms=parts.held_out_transforms)
        self.samples = min(_MOST_SAMPLES, epoch_length(part))
        drawn = Batches(
            task.prepare(part),
            self.samples,
            shuffle=self.samples < len(part) or part.mixture is not None,
            output="torch",
            threads=0,
        )
        self._inputs, self._target = next(iter(drawn.epoch(0)))

    def __call__(self, weights: NDArray[np.floating]) -> float:
        """The loss at one vector of weights (P,); NaN or infinity where it is not finite."""
        named = named_weights(self._model, torch.from_numpy(np.asarray(weights, np.float32)))
        with torch.inference_mode():
            outputs = torch.func.functional_call(self._model, named, (self._inputs,))
            losses = self._loss.per_sample(outputs, self._target).double()
            weight = self._loss.weight(self._target)
            # The mean of all values is the exact one where each sample weighs the same.
            return float(losses.mean() if weight == len(losses) else losses.sum() / weight)
