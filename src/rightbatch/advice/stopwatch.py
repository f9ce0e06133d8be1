"""Timing several things fairly: warmed up, in turns, in random order, repeated where short."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from rightbatch.plan.hashing import derive_key

Floats = NDArray[np.float64]

LEAST_ROUNDS = 5
# A clock that is read every millisecond adds nothing to what it measures.
_READING_SECONDS = 1e-3
# The first calls of a shape choose kernels and allocate: they say nothing of the later ones.
_WARM_UP_CALLS = 3
_WARM_UP_SECONDS = 5e-3
_TAIL = 0.025
_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One thing to time: `call(k)` does it once, k counting from 0 within a reading.

    `prepare` is called before a reading, untimed; `finish` ends the work that calls began on a
    device, inside the time.
    """

    call: Callable[[int], object]
    prepare: Callable[[], object]
    finish: Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class SpeedProgress:
    """How far a measurement is: seconds spent of those it will take, and whole rounds."""

    rounds: int
    seconds: float
    total_seconds: float


SpeedWatcher = Callable[[SpeedProgress], None]


def warm_up(watched: Watched) -> int:
    """Call until the thing runs as it will go on; gives the calls that make a reading."""
    watched.prepare()
    fastest, spent, calls = math.inf, 0.0, 0
    while calls < _WARM_UP_CALLS or (spent < _WARM_UP_SECONDS and calls < 1000):
        began = time.perf_counter()
        watched.call(calls)
        watched.finish()
        seconds = time.perf_counter() - began
        fastest, spent, calls = min(fastest, seconds), spent + seconds, calls + 1
    return max(1, math.ceil(_READING_SECONDS / max(fastest, 1e-9)))


def read_rounds(
    watched: Sequence[Watched],
    calls: Sequence[int],
    *,
    seconds: float,
    seed: int,
    progress: SpeedWatcher | None = None,
) -> Floats:
    """Seconds a call, (rounds, things): every round times each thing once, in a new order.

    What else the machine does then falls on all of them alike. Rounds go on for `seconds`, and
    there are five at least.
    """
    generator = np.random.default_rng(derive_key("speed", seed))
    rows: list[Floats] = []
    collects = gc.isenabled()
    began = time.perf_counter()
    longest = 0.0
    try:
        while True:
            before = time.perf_counter()
            # The collector would fall on whichever thing is running when it is due.
            gc.disable()
            row = np.empty(len(watched))
            for position in generator.permutation(len(watched)):
                row[position] = _read(watched[position], calls[position])
            rows.append(row)
            if collects:
                gc.enable()
            now = time.perf_counter()
            longest = max(longest, now - before)
            is_last = len(rows) >= LEAST_ROUNDS and now - began + longest > seconds
            if progress is not None:
                total = max(seconds, LEAST_ROUNDS * longest)
                spent = total if is_last else now - began
                progress(SpeedProgress(rounds=len(rows), seconds=spent, total_seconds=total))
            if is_last:
                return np.stack(rows)
    finally:
        if collects:
            gc.enable()


def _read(watched: Watched, calls: int) -> float:
    watched.prepare()
    call = watched.call
    if calls > 1:
        # The thing before left its own data in the caches; a loop would find those of this one.
        call(0)
        watched.finish()
    began = time.perf_counter()
    for number in range(calls):
        call(number)
    watched.finish()
    return (time.perf_counter() - began) / calls


def median_intervals(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Medians of the columns of `values` (rounds, things), and their 95 % bootstrap intervals.

    The percentile bootstrap of a median has a closed form (Efron 1979, section 3), which is what
    endless resampling would give: a resampled median lies at or below the k-th of n values with
    the probability that at least half of n draws do, P(Bin(n, k/n) ≥ n/2).

    >>> medians, low, high = median_intervals(np.array([[1.0], [2.0], [3.0]]))
    >>> medians.tolist(), low.tolist(), high.tolist()
    ([2.0], [1.0], [3.0])
    """
    rounds = len(values)
    ordered = np.sort(values, axis=0)
    shares = np.arange(1, rounds + 1) / rounds
    # Of an even number there are two medians: the lower one bounds below, the upper one above.
    lower, upper = (rounds + 1) // 2, rounds // 2 + 1
    low = np.searchsorted(bdtrc(lower - 1, rounds, shares), _TAIL)
    high = np.searchsorted(bdtrc(upper - 1, rounds, shares), 1 - _TAIL)
    return np.median(values, axis=0), ordered[low], ordered[high]


def resampled_medians(values: Floats, *, seed: int) -> Floats:
    """Medians of the columns of `values` (rounds, things) in 2,000 draws of as many rounds.

    Whole rounds are drawn, with replacement, so that a round which was slow as a whole stays one:
    what is computed from several columns of the result has the spread of the real thing.
    """
    generator = np.random.default_rng(derive_key("bootstrap", seed))
    medians = np.empty((_RESAMPLES, values.shape[1]))
    # A draw at a time: all of them at once would fill memory where there are many rounds.
    for draw in medians:
        draw[:] = np.median(values[generator.integers(0, len(values), len(values))], axis=0)
    return medians
