"""What a step of the training loop costs at each batch size, loader and bookkeeping included."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from rightbatch.advice.branch import Branch
from rightbatch.advice.ground import Ground
from rightbatch.advice.law import StepTime, fit_step_time
from rightbatch.advice.speed import loading_seconds
from rightbatch.advice.stopwatch import LEAST_ROUNDS, Floats, SpeedProgress, median_intervals
from rightbatch.advice.timing import Speed, SpeedPoint
from rightbatch.errors import is_out_of_memory
from rightbatch.plan.hashing import derive_key
from rightbatch.training.provenance import Provenance
from rightbatch.training.ranks import Ranks

_READING_SECONDS = 0.02
_LEAST_STEPS = 3
# An epoch of a small set is over in milliseconds, and its start and end belong to its time.
_EPOCHS = 3
_MOST_EPOCHS_SECONDS = 0.1
# Between two readings the loader reads ahead, a few slabs of batches. Where it is not much faster
# than the model, a reading has to go on until that lead is used up.
_LEAD_SLABS = 3
_SLOW_LOADER = 0.5
_MOST_LEAD_SECONDS = 1.0
# Where two doublings of the batch together make a sample this little cheaper, larger batches can
# not be faster to any target: they need more samples, and each costs the same.
_SATURATED = 0.97
_SMALLEST_SATURATED = 64
# The time does not depend on the rate, and thousands of steps might lead anywhere.
_IDLE_RATE = 1e-6
_LOADING_SECONDS, _LOADING_BATCH = 0.25, 256

LoopWatcher = Callable[[SpeedProgress], None]


def measure_loop(
    ground: Ground,
    batch_sizes: Sequence[int],
    *,
    seconds: float,
    until_saturated: bool = True,
    progress: LoopWatcher | None = None,
    ranks: Ranks | None = None,
) -> Speed:
    """Time steps of the real training loop at each batch size, smallest first.

    The loop is that of `fit`: its loader, its threads, its bookkeeping; validation apart. Sizes
    are warmed up in rising order; those that find no memory are left out, and with
    `until_saturated` those after the throughput has stopped growing. Then rounds follow for
    `seconds`, each with a reading of every size in a new random order; a point is the median, with
    its 95 % bootstrap interval.

    Several `ranks` call it alike and take the steps of a global batch together, communication
    included: a reading is that of the slowest, rank 0 says when to end, and all have one result.
    """
    ranks = ranks or Ranks()
    loading = loading_seconds(
        ground.train,
        min(_LOADING_BATCH, len(ground.train)),
        seconds=min(seconds / 4, _LOADING_SECONDS),
        seed=ground.options.seed,
        device=ground.device,
    )
    # Ranks make their shares side by side.
    loading = slowest(ranks, loading) / ranks.world_size
    loops: list[Loop] = []
    try:
        notes = _warm_up(loops, ground, sorted(batch_sizes), loading, until_saturated, ranks)
        readings = _read_rounds(loops, ground, seconds, progress, ranks)
    finally:
        for loop in loops:
            loop.branch.close()
    return _speed(ground, [loop.branch.batch_size for loop in loops], readings, loading, notes)


def slowest(ranks: Ranks, seconds: float) -> float:
    """The longest that any rank took."""
    return float(ranks.gather([seconds]).max())


class Loop:
    """The training loop at one batch size, which goes on from reading to reading.

    `loading` are the seconds of making the batch of a sample. Several `ranks` read together, so
    many steps as rank 0 has found to be enough.
    """

    def __init__(
        self, ground: Ground, batch_size: int, loading: float, ranks: Ranks | None = None
    ) -> None:
        self.branch = Branch(
            ground,
            batch_size=batch_size,
            learning_rate=_IDLE_RATE,
            seed=ground.options.seed,
            ranks=ranks,
        )
        self._ranks = ranks or Ranks()
        self._steps = 0
        self._epoch_steps = math.ceil(len(ground.train) / batch_size)
        self._lead_steps = _LEAD_SLABS * self.branch.batches_per_slab
        self._loading = loading * batch_size

    def read(self) -> float:
        """Seconds a step, over some hundredths of a second at least; of ranks, this one's own."""
        if self._ranks.is_alone:
            return self.branch.run(self._is_enough)
        # The first steps set up what the others use, and say little.
        for _ in range(0 if self._steps else 2):
            self._steps = self._agreed_steps(self._run(self._steps or _LEAST_STEPS))
        return self._run(self._steps)

    def _run(self, steps: int) -> float:
        # Whoever comes first would count the time in which the others are not there yet.
        self._ranks.gather([0.0])
        return self.branch.run(lambda taken, _: taken >= steps)

    def _agreed_steps(self, step_seconds: float) -> int:
        """The least steps that are enough at this time a step, by rank 0."""
        steps = _LEAST_STEPS
        while not self._is_enough(steps, steps * step_seconds):
            steps += max(1, steps // 8)
        return int(self._ranks.gather([steps])[0, 0])

    def _is_enough(self, steps: int, seconds: float) -> bool:
        if seconds < _READING_SECONDS or steps < _LEAST_STEPS:
            return False
        # Only where whole epochs are so short that a reading holds some of them.
        has_short_epochs = self._epoch_steps * seconds / steps < _MOST_EPOCHS_SECONDS / _EPOCHS
        if has_short_epochs and steps < _EPOCHS * self._epoch_steps:
            return False
        is_slow = self._loading > _SLOW_LOADER * seconds / steps
        has_lead = steps < 3 * self._lead_steps and seconds < _MOST_LEAD_SECONDS
        return not (is_slow and has_lead)


def _warm_up(
    loops: list[Loop],
    ground: Ground,
    sizes: Sequence[int],
    loading: float,
    until_saturated: bool,
    ranks: Ranks,
) -> list[str]:
    """Append the loops worth timing to `loops`; gives what is to be told of the others."""
    a_sample: list[float] = []
    for size in sizes:
        try:
            loop = Loop(ground, size, loading, ranks)
            loops.append(loop)
            # Ranks wait for whichever is held up, and one slow reading must not end the search.
            readings = range(1 if ranks.is_alone else 2)
            step_seconds = min(slowest(ranks, loop.read()) for _ in readings)
        except Exception as error:
            if not is_out_of_memory(error) or not a_sample:
                raise
            loops.pop().branch.close()
            return [f"batch size {size:,} does not fit in memory; it and larger ones were not run"]
        a_sample.append(step_seconds / size)
        if until_saturated and size >= _SMALLEST_SATURATED and len(loops) > 3:
            # The least of what came before: one slow reading must not end the search.
            before, now = min(a_sample[:-2]), min(a_sample[-2:])
            if now > _SATURATED * before and size < max(sizes):
                return [f"beyond {size:,} a sample gets no cheaper: larger batches were not timed"]
    return []


def _read_rounds(
    loops: Sequence[Loop],
    ground: Ground,
    seconds: float,
    progress: LoopWatcher | None,
    ranks: Ranks,
) -> Floats:
    """Seconds a step, (rounds, sizes): every round reads each loop once, in a new order."""
    generator = np.random.default_rng(derive_key("loop", ground.options.seed))
    rows: list[Floats] = []
    began = time.perf_counter()
    longest = 0.0
    while True:
        before = time.perf_counter()
        row = np.empty(len(loops))
        for position in generator.permutation(len(loops)):
            row[position] = loops[position].read()
        now = time.perf_counter()
        longest = max(longest, now - before)
        spent = now - began
        has_enough = len(rows) + 1 >= LEAST_ROUNDS
        is_last = spent + longest > (seconds if has_enough else 3 * seconds)
        told = ranks.gather([*row, is_last])
        rows.append(told[:, :-1].max(axis=0))
        is_last = bool(told[0, -1])
        if progress is not None:
            total = max(seconds, LEAST_ROUNDS * longest)
            progress(
                SpeedProgress(
                    rounds=len(rows), seconds=total if is_last else spent, total_seconds=total
                )
            )
        if is_last:
            return np.stack(rows)


def _speed(
    ground: Ground, sizes: Sequence[int], readings: Floats, loading: float, notes: list[str]
) -> Speed:
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
        loading_seconds_per_sample=loading,
        rounds=len(readings),
        notes=notes,
        settings={"optimizer": ground.options.optimizer, "seed": ground.options.seed},
        provenance=Provenance.of(ground.parts),
    )
