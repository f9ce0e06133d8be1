"""The training loop: steps, epochs, validation, early stopping, checkpoints, interruption."""

from __future__ import annotations

import math
import time
from itertools import chain
from typing import Any

import torch
from torch import nn

from rightbatch.errors import DataError, of_all_ranks
from rightbatch.loading.parts import Parts
from rightbatch.loading.quarantine import BadSample, Quarantine
from rightbatch.loading.tensors import to_torch
from rightbatch.training import checkpoint
from rightbatch.training.agreement import Agreement
from rightbatch.training.building import beyond_vocabulary, is_look_up
from rightbatch.training.coupling import (
    refuse_coupled_ranks,
    refuse_coupling,
    refuse_single_samples,
)
from rightbatch.training.device_step import DeviceStep
from rightbatch.training.evaluate import Reading, without_fillers
from rightbatch.training.forward import gradient_for
from rightbatch.training.history import Row, StepLosses
from rightbatch.training.interrupts import Interrupts
from rightbatch.training.leakage import ReadRows
from rightbatch.training.losses import is_tokens
from rightbatch.training.optimizers import build_optimizer
from rightbatch.training.options import FitOptions
from rightbatch.training.part_readers import training_batches, validation_of
from rightbatch.training.process_group import ProcessGroup
from rightbatch.training.progress import Progress, StepObserver, Watcher
from rightbatch.training.rank_step import RankStep
from rightbatch.training.ranks import Ranks
from rightbatch.training.run_checkpoint import join_bad_samples, join_marks, restore_run, save_run
from rightbatch.training.run_folder import RunFolder
from rightbatch.training.standing import Standing, non_finite_loss
from rightbatch.training.step import Step
from rightbatch.training.step_choice import choose_step, step_of_ranks
from rightbatch.training.task import Task
from rightbatch.training.unread_losses import LaunchedStep, UnreadLosses

_WATCH_SECONDS = 0.1
# An epoch of a small set takes milliseconds, and so does a checkpoint on the disk: not after each.
_EPOCH_SAVE_SECONDS = 1.0


