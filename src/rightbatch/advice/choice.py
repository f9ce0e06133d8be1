"""From what is known of samples and step times to a batch size, and the interval around it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rightbatch.advice.advice import CostPoint
from rightbatch.advice.law import NEAR_BEST
from rightbatch.advice.samples_posterior import SamplesPosterior

Floats = NDArray[np.float64]

# A size belongs to the interval where it is within 10 % of the best with at least this chance.
_CHANCE = 0.15


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A batch size, the interval, and the predicted cost of every size."""

    batch_size: int
    interval: tuple[int, int]
    costs: list[CostPoint]


def choose_for_target(
    posterior: SamplesPosterior,
    step_seconds: Mapping[int, float],
    *,
    candidates: Collection[int],
    tested: Collection[int],
    is_relative: bool = False,
) -> Choice:
    """The size of the least expected excess over the best time to the target.

    `candidates` are the sizes that may be advised; the interval is made of all sizes of the
    posterior that are within 10 % of the best with a fair chance. With `is_relative` the costs are
    given over the least one, where the posterior knows ratios alone.

    >>> from rightbatch.advice.samples_posterior import Observation, infer_samples
    >>> runs = [Observation(batch_size=b, seed=0, samples=1e4 * (1 + b / 64)) for b in (8, 64, 256)]
    >>> sizes = [8, 16, 32, 64, 128, 256]
    >>> found = infer_samples(runs, sizes, prior_critical=100, prior_factor=8)
    >>> times = {size: 64e-6 + 1e-6 * size for size in sizes}
    >>> choose_for_target(found, times, candidates=sizes, tested=[8, 64, 256]).batch_size
    64
    """
    sizes = posterior.sizes
    times = posterior.draws + np.log([step_seconds[size] / size for size in sizes])
    excess = times - times.min(axis=1, keepdims=True)
    expected = np.expm1(np.minimum(excess, 10.0)).mean(axis=0)
    place = min(
        (place for place, size in enumerate(sizes) if size in candidates),
        key=lambda place: expected[place],
    )
    near = (excess <= math.log1p(NEAR_BEST)).mean(axis=0) >= _CHANCE
    told = times - times.mean(axis=0).min() if is_relative else times
    return Choice(
        batch_size=sizes[place],
        interval=_around(sizes, near, place),
        costs=_costs(posterior, told, tested),
    )


def choose_for_epochs(
    posterior: SamplesPosterior,
    step_seconds: Mapping[int, float],
    *,
    candidates: Collection[int],
    tested: Collection[int],
    samples: int,
) -> Choice:
    """The fastest size for epochs of `samples` samples whose loss is as low as any.

    That is, among the sizes that need no more than 10 % above the fewest samples to the same loss.

    >>> from rightbatch.advice.samples_posterior import Observation, infer_samples
    >>> runs = [Observation(batch_size=b, seed=0, samples=1e4 * (1 + b / 640)) for b in (8, 64)]
    >>> sizes = [8, 16, 32, 64, 128, 256]
    >>> found = infer_samples(runs, sizes, prior_critical=700, prior_factor=8)
    >>> times = {size: 64e-6 + 1e-6 * size for size in sizes}
    >>> chosen = choose_for_epochs(found, times, candidates=sizes, tested=sizes, samples=1000)
    >>> chosen.batch_size
    64
    """
    sizes = posterior.sizes
    mean = posterior.mean
    allowed = mean - mean.min() <= math.log1p(NEAR_BEST)
    seconds = np.array([step_seconds[size] * math.ceil(samples / size) for size in sizes])
    places = [place for place, size in enumerate(sizes) if size in candidates]
    able = [place for place in places if allowed[place]]
    # Where none of them is that efficient, the most efficient of them.
    place = min(able or [min(places, key=lambda place: mean[place])], key=lambda k: seconds[k])
    efficiency = posterior.draws - posterior.draws.min(axis=1, keepdims=True)
    efficient = (efficiency <= math.log1p(NEAR_BEST)).mean(axis=0) >= _CHANCE
    near = efficient & (seconds <= (1 + NEAR_BEST) * seconds[place])
    times = np.log(seconds)[None, :] + 0.0 * posterior.draws
    return Choice(
        batch_size=sizes[place],
        interval=_around(sizes, near, place),
        costs=_costs(posterior, times, tested),
    )


def choose_for_speed(step_seconds: Mapping[int, float]) -> Choice:
    """The smallest size within 10 % of the highest throughput, where statistics say nothing.

    >>> choose_for_speed({1: 1e-4, 64: 1.6e-4, 1024: 11e-4, 2048: 21e-4}).batch_size
    1024
    """
    sizes = sorted(step_seconds)
    a_sample = np.array([step_seconds[size] / size for size in sizes])
    near = a_sample <= (1 + NEAR_BEST) * a_sample.min()
    place = int(np.flatnonzero(near)[0])
    return Choice(batch_size=sizes[place], interval=_around(sizes, near, place), costs=[])


def _around(sizes: list[int], near: NDArray[np.bool_], place: int) -> tuple[int, int]:
    inside = [*np.flatnonzero(near).tolist(), place]
    return sizes[min(inside)], sizes[max(inside)]


def _costs(posterior: SamplesPosterior, times: Floats, tested: Collection[int]) -> list[CostPoint]:
    low, high = np.exp(np.percentile(times, [2.5, 97.5], axis=0))
    return [
        CostPoint(
            batch_size=size,
            samples=float(np.exp(posterior.mean[place])),
            seconds=float(np.exp(times[:, place].mean())),
            low=float(low[place]),
            high=float(high[place]),
            has_run=size in tested,
        )
        for place, size in enumerate(posterior.sizes)
    ]
