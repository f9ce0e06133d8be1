"""What a step of the training loop costs at each batch size, loader and bookkeeping included."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from rightbatch.advice.branch import Ground
from rightbatch.advice.law import StepTime, fit_step_time
from rightbatch.advice.stopwatch import LEAST_ROUNDS, Floats, SpeedProgress, median_intervals
from rightbatch.advice.timing import Speed, SpeedPoint
from rightbatch.errors import is_out_of_memory
from rightbatch.plan.hashing import derive_key
from rightbatch.training.provenance import Provenance
from rightbatch.training.settings import run_settings
from rightbatch.training.trainer import Trainer

# The loader first works out an epoch's order and fills what it reads ahead, beside the first steps.
_STARTING_SECONDS = 0.025
_SKIPPED_STEPS = 2
_READING_SECONDS = 0.02
_LEAST_STEPS = 3
# An epoch of a small set is over in milliseconds, and its start and end belong to its time.
_EPOCHS = 3
_MOST_EPOCHS_SECONDS = 0.1
# Where two doublings of the batch together make a sample this little cheaper, larger batches can
# not be faster to any target: they need more samples, and each costs the same.
_SATURATED = 0.97
_SMALLEST_SATURATED = 64
_IDLE_RATE = 1e-6
_ENDLESS_STEPS = 1 << 40

LoopWatcher = Callable[[SpeedProgress], None]


def measure_loop(
    ground: Ground,
    batch_sizes: Sequence[int],
    *,
    seconds: float,
    until_saturated: bool = True,
    progress: LoopWatcher | None = None,
) -> Speed:
    """Time steps of the real training loop at each batch size, smallest first.

    The loop is that of `fit`: its loader, its threads, its bookkeeping; validation apart. Sizes
    are warmed up in rising order; those that find no memory are left out, and with
    `until_saturated` those after the throughput has stopped growing. Then rounds follow for
    `seconds`, each with a reading of every size in a new random order; a point is the median, with
    its 95 % bootstrap interval.
    """
    sizes, notes = _warm_up(ground, sorted(batch_sizes), until_saturated)
    generator = np.random.default_rng(derive_key("loop", ground.options.seed))
    rows: list[Floats] = []
    began = time.perf_counter()
    longest = 0.0
    while True:
        before = time.perf_counter()
        row = np.empty(len(sizes))
        for position in generator.permutation(len(sizes)):
            row[position] = _read(ground, sizes[position])
        rows.append(row)
        now = time.perf_counter()
        longest = max(longest, now - before)
        spent = now - began
        is_last = spent + longest > (seconds if len(rows) >= LEAST_ROUNDS else 3 * seconds)
        if progress is not None:
            total = max(seconds, LEAST_ROUNDS * longest)
            progress(
                SpeedProgress(
                    rounds=len(rows), seconds=total if is_last else spent, total_seconds=total
                )
            )
        if is_last:
            break
    return _speed(ground, sizes, np.stack(rows), notes)


def _warm_up(
    ground: Ground, sizes: Sequence[int], until_saturated: bool
) -> tuple[list[int], list[str]]:
    """The sizes worth timing, and what is to be told of the others."""
    found: list[int] = []
    a_sample: list[float] = []
    notes: list[str] = []
    for size in sizes:
        try:
            step_seconds = _read(ground, size)
        except Exception as error:
            if not is_out_of_memory(error) or not found:
                raise
            notes.append(
                f"batch size {size:,} does not fit in memory; it and larger ones were not run"
            )
            break
        found.append(size)
        a_sample.append(step_seconds / size)
        if until_saturated and size >= _SMALLEST_SATURATED and len(found) > 3:
            # The least of what came before: one slow reading must not end the search.
            before, now = min(a_sample[:-2]), min(a_sample[-2:])
            if now > _SATURATED * before:
                if size < max(sizes):
                    notes.append(
                        f"beyond {size:,} a sample gets no cheaper: larger batches were not timed"
                    )
                break
    return found, notes


class _EnoughError(Exception):
    """The reading is long enough."""


class _Reading:
    """Notes when steps end, once the loop has started, and ends it when it knows enough."""

    def __init__(self, epoch_steps: int) -> None:
        self._began = time.perf_counter()
        self._epoch_steps = epoch_steps
        self._first = math.inf
        self._first_step = 0
        self.seconds_per_step = math.nan

    def __call__(self, step: int, loss: float, model: nn.Module) -> None:  # noqa: ARG002  # an observer's arguments
        now = time.perf_counter()
        if math.isinf(self._first):
            if step >= _SKIPPED_STEPS and now - self._began >= _STARTING_SECONDS:
                self._first, self._first_step = now, step
            return
        steps, seconds = step - self._first_step, now - self._first
        is_long = seconds >= _READING_SECONDS and steps >= _LEAST_STEPS
        has_epochs = steps >= _EPOCHS * self._epoch_steps or seconds >= _MOST_EPOCHS_SECONDS
        if is_long and has_epochs:
            self.seconds_per_step = seconds / steps
            raise _EnoughError


def _read(ground: Ground, batch_size: int) -> float:
    """Seconds a step of the loop, over some hundredths of a second at least."""
    options = replace(
        ground.options,
        batch_size=batch_size,
        # The time does not depend on the rate, and thousands of steps might lead anywhere.
        learning_rate=_IDLE_RATE,
        epochs=None,
        steps=_ENDLESS_STEPS,
        micro_batch_size=ground.micro_batch_size(batch_size),
        early_stopping=None,
    )
    with run_settings(options.seed):
        torch.set_num_threads(ground.threads(batch_size))
        network, task = ground.build(options.seed)
        reading = _Reading(math.ceil(len(ground.train) / batch_size))
        trainer = Trainer(
            network,
            replace(ground.parts, val=None, test=None),
            task,
            options,
            folder=None,
            device=ground.device,
            watcher=None,
            observer=reading,
        )
        with contextlib.suppress(_EnoughError):
            trainer.run()
    return reading.seconds_per_step


def _speed(ground: Ground, sizes: Sequence[int], readings: Floats, notes: list[str]) -> Speed:
    medians, low, high = median_intervals(readings)
    points = [
        SpeedPoint(
            batch_size=size,
            seconds_per_batch=float(medians[k]),
            seconds_per_sample=float(medians[k]) / size,
            low=float(low[k]) / size,
            high=float(high[k]) / size,
        )
        for k, size in enumerate(sizes)
    ]
    fit: StepTime | None = None
    if len(points) > 1:
        fit = fit_step_time(sizes, medians)
    return Speed(
        model=ground.name,
        mode="loop",
        threads=max(ground.threads(size) for size in sizes),
        device=str(ground.device),
        points=points,
        fit=fit,
        rounds=len(readings),
        notes=notes,
        settings={"optimizer": ground.options.optimizer, "seed": ground.options.seed},
        provenance=Provenance.of(ground.parts),
    )