class Trainer:
    """One run of training, from its first step or from a checkpoint."""

    def __init__(
        self,
        model: nn.Module,
        parts: Parts,
        task: Task,
        options: FitOptions,
        *,
        folder: RunFolder | None,
        device: torch.device | None,
        watcher: Watcher | None,
        observer: StepObserver | None,
        ranks: Ranks | None = None,
    ) -> None:
        ranks = ranks or Ranks()
        self.model = model
        self.parts = parts
        self.options = options
        self.run_folder = folder
        # Rank 0 writes; the others take part in what is written.
        self.folder = folder if ranks.is_first else None
        self.ranks = ranks
        self.device = device
        self.watcher = watcher
        self.observer = observer
        self.loss = task.loss
        # One for training and validation: what is left out is counted together.
        self.quarantine = Quarantine.resolve(
            options.on_bad_sample, options.max_bad, len(parts.data)
        )
        reading = Reading(memory=options.memory, quarantine=self.quarantine)
        self.train = training_batches(parts.train, task, options, reading, device, ranks)
        self.batch_size = self.train.batch_size
        self.validation = validation_of(parts.val, task, options, reading, device, ranks)
        model.train()
        refuse_coupling(model, options.micro_batch_size)
        refuse_single_samples(model, self.train)
        refuse_coupled_ranks(model, self.train, options.batch_statistics)
        gradient = gradient_for(model, task.loss, options)
        self.optimizer = build_optimizer(
            options.optimizer,
            gradient.parameters,
            learning_rate=options.learning_rate,
            momentum=options.momentum,
        )
        self.agreement = Agreement(ranks, save_seconds=options.checkpoint_seconds)
        self.step: Step = (
            step_of_ranks(
                gradient,
                self.optimizer,
                options,
                ranks=ranks,
                agreement=self.agreement,
                stand_in=self._first_samples,
            )
            if isinstance(ranks, ProcessGroup)
            else choose_step(gradient, self.optimizer, options, batch_size=self.batch_size)
        )
        self.unread = UnreadLosses(self.step) if isinstance(self.step, DeviceStep) else None
        self.standing = Standing()
        self.history: list[Row] = []
        self.step_losses = StepLosses()
        self.read_rows = ReadRows(len(parts.data))
        self.training_seconds = 0.0
        self.trained_samples = 0
        self.best_weights: dict[str, torch.Tensor] = {}

    def _first_samples(self, count: int) -> tuple[Any, torch.Tensor]:
        """The first samples of the training part as a batch."""
        part = self.train.part
        found = (to_torch(values, part.data, self.device) for values in part.example(count))
        inputs, target = found
        return inputs, target

    @property
    def total_steps(self) -> int:
        """The steps of the whole run if it is not stopped early."""
        if self.options.steps is not None:
            return self.options.steps
        whole_epochs = (self.options.epochs_wanted or 0) - self.train.current_epoch - 1
        return self.standing.steps + self.train.batches_left + whole_epochs * len(self.train)

    def run(self) -> None:
        """Train to the end; KeyboardInterrupt once the checkpoint is safe where Ctrl-C stops it."""
        with Interrupts(self.agreement.interrupt):
            while not self.is_done:
                self._epoch()
            if not self.train.at_epoch_start:
                # `steps` ended inside an epoch. Its row is no part of the checkpoint, so that a
                # run which is resumed to go further has the row of the whole epoch.
                self._end_epoch(self.standing.seconds)
            elif self.trained_samples:
                self.save()
        join_marks(self)
        self.ranks.has_checkpoint = False
        self._use_best_weights()

    def restore(self, *, allow_new_batch_size: bool = False) -> None:
        """Go back to the folder's checkpoint.

        Raises ResumeError where it belongs to other data, another plan or another model.
        """
        restore_run(self, allow_new_batch_size=allow_new_batch_size)
        if isinstance(self.step, RankStep):
            self.step.steps = self.standing.steps
        if self.folder is not None:
            self.folder.history.rewrite(self.history)
            self._rewrite_steps()

    def save(self) -> None:
        """Write a checkpoint, and the lines of history that wait."""
        if self.run_folder is None:
            return
        self._read_losses()
        save_run(self)
        self.ranks.has_checkpoint = True
        self._flush()
        self.agreement.note_saved()

    @property
    def bad_samples(self) -> tuple[BadSample, ...]:
        """The samples of training and validation that could not be read and were left out."""
        return self.train.bad_samples

    def _of_all_ranks(self, target: torch.Tensor, weight: int, count: int) -> tuple[int, int]:
        """Weight and number of the samples of a batch of which each rank holds a share."""
        if self.quarantine is None and not is_tokens(target):
            return self.train.batch_samples, self.train.batch_samples
        # How many tokens or readable samples others hold is not known here.
        sums = self.ranks.sum([weight, count])
        return int(sums[0]), int(sums[1])

    def _flush(self) -> None:
        if self.folder is not None:
            self.folder.history.flush()
            self.folder.steps.flush()

    def _epoch(self) -> None:
        """Train to the end of the present epoch, or of the run."""
        began = time.perf_counter()
        seconds_before, samples_before = self.standing.seconds, self.trained_samples
        watched = began
        standing = self.standing
        loading_before = standing.loading_seconds
        waiting = began
        for inputs, target, rows, *weights in self.train:
            standing.loading_seconds += time.perf_counter() - waiting
            if weights and not bool(weights[0].all()):
                inputs, target = without_fillers(inputs, target, weights[0])
                rows = rows[rows >= 0]
            weight, count = self.loss.weight(target), len(rows)
            if not self.ranks.is_alone:
                weight, count = self._of_all_ranks(target, weight, count)
            if not weight:
                # No sample can be read, or every token is masked: no step is taken.
                waiting = time.perf_counter()
                continue
            try:
                if self.unread is None:
                    loss = self.step(inputs, target, weight)
                else:
                    step = LaunchedStep(number=standing.steps + 1, rows=rows, weight=weight)
                    self.unread.launch(inputs, target, step)
            except IndexError as error:
                if not is_look_up(error):
                    raise
                raise beyond_vocabulary(self.parts.data.name, error) from error
            standing.steps += 1
            if self.unread is None:
                self._account(standing.steps, loss, rows, count, weight)
            elif self.unread.is_full or self.observer is not None:
                self._read_losses()
            now = waiting = time.perf_counter()
            standing.seconds = seconds_before + now - began
            if standing.steps == self.options.steps:
                break
            if self.train.at_epoch_start:
                # The epoch's end below writes the checkpoint, its row included.
                continue
            if self.agreement.stops:
                self._stop()
            if self.agreement.saves:
                self.save()
                waiting = time.perf_counter()
            if now - watched >= _WATCH_SECONDS:
                watched = now
                self._read_losses()
                self._tell(
                    standing.epoch_loss_sum / standing.epoch_weight,
                    samples_per_second=(self.trained_samples - samples_before) / (now - began),
                    loading_share=(standing.loading_seconds - loading_before) / (now - began),
                    row=None,
                )
                waiting = time.perf_counter()
        self._read_losses()
        seconds = time.perf_counter() - began
        self.training_seconds += seconds
        if self.train.at_epoch_start:
            self._end_epoch(seconds_before + seconds)
        else:
            standing.seconds = seconds_before + seconds
            self.save()

    def _account(self, step: int, loss: float, rows: torch.Tensor, count: int, weight: int) -> None:
        """Count a step that was taken; NonFiniteLossError where its loss is NaN or infinite."""
        standing = self.standing
        if loss - loss != 0.0:
            self._refuse_loss(step, loss, rows.tolist())
        self.read_rows.mark(rows.cpu().numpy())
        standing.samples += count
        self.trained_samples += count
        standing.epoch_weight += weight
        standing.epoch_loss_sum += loss * weight
        self._note_step(step, loss)
        if self.observer is not None:
            self.observer(step, loss, self.model)

    def _read_losses(self) -> None:
        """Count the steps whose losses are still on the device; waits for it where there are any.

        Raises NonFiniteLossError for the first that is NaN or infinite; the device has made no
        update since.
        """
        if self.unread is not None:
            for step, loss in self.unread.read():
                self._account(step.number, loss, step.rows, len(step.rows), step.weight)

    def _note_step(self, step: int, loss: float) -> None:
        stride = self.step_losses.stride
        if not self.step_losses.add(step, loss) or self.folder is None:
            return
        if self.step_losses.stride != stride:
            self._rewrite_steps()
        else:
            self.folder.steps.add({"step": step, "loss": loss})

    def _rewrite_steps(self) -> None:
        assert self.folder is not None  # asked by the callers
        self.folder.steps.rewrite(
            [{"step": step, "loss": loss} for step, loss in self.step_losses.pairs]
        )

    def _end_epoch(self, seconds: float) -> None:
        standing = self.standing
        if not standing.epoch_weight:
            raise DataError(
                f"no sample of {self.parts.data.name} that an epoch trains on could be read or "
                "counts; look at the samples that were left out, and at targets that are masked"
            )
        row: Row = {
            "epoch": len(self.history) + 1,
            "steps": standing.steps,
            "samples": standing.samples,
            "seconds": seconds,
            "loading_seconds": standing.loading_seconds,
            "train_loss": standing.epoch_loss_sum / standing.epoch_weight,
        }
        join_bad_samples(self)
        if self.bad_samples:
            row["bad_samples"] = len(self.bad_samples)
        if self.step.micro_batch_size != self.options.micro_batch_size:
            row["micro_batch_size"] = self.step.micro_batch_size
        validation = time.perf_counter()
        if self.validation is not None:
            # Validation has the whole budget of memory for itself.
            self.train.release_memory()
            if isinstance(self.step, RankStep):
                self.step.share_buffers()
            scores = self.validation.score(self.model, self.loss)
            row.update({f"val_{name}": value for name, value in scores.items()})
        standing.seconds = seconds + time.perf_counter() - validation
        self.history.append(row)
        if self.folder is not None:
            self.folder.history.add(row)
        self._note_best(row)
        if self.train.at_epoch_start:
            standing.epoch_loss_sum, standing.epoch_weight = 0.0, 0
            most = min(self.options.checkpoint_seconds, _EPOCH_SAVE_SECONDS)
            self.agreement.exchange(save_seconds=most)
            if self.agreement.agreed_to_save:
                self.save()
        self._flush()
        rate = self.trained_samples / max(self.training_seconds, 1e-9)
        loading = standing.loading_seconds / max(standing.seconds, 1e-9)
        self._tell(row["train_loss"], samples_per_second=rate, loading_share=loading, row=row)
        if self.agreement.stops and not self.is_done:
            self._stop()

    def _note_best(self, row: Row) -> None:
        if self.options.early_stopping is None:
            return
        standing, loss = self.standing, row["val_loss"]
        # NaN is below nothing, and must not become the loss to beat.
        if loss < (math.inf if standing.best_loss is None else standing.best_loss):
            standing.best_loss, standing.best_epoch = loss, row["epoch"]
            self.best_weights = checkpoint.model_tensors(self.model, "best")
            self.best_weights = {
                name.removeprefix("best."): value for name, value in self.best_weights.items()
            }
        standing.is_finished = row["epoch"] - standing.best_epoch >= self.options.early_stopping

    def _use_best_weights(self) -> None:
        if self.best_weights:
            checkpoint.restore_model(self.model, self.best_weights, "")

    @property
    def is_stopped_early(self) -> bool:
        """Whether the validation loss has ended the run."""
        return self.standing.is_finished or self._has_reached_target

    @property
    def _has_reached_target(self) -> bool:
        """Whether the last epoch ended at the loss to come down to, or below it."""
        # Asked of the history and stored nowhere: a resumed run may have another target.
        target = self.options.target_loss
        return target is not None and bool(self.history) and self.history[-1]["val_loss"] <= target

    @property
    def is_done(self) -> bool:
        """Whether there is no step left to take."""
        if self.is_stopped_early:
            return True
        if self.options.steps is not None:
            return self.standing.steps >= self.options.steps
        return self.train.current_epoch >= (self.options.epochs_wanted or 0)

    def _refuse_loss(self, step: int, loss: float, rows: list[int]) -> None:
        self.standing.steps = step
        # The losses since the last checkpoint show how it came to this.
        self._flush()
        rows = list(chain.from_iterable(self.ranks.gather_json(rows)))
        raise of_all_ranks(non_finite_loss(loss, step, rows, self.options.learning_rate))

    def _tell(
        self,
        train_loss: float,
        *,
        samples_per_second: float,
        loading_share: float,
        row: Row | None,
    ) -> None:
        if self.watcher is not None:
            self.watcher(
                Progress(
                    epoch=len(self.history) + (row is None),
                    steps=self.standing.steps,
                    total_steps=self.total_steps,
                    train_loss=train_loss,
                    samples_per_second=samples_per_second,
                    loading_share=loading_share,
                    bad_samples=len(self.bad_samples),
                    row=row,
                    micro_batch_size=self.step.micro_batch_size,
                )
            )

    def _stop(self) -> None:
        self.save()
        kept = (
            f"; the checkpoint is kept, go on with resume=True (--resume {self.folder.path})"
            if self.folder is not None
            else ""
        )
        raise KeyboardInterrupt(f"stopped after step {self.standing.steps:,}{kept}")
