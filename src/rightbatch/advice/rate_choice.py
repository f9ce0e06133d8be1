"""Which of the rates that a batch size was run at suits it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rightbatch.advice.pilot_result import PilotRun

# A rate that was run with so many seeds is known; the others are judged where none is.
_FEW_SEEDS = 3
# A rate at which more of the seeds ran away is none to train with.
_MOST_DIVERGED = 0.25


def best_rate(runs: Sequence[PilotRun], batch_size: int) -> float | None:
    """The rate of the fewest samples over the seeds that rates share; None where none got there.

    Where they share none, each counts with its own. Runs that were given up count with what they
    had taken. A rate at which too many seeds ran away
    is left out, and so is one of few seeds beside one of more.

    >>> took = {0.1: [90], 0.2: [100, 210, 220], 0.4: [110, 150, 160]}
    >>> runs = [
    ...     PilotRun(batch_size=8, learning_rate=rate, seed=seed, samples=samples, ended="reached")
    ...     for rate, each in took.items()
    ...     for seed, samples in enumerate(each)
    ... ]
    >>> best_rate(runs[:2], 8), best_rate(runs, 8)
    (0.1, 0.4)
    """
    by_rate: dict[float, list[PilotRun]] = {}
    for run in runs:
        if run.batch_size == batch_size:
            by_rate.setdefault(run.learning_rate, []).append(run)
    able = {
        rate: {run.seed: logs for run in same if (logs := log_samples(run)) is not None}
        for rate, same in by_rate.items()
        if _is_stable(same) and any(run.samples is not None for run in same)
    }
    enough = min(max(map(len, able.values()), default=0), _FEW_SEEDS)
    known = {rate: logs for rate, logs in able.items() if len(logs) >= enough}
    if not known:
        return None
    shared = set.intersection(*(set(logs) for logs in known.values()))

    def mean(rate: float) -> float:
        logs = known[rate]
        seeds = sorted(shared or logs)
        return sum(logs[seed] for seed in seeds) / len(seeds)

    return min(known, key=mean)


def log_samples(run: PilotRun) -> float | None:
    """The logarithm of what a run took, or had taken when it was given up; None of other ends."""
    if run.ended not in ("reached", "hopeless"):
        return None
    return math.log(run.points[-1].samples if run.samples is None else run.samples)


def _is_stable(runs: Sequence[PilotRun]) -> bool:
    ends = [run.ended for run in runs]
    return len(ends) < _FEW_SEEDS or ends.count("diverged") <= _MOST_DIVERGED * len(ends)
