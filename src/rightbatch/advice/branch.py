"""A branch: a short training run at one batch size and rate, watched by its validation loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from rightbatch.advice.subject import Pool, name_of, own_copy, refused
from rightbatch.errors import OptionError
from rightbatch.loading.batches import Batches
from rightbatch.loading.parts import Parts
from rightbatch.loading.tensors import find_device, to_torch
from rightbatch.training.agreement import Agreement
from rightbatch.training.building import build
from rightbatch.training.coupling import why_not_cut
from rightbatch.training.device_step import MOST_UNREAD, DeviceStep
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE, evaluation_mode
from rightbatch.training.history import StepLosses
from rightbatch.training.leakage import ReadRows
from rightbatch.training.losses import is_tokens
from rightbatch.training.models import build_model
from rightbatch.training.optimizers import Optimizer, build_optimizer
from rightbatch.training.options import FitOptions
from rightbatch.training.process_group import ProcessGroup
from rightbatch.training.rank_step import RankStep
from rightbatch.training.ranks import Ranks
from rightbatch.training.settings import RandomState, run_settings, threads_for
from rightbatch.training.step import Gradient, Step, find_gradient
from rightbatch.training.step_choice import choose_step, why_not_launched

# The validation loss is looked at whenever the samples seen have grown by these shares. Near the
# target a look every 4 % reads a crossing to about 1 %, by interpolation; early on fewer will do.
_FAR_GROWTH, _NEAR_GROWTH = 1.15, 1.04
_NEAR = 1.25
# A single look may dip below the target by chance, at a rate so high that the loss jumps about: the
# looks of the last eighth of the samples are averaged, three of them at least.
_SMOOTHED, _LEAST_LOOKS = 0.88, 3
# A loss above this many times that of the initial weights comes back too late to be of use.
_RUNAWAY = 4.0
_MOST_EVALUATION_SAMPLES = 4096
# Small enough that thousands of steps lead nowhere; the time of a step does not depend on it.
_IDLE_RATE = 1e-6
# Nothing of a branch is kept, so no checkpoint is ever due.
_NEVER = math.inf

Model = str | nn.Module | Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class LossPoint:
    """The validation loss after so many samples and seconds of training (evaluation apart)."""

    samples: int
    seconds: float
    loss: float


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

    def first_sample(self) -> tuple[Any, torch.Tensor]:
        """The first sample of the training part, as a batch of one."""
        part = self.train
        inputs, target = (to_torch(values, part.data, self.device) for values in part.example())
        return inputs, target

    def epoch_seconds(self, batch_size: int) -> float:
        """About what an epoch takes at this size, from a few steps."""
        branch = Branch(self, batch_size=batch_size, learning_rate=_IDLE_RATE, seed=0)
        branch.advance(target=0.0, most_samples=2 * batch_size, most_seconds=1.0)
        before, samples = branch.seconds, branch.samples
        branch.advance(target=0.0, most_samples=6 * batch_size, most_seconds=before + 1.0)
        branch.close()
        return (branch.seconds - before) / max(branch.samples - samples, 1) * len(self.train)

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
        share = -(-self.batch_size // ranks.world_size)
        return {
            "l1": options.l1,
            "l2": options.l2,
            "micro_batch_size": self._ground.micro_batch_size(share),
            "ranks": ranks,
            "stand_in": self._ground.first_sample,
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


def smoothed_at(points: Sequence[LossPoint], position: int) -> float:
    """The mean loss of a point and those before it in the last eighth of its samples, or of three.

    >>> points = [LossPoint(samples=n, seconds=0.0, loss=l) for n, l in
    ...           ((0, 2.3), (100, 1.0), (104, 0.5), (200, 0.4), (208, 0.3))]
    >>> round(smoothed_at(points, 4), 3), smoothed_at(points, 1)
    (0.4, 1.65)
    """
    last = points[position]
    total, count = last.loss, 1
    for point in reversed(points[:position]):
        if count >= _LEAST_LOOKS and point.samples < _SMOOTHED * last.samples:
            break
        total, count = total + point.loss, count + 1
    return total / count


def samples_to(points: Sequence[LossPoint], loss: float) -> float | None:
    """The samples after which a curve first came down to `loss`; None where it never did.

    The curve is smoothed, see `smoothed_at`; between two looks it is read on a straight line over
    the logarithm of the samples.

    >>> points = [LossPoint(samples=n, seconds=0.0, loss=l) for n, l in
    ...           ((0, 2.5), (100, 1.0), (200, 1.0), (400, 0.5), (800, 0.25))]
    >>> round(samples_to(points, 1.0)), samples_to(points, 0.5)
    (336, None)
    """
    if not math.isfinite(loss):
        raise OptionError(f"loss={loss} is not finite")
    before = points[0].loss
    if before <= loss:
        return 0.0
    for position in range(1, len(points)):
        after = smoothed_at(points, position)
        if after <= loss:
            share = (before - loss) / (before - after)
            start, end = points[position - 1].samples, points[position].samples
            if start == 0:
                return end * share
            return float(start * (end / start) ** share)
        before = after
    return None
