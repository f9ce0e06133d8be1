"""A branch: a short training run at one batch size and rate, watched by its validation loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from rightbatch.advice.ground import Ground
from rightbatch.advice.loss_points import LossPoint, samples_to, smoothed_at
from rightbatch.advice.rank_shares import largest_share
from rightbatch.advice.subject import refused
from rightbatch.loading.batches import Batches
from rightbatch.training.agreement import Agreement
from rightbatch.training.device_step import MOST_UNREAD, DeviceStep
from rightbatch.training.history import StepLosses
from rightbatch.training.leakage import ReadRows
from rightbatch.training.losses import is_tokens
from rightbatch.training.optimizers import Optimizer, build_optimizer
from rightbatch.training.process_group import ProcessGroup
from rightbatch.training.rank_step import RankStep
from rightbatch.training.ranks import Ranks
from rightbatch.training.settings import run_settings
from rightbatch.training.step import Gradient, Step, find_gradient
from rightbatch.training.step_choice import choose_step, why_not_launched

# The validation loss is looked at whenever the samples seen have grown by these shares. Near the
# target a look every 4 % reads a crossing to about 1 %, by interpolation; early on fewer will do.
_FAR_GROWTH, _NEAR_GROWTH = 1.15, 1.04
_NEAR = 1.25
# A loss above this many times that of the initial weights comes back too late to be of use.
_RUNAWAY = 4.0
# Small enough that thousands of steps lead nowhere; the time of a step does not depend on it.
_IDLE_RATE = 1e-6
# Nothing of a branch is kept, so no checkpoint is ever due.
_NEVER = math.inf


class Branch:
    """One training run that can be stopped, looked at and continued.

    `points` are the validation losses so far, from the initial weights on; `samples`, `steps` and
    `seconds` what the training has taken, evaluation apart; `has_diverged` whether the loss ran
    away. Several `ranks` share its batches as those of `fit` do, and all of them run it alike: so
    many steps, since their clocks differ.
    """

    def __init__(
        self,
        ground: Ground,
        *,
        batch_size: int,
        learning_rate: float,
        seed: int,
        loader_threads: int = 1,
        ranks: Ranks | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.seed = seed
        self.samples = 0
        self.steps = 0
        self.seconds = 0.0
        self.has_diverged = False
        self._ground = ground
        # What `fit` notes of every step is noted here too: it is part of a step's time.
        self._read_rows = ReadRows(len(ground.parts.data))
        self._step_losses = StepLosses()
        options = ground.options
        self._network = ground.build(seed)
        self._network.train()
        self._initial_loss = self._last_loss = ground.loss(self._network)
        self.points = [LossPoint(samples=0, seconds=0.0, loss=self._initial_loss)]
        gradient = find_gradient(self._network, ground.task.loss)
        optimizer = build_optimizer(
            options.optimizer,
            gradient.parameters,
            learning_rate=learning_rate,
            momentum=options.momentum,
        )
        self._ranks = ranks = ranks or Ranks()
        self._micro_batch_size = ground.micro_batch_size(batch_size)
        self._step = self._make_step(gradient, optimizer)
        self._loader = Batches(
            ground.train,
            batch_size,
            seed=seed,
            shuffle=options.shuffle,
            window=options.window,
            block=options.block,
            memory=options.memory,
            with_rows=True,
            output="torch",
            device=ground.device,
            threads=loader_threads,
            rank=ranks.rank,
            world_size=ranks.world_size,
        )
        self.batches_per_slab = self._loader.batches_per_slab
        self._stream = self._batches(self._loader)

    def _make_step(self, gradient: Gradient, optimizer: Optimizer) -> Step:
        if isinstance(self._ranks, ProcessGroup):
            return RankStep(gradient, optimizer, **self._rank_options(self._ranks))
        options, micro = self._ground.options, self._micro_batch_size
        if why_not_launched(gradient) is None:
            # On a GPU the steps of `fit` are launched ahead of their losses, and captured.
            return choose_step(
                gradient,
                optimizer,
                replace(options, micro_batch_size=micro),
                batch_size=min(self.batch_size, len(self._ground.train)),
            )
        return Step(gradient, optimizer, l1=options.l1, l2=options.l2, micro_batch_size=micro)

    def _rank_options(self, ranks: ProcessGroup) -> dict[str, Any]:
        """What a `RankStep` takes beside gradient and optimizer."""
        options = self._ground.options
        share = largest_share(self.batch_size, ranks.world_size)
        return {
            "l1": options.l1,
            "l2": options.l2,
            "micro_batch_size": self._ground.micro_batch_size(share),
            "ranks": ranks,
            "stand_in": self._ground.first_samples,
            "seed": self.seed,
            "allows_coupling": options.batch_statistics is not None,
            # What ranks of `fit` say to one another in a step is part of its time.
            "agreement": Agreement(ranks, save_seconds=_NEVER),
        }

    @staticmethod
    def _batches(batches: Batches) -> Generator[Any, None, None]:
        while True:
            yield from batches

    def advance(
        self,
        *,
        target: float,
        most_samples: float = math.inf,
        most_seconds: float = math.inf,
    ) -> None:
        """Train on until the loss is at the target, the limits are reached, or it diverges.

        `most_seconds` bounds the seconds of training in all, `most_samples` likewise.
        """
        with run_settings(self.seed):
            torch.set_num_threads(self._ground.threads(self.batch_size))
            while not (
                self.has_diverged
                or self.smoothed_loss <= target
                or self.samples >= most_samples
                or self.seconds >= most_seconds
            ):
                near = self.smoothed_loss < _NEAR * target
                growth = _NEAR_GROWTH if near else _FAR_GROWTH
                goal: float = max(self.samples + self.batch_size, math.ceil(self.samples * growth))
                end, spare = min(goal, most_samples), most_seconds - self.seconds
                self._train(lambda _, seconds: self.samples >= end or seconds >= spare)  # noqa: B023  # called before the next turn
                self.look()

    @property
    def smoothed_loss(self) -> float:
        """The validation loss now, averaged over the looks of the last eighth of the samples."""
        return smoothed_at(self.points, len(self.points) - 1)

    def samples_to(self, loss: float) -> float | None:
        """The samples after which the validation loss first was `loss`; None where it never was."""
        return samples_to(self.points, loss)

    def copy_network(self) -> nn.Module:
        """The network as it is now, to be looked at without changing the run."""
        # Built anew: what a function makes may hold what can not be copied.
        network = self._ground.build(self.seed)
        network.load_state_dict(self._network.state_dict())
        return network.train()

    def close(self) -> None:
        """End the threads that make the batches."""
        self._stream.close()

    def run(self, is_enough: Callable[[int, float], bool]) -> float:
        """Train, without a look at the validation loss; gives the seconds of a step.

        `is_enough` is asked after every step with the steps and the seconds of this run.
        """
        with run_settings(self.seed):
            torch.set_num_threads(self._ground.threads(self.batch_size))
            steps, seconds = self._train(is_enough)
        return seconds / steps

    def _of_all_ranks(self, target: torch.Tensor) -> tuple[int, int]:
        """Weight and number of the samples of a batch, of which each rank holds a share."""
        weight, count = self._ground.task.loss.weight(target), len(target)
        if self._ranks.is_alone:
            return weight, count
        if not is_tokens(target):
            return self._loader.batch_samples, self._loader.batch_samples
        sums = self._ranks.sum([weight, count])
        return int(sums[0]), int(sums[1])

    def _train(self, is_enough: Callable[[int, float], bool]) -> tuple[int, float]:
        began = time.perf_counter()
        seconds, steps = 0.0, 0
        stream, step = self._stream, self._step
        is_launched = isinstance(step, DeviceStep)
        try:
            while True:
                inputs, target, rows = next(stream)
                weight, count = self._of_all_ranks(target)
                loss = (
                    self._launch(inputs, target, weight)
                    if is_launched
                    else step(inputs, target, weight)
                )
                self._read_rows.mark(rows.cpu().numpy())
                self.samples += count
                self.steps += 1
                steps += 1
                self._step_losses.add(self.steps, loss)
                seconds = time.perf_counter() - began
                if loss - loss != 0.0:
                    self.has_diverged = True
                    break
                if is_enough(steps, seconds):
                    if is_launched:
                        self.has_diverged = not math.isfinite(self._read())
                        seconds = time.perf_counter() - began
                    break
        except Exception as error:
            told = refused(error, batch_size=self.batch_size, data=self._ground.parts.data.name)
            if told is error:
                raise
            raise told from error
        self.seconds += seconds
        return steps, seconds

    def _launch(self, inputs: Any, target: Tensor, weight: int) -> float:
        """Launch a step; gives a loss of those before it, not finite where one was not.

        Raises MemoryError where memory has room for smaller pieces than asked for alone.
        """
        step = self._step
        assert isinstance(step, DeviceStep)  # the caller has asked
        step.launch(inputs, target, weight)
        if step.micro_batch_size != self._micro_batch_size:
            raise MemoryError("training went on in smaller micro-batches")
        return self._read() if step.unread == MOST_UNREAD else self._last_loss

    def _read(self) -> float:
        """The last of the losses that were launched, or the first that is not finite."""
        step = self._step
        assert isinstance(step, DeviceStep)  # the caller has asked
        losses = step.read() or [self._last_loss]
        self._last_loss = next((loss for loss in losses if loss - loss != 0.0), losses[-1])
        return self._last_loss

    def look(self) -> None:
        """Look at the validation loss now."""
        loss = math.inf if self.has_diverged else self._ground.loss(self._network)
        if not loss <= _RUNAWAY * self._initial_loss + 1.0:
            self.has_diverged = True
        if math.isfinite(loss):
            self.points.append(LossPoint(samples=self.samples, seconds=self.seconds, loss=loss))


def epoch_seconds(ground: Ground, batch_size: int) -> float:
    """About what an epoch takes at this size, from a few steps."""
    branch = Branch(ground, batch_size=batch_size, learning_rate=_IDLE_RATE, seed=0)
    branch.advance(target=0.0, most_samples=2 * batch_size, most_seconds=1.0)
    before, samples = branch.seconds, branch.samples
    branch.advance(target=0.0, most_samples=6 * batch_size, most_seconds=before + 1.0)
    branch.close()
    return (branch.seconds - before) / max(branch.samples - samples, 1) * len(ground.train)
