"""From what is known of samples and step times to a batch size, and the interval around it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rightbatch.advice.advice import CostPoint
from rightbatch.advice.law import NEAR_BEST
from rightbatch.advice.samples_posterior import SamplesPosterior

Floats = NDArray[np.float64]

# A size belongs to the interval where it is within 10 % of the best with at least this chance.
_CHANCE = 0.15
_SMALLER = 4


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A batch size, the interval, and the predicted cost of every size.

    `enough_samples` is as in `EpochsGoal`: None where frugality alone decided. `is_frugal` is
    False where no candidate was likely to be frugal, and the most frugal of them was taken.
    """

    batch_size: int
    interval: tuple[int, int]
    costs: list[CostPoint]
    enough_samples: float | None = None
    is_frugal: bool = True


@dataclass(frozen=True, kw_only=True)
class TargetGoal:
    """The least time to a validation loss."""

    loss: float

    def chances(
        self,
        posterior: SamplesPosterior,
        step_seconds: Mapping[int, float],
        *,
        known: Collection[int],
        within: float,
        enough_samples: float | None,  # noqa: ARG002  # goals are asked alike
    ) -> dict[int, float]:
        """The chance of each size to take no more than `within` times the least of those known."""
        times = _log_times(posterior, step_seconds)
        places = [place for place, size in enumerate(posterior.sizes) if size in known]
        least = times[:, places].min(axis=1, keepdims=True)
        chances = (times <= least + math.log(within)).mean(axis=0)
        return dict(zip(posterior.sizes, chances.tolist(), strict=True))

    def choose(
        self,
        posterior: SamplesPosterior,
        step_seconds: Mapping[int, float],
        *,
        candidates: Collection[int],
        is_relative: bool = False,
        enough_samples: float | None = None,  # noqa: ARG002  # goals are asked alike
    ) -> Choice:
        """The size of the least expected excess over the best time to the target.

        `candidates` are the sizes that may be advised; the interval is made of all sizes of the
        posterior that are within 10 % of the best with a fair chance. With `is_relative` the
        costs are given over the least one, where the posterior knows ratios alone.

        >>> from rightbatch.advice.samples_posterior import Observation, infer_samples
        >>> runs = [Observation(batch_size=b, seed=0, samples=1e4 * (1 + b / 64))
        ...         for b in (8, 64, 256)]
        >>> sizes = [8, 16, 32, 64, 128, 256]
        >>> found = infer_samples(runs, sizes, prior_critical=100, prior_factor=8)
        >>> times = {size: 64e-6 + 1e-6 * size for size in sizes}
        >>> TargetGoal(loss=0.1).choose(found, times, candidates=sizes).batch_size
        64
        """
        sizes = posterior.sizes
        times = _log_times(posterior, step_seconds)
        excess = times - times.min(axis=1, keepdims=True)
        expected = np.expm1(np.minimum(excess, 10.0)).mean(axis=0)
        place = min(_places(sizes, candidates), key=lambda place: expected[place])
        near = (excess <= math.log1p(NEAR_BEST)).mean(axis=0) >= _CHANCE
        told = times - times.mean(axis=0).min() if is_relative else times
        return Choice(
            batch_size=sizes[place],
            interval=_around(sizes, near, place),
            costs=_costs(posterior, told),
        )


