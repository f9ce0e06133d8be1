"""One run of a comparison, as a task that can be carried out anywhere."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from rightbatch.advice.comparison import Curve
from rightbatch.advice.subject import own_copy
from rightbatch.advice.training_loss import TrainingLoss
from rightbatch.advice.trajectory import Recorder, Trajectory
from rightbatch.errors import NonFiniteLossError
from rightbatch.loading.parts import Parts
from rightbatch.training.building import build
from rightbatch.training.fit import fit
from rightbatch.training.history import Row, StepLosses
from rightbatch.training.options import FitOptions
from rightbatch.training.progress import Progress, Watcher
from rightbatch.training.provenance import describe_transforms
from rightbatch.training.settings import run_settings
from rightbatch.training.task import Task

# What differs between the jobs of one comparison.
_OWN_OPTIONS = ("batch_size", "learning_rate", "seed", "micro_batch_size")


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What a run gave: its curve, and its path where that was asked for (`has_path`).

    Of a model with too many weights the path is None all the same.
    """

    curve: Curve
    metric: str
    has_path: bool
    trajectory: Trajectory | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One run to do: model, parts and options; `options.batch_size` is a number.

    Calling it trains. `key` is equal for jobs that give the same run.
    """

    model: str | nn.Module | Callable[[int], nn.Module]
    parts: Parts
    options: FitOptions
    keeps_trajectory: bool

    def __call__(self, progress: Watcher | None = None) -> Run:
        """Train, check the loss along the way, and give the curve."""
        model, initial, task = self._start()
        assert isinstance(self.options.batch_size, int)  # compare has resolved "full"
        watch = _Watch(progress)
        recorder = Recorder(initial, self.options.total_steps(self._epoch_samples))
        losses = StepLosses()

        def note(step: int, loss: float, network: nn.Module) -> None:
            losses.add(step, loss)
            recorder(step, loss, network)

        diverged = None
        try:
            fit(model, self.parts, **_keywords(self.options), progress=watch, on_step=note)
        except NonFiniteLossError as error:
            diverged = str(error)
        trajectory = recorder.trajectory
        checked: list[tuple[int, float]] = []
        if trajectory is not None:
            loss_at = TrainingLoss(initial, task, self.parts)
            values = [loss_at(point) for point in trajectory.points]
            steps = trajectory.steps.tolist()
            checked = [
                (step, value)
                for step, value in zip(steps, values, strict=True)
                if math.isfinite(value)
            ]
            if diverged is None and not math.isfinite(values[-1]):
                # The last loss was still finite, and the update after it left nothing of the model.
                diverged = (
                    f"the training loss at the weights after the last step, {steps[-1]:,}, is "
                    f"{values[-1]}. Lower the learning rate (now {self.options.learning_rate:g})"
                )
        curve = Curve(
            batch_size=self.options.batch_size,
            is_full=self.options.batch_size >= self._epoch_samples,
            learning_rate=self.options.learning_rate,
            seed=self.options.seed,
            history=watch.rows,
            step_losses=losses.pairs,
            checked_losses=checked,
            diverged=diverged,
        )
        return Run(
            curve=curve,
            metric=task.loss.metric,
            has_path=self.keeps_trajectory,
            trajectory=trajectory if self.keeps_trajectory else None,
        )

    @property
    def label(self) -> str:
        """What the curve will be called, with its rate and seed."""
        assert isinstance(self.options.batch_size, int)  # compare has resolved "full"
        return (
            f"batch {self.options.batch_size:,} at rate {self.options.learning_rate:.4g}, seed "
            f"{self.options.seed}"
        )

    @property
    def key(self) -> str:
        """A text of all that the run depends on: model, data, transforms, options."""
        told = {
            "model": _identity(self.model),
            "parts": self.parts.fingerprint,
            "transforms": describe_transforms(self.parts.train, self.parts.held_out_transforms),
            "options": self.options.to_json(),
        }
        return json.dumps(told, sort_keys=True, default=str)

    def changes(self) -> dict[str, Any]:
        """What one job of a comparison has of its own, as `run_with` takes it."""
        options = {name: getattr(self.options, name) for name in _OWN_OPTIONS}
        return {"options": options, "keeps_trajectory": self.keeps_trajectory}

    def run_with(self, changes: dict[str, Any]) -> Run:
        """Train as the job of the same comparison does that has those."""
        options = replace(self.options, **changes["options"])
        keeps = changes["keeps_trajectory"]
        return replace(self, options=options, keeps_trajectory=keeps)()

    @property
    def _epoch_samples(self) -> int:
        return self.options.samples_in_epoch(self.parts.train)

    def _start(self) -> tuple[str | nn.Module, nn.Module, Task]:
        """What `fit` is to train, that model at its initial weights, and the task."""
        if isinstance(self.model, str):
            # `fit` builds the same network again from the same seed.
            return (self.model, *build(self.model, self.parts.train, self.options))
        if isinstance(self.model, nn.Module):
            own = own_copy(self.model)
        else:
            # The same weights wherever it is called, and the caller's random state as it was.
            with run_settings(self.options.seed):
                own = self.model(self.options.seed)
        initial, task = build(own_copy(own), self.parts.train, self.options)
        return own, initial, task


class _Watch:
    """Keeps the rows of the history, which a run that diverges would lose, and passes news on."""

    def __init__(self, watcher: Watcher | None) -> None:
        self.rows: list[Row] = []
        self._watcher = watcher

    def __call__(self, progress: Progress) -> None:
        if progress.row is not None:
            self.rows.append(progress.row)
        if self._watcher is not None:
            self._watcher(progress)


def loss_of(run: Run) -> float | None:
    """The lowest validation loss (training loss where there is none); None where it diverged."""
    if run.curve.diverged is not None:
        return None
    name = "val_loss" if "val_loss" in run.curve.history[0] else "train_loss"
    finite = [row[name] for row in run.curve.history if math.isfinite(row[name])]
    return min(finite) if finite else None


def training_loss_of(job: Job) -> TrainingLoss:
    """The training loss of a job's model as a function of the weights."""
    _, initial, task = replace(job)._start()
    return TrainingLoss(initial, task, job.parts)


def _identity(model: str | nn.Module | Callable[[int], nn.Module]) -> str:
    if isinstance(model, str):
        return model
    if not isinstance(model, nn.Module):
        return str(getattr(model, "__qualname__", model))
    digest = hashlib.blake2b(digest_size=16)
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(
                value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            )
    return f"{type(model).__qualname__} {digest.hexdigest()}"


def _keywords(options: FitOptions) -> dict[str, Any]:
    # Not `asdict`: it would copy a loss that is an object.
    return {name: getattr(options, name) for name in options.__dataclass_fields__}
