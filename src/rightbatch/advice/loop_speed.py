"""What a step of the training loop costs at each batch size, loader and bookkeeping included."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from rightbatch.advice.branch import Ground
from rightbatch.advice.law import StepTime, fit_step_time
from rightbatch.advice.stopwatch import LEAST_ROUNDS, Floats, SpeedProgress, median_intervals
from rightbatch.advice.timing import Speed, SpeedPoint
from rightbatch.errors import is_out_of_memory
from rightbatch.plan.hashing import derive_key
from rightbatch.training.provenance import Provenance
from rightbatch.training.settings import run_settings
from rightbatch.training.trainer import Trainer

# The first steps start the loader's thread and meet cold caches.
_SKIPPED_STEPS = 2
_LEAST_STEPS = 5
_READING_SECONDS = 0.02
# An epoch of a small set is over in milliseconds, and its start and end belong to its time.
_EPOCHS = 3
# Where two doublings of the batch together make a sample this little cheaper, larger batches can
# not be faster to any target: they need more samples, and each costs the same.
_SATURATED = 0.97
_SMALLEST_SATURATED = 64

LoopWatcher = Callable[[SpeedProgress], None]


def measure_loop(
    ground: Ground,
    batch_sizes: Sequence[int],
    *,
    seconds: float,
    progress: LoopWatcher | None = None,
) -> Speed:
    """Time steps of the real training loop at each batch size, smallest first.

    The loop is that of `fit`: its loader, its threads, its bookkeeping; validation apart. Sizes
    are warmed up in rising order, and those after the throughput has stopped growing are left out,
    as are those that find no memory. Then rounds follow for `seconds`, each with a reading of every
    size in a new random order; a point is the median, with its 95 % bootstrap interval.
    """
    sizes, readings_steps, notes = _warm_up(ground, sorted(batch_sizes), seconds)
    generator = np.random.default_rng(derive_key("loop", ground.options.seed))
    rows: list[Floats] = []
    began = time.perf_counter()
    longest = 0.0
    while True:
        before = time.perf_counter()
        row = np.empty(len(sizes))
        for position in generator.permutation(len(sizes)):
            row[position] = _read(ground, sizes[position], readings_steps[position])
        rows.append(row)
        now = time.perf_counter()
        longest = max(longest, now - before)
        spent = now - began
        is_last = len(rows) >= LEAST_ROUNDS and spent + longest > seconds
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
    ground: Ground, sizes: Sequence[int], seconds: float
) -> tuple[list[int], list[int], list[str]]:
    """The sizes worth timing, the steps of a reading of each, and what is to be told."""
    found: list[int] = []
    steps: list[int] = []
    a_sample: list[float] = []
    notes: list[str] = []
    # A round of readings of this length leaves room for five rounds.
    most_seconds = max(seconds / (LEAST_ROUNDS * max(len(sizes), 1)), 4 * _READING_SECONDS)
    for size in sizes:
        try:
            step_seconds = _read(ground, size, _LEAST_STEPS)
        except Exception as error:
            if not is_out_of_memory(error) or not found:
                raise
            notes.append(
                f"batch size {size:,} does not fit in memory; it and larger ones were not run"
            )
            break
        epoch_steps = math.ceil(len(ground.train) / size)
        wanted = max(_LEAST_STEPS, math.ceil(_READING_SECONDS / step_seconds))
        if _EPOCHS * epoch_steps * step_seconds < most_seconds:
            wanted = max(wanted, _EPOCHS * epoch_steps)
        found.append(size)
        steps.append(wanted)
        a_sample.append(step_seconds / size)
        if size >= _SMALLEST_SATURATED and len(found) > 3:
            # The least of what came before: one slow reading must not end the search.
            before, now = min(a_sample[:-2]), min(a_sample[-2:])
            if now > _SATURATED * before:
                left = [other for other in sizes if other > size]
                if left:
                    notes.append(
                        f"beyond {size:,} a sample gets no cheaper: larger batches were not timed"
                    )
                break
    return found, steps, notes


class _Stamps:
    """The times at which steps ended."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, *_: object) -> None:
        self.seconds.append(time.perf_counter())


def _read(ground: Ground, batch_size: int, steps: int) -> float:
    """Seconds a step over `steps` steps of the loop."""
    options = replace(
        ground.options,
        batch_size=batch_size,
        # The time does not depend on the rate, and thousands of steps might lead anywhere.
        learning_rate=1e-6,
        epochs=None,
        steps=steps + _SKIPPED_STEPS,
        micro_batch_size=ground.micro_batch_size(batch_size),
        early_stopping=None,
    )
    stamps = _Stamps()
    with run_settings(options.seed):
        torch.set_num_threads(ground.threads(batch_size))
        network, task = ground.build(options.seed)
        Trainer(
            network,
            replace(ground.parts, val=None, test=None),
            task,
            options,
            folder=None,
            device=ground.device,
            watcher=None,
            observer=stamps,
        ).run()
    first, last = stamps.seconds[_SKIPPED_STEPS - 1], stamps.seconds[-1]
    return (last - first) / (len(stamps.seconds) - _SKIPPED_STEPS)


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