@dataclass(frozen=True, kw_only=True)
class EpochsGoal:
    """The least time for so many samples whose loss is as low as any size would have it.

    That is so for a size that needs no more than 10 % above the fewest samples to the same loss;
    and where that loss is the lowest that all these samples lead to, for every size that comes
    down to it within them (`enough_samples`).
    """

    samples: float

    def chances(
        self,
        posterior: SamplesPosterior,
        step_seconds: Mapping[int, float],
        *,
        known: Collection[int],
        within: float,
        enough_samples: float | None,
    ) -> dict[int, float]:
        """The chance of each size to end as low, where it is faster than those known to do so."""
        sizes = posterior.sizes
        seconds = self._seconds(sizes, step_seconds)
        frugal = self._frugal(posterior, enough_samples)
        places = _places(sizes, known)
        best = min((seconds[place] for place in places if frugal[place] >= 0.5), default=0.0)
        chances = {
            size: float(frugal[place]) if seconds[place] <= within * best else 0.0
            for place, size in enumerate(sizes)
        }
        # What the fewest samples are, a smaller size would tell, slow as it is.
        smaller = max((size for size in sizes if size * _SMALLER <= min(known)), default=None)
        if smaller is not None:
            doubts = [min(frugal[place], 1 - frugal[place]) for place in places]
            doubt = 1.0 if best == 0 else float(max(doubts))
            chances[smaller] = max(chances[smaller], doubt)
        return chances

    def choose(
        self,
        posterior: SamplesPosterior,
        step_seconds: Mapping[int, float],
        *,
        candidates: Collection[int],
        is_relative: bool = False,  # noqa: ARG002  # seconds of epochs are seconds
        enough_samples: float | None = None,
    ) -> Choice:
        """The fastest of the `candidates` that end as low; where none does, the most frugal.

        The interval is made of the sizes that do so with a fair chance, and take no more than 10 %
        above the time of the chosen one.

        >>> from rightbatch.advice.samples_posterior import Observation, infer_samples
        >>> runs = [Observation(batch_size=b, seed=0, samples=1e4 * (1 + b / 640)) for b in (8, 64)]
        >>> sizes = [8, 16, 32, 64, 128, 256]
        >>> found = infer_samples(runs, sizes, prior_critical=700, prior_factor=8)
        >>> times = {size: 64e-6 + 1e-6 * size for size in sizes}
        >>> EpochsGoal(samples=1000).choose(found, times, candidates=sizes).batch_size
        32
        """
        sizes = posterior.sizes
        seconds = self._seconds(sizes, step_seconds)
        frugal = self._frugal(posterior, enough_samples)
        places = _places(sizes, candidates)
        able = [place for place in places if frugal[place] >= 0.5]
        frugalest = min(places, key=lambda place: posterior.mean[place])
        place = min(able or [frugalest], key=lambda place: seconds[place])
        near = (frugal >= _CHANCE) & (seconds <= (1 + NEAR_BEST) * seconds[place])
        times = np.log(seconds)[None, :] + np.zeros_like(posterior.draws)
        return Choice(
            batch_size=sizes[place],
            interval=_around(sizes, near, place),
            costs=_costs(posterior, times),
            enough_samples=enough_samples,
            is_frugal=bool(able),
        )

    def _seconds(self, sizes: Sequence[int], step_seconds: Mapping[int, float]) -> Floats:
        return np.array([step_seconds[size] * math.ceil(self.samples / size) for size in sizes])

    def _frugal(self, posterior: SamplesPosterior, enough_samples: float | None) -> Floats:
        """The chance of each size to need few enough samples."""
        allowed = posterior.draws.min(axis=1, keepdims=True) + math.log1p(NEAR_BEST)
        if enough_samples is not None:
            allowed = np.maximum(allowed, math.log(enough_samples))
        return np.asarray((posterior.draws <= allowed).mean(axis=0))


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


def _log_times(posterior: SamplesPosterior, step_seconds: Mapping[int, float]) -> Floats:
    a_sample = np.log([step_seconds[size] / size for size in posterior.sizes])
    return np.asarray(posterior.draws + a_sample)


def _places(sizes: Sequence[int], wanted: Collection[int]) -> list[int]:
    return [place for place, size in enumerate(sizes) if size in wanted]


def _around(sizes: list[int], near: NDArray[np.bool_], place: int) -> tuple[int, int]:
    inside = [*np.flatnonzero(near).tolist(), place]
    return sizes[min(inside)], sizes[max(inside)]


def _costs(posterior: SamplesPosterior, times: Floats) -> list[CostPoint]:
    low, high = np.exp(np.percentile(times, [2.5, 97.5], axis=0))
    return [
        CostPoint(
            batch_size=size,
            samples=float(np.exp(posterior.mean[place])),
            seconds=float(np.exp(times[:, place].mean())),
            low=float(low[place]),
            high=float(high[place]),
            has_run=True,
        )
        for place, size in enumerate(posterior.sizes)
    ]
