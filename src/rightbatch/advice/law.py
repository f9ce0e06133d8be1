"""The laws behind the advice, as pure functions on numbers."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares, minimize_scalar
from scipy.special import expit, stdtrit

from rightbatch.errors import OptionError

Floats = NDArray[np.float64]

# Times within this share of the best count as good: the optimum is flat, and what lies inside is
# a matter of convenience.
NEAR_BEST = 0.10

# Where p is 40 the corner at n½ is within 2 % of a sharp one, which no measurement of times tells
# apart from a sharper one; and aᵖ can still be written down as a number.
_LARGEST_P = 40.0
# The starts lie on both sides of every plausible p: one alone may end in a local minimum.
_FIRST_P = (1.2, 2.0, 6.0)
# How far below the fastest time the logarithms of a and b may go: beyond, they are zero.
_LOWEST = 30.0
_ROUNDING = 1e-9
_TOLERANCE = 1e-13
# B_crit is looked for from a thousandth of the smallest size to a thousand times the largest:
# beyond, one of the two terms is below what anyone can measure.
_BEYOND = 1e3
_GRID = 600
_TAIL = 0.025
# Points on no curve of this form lead along a flat valley, and every step there is worth less.
_MOST_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """The time of a step: t(B) = (aᵖ + (b B)ᵖ)^(1/p).

    a is `latency_seconds`, b `seconds_per_sample`; p = 1 is a + bB, p → ∞ a hard floor.
    `residual` is the root mean square of the relative errors of the fit.

    >>> law = StepTime(latency_seconds=2e-5, seconds_per_sample=1e-6, p=1.0, residual=0.0)
    >>> round(law.half_batch_size, 6), round(law.seconds(80), 9)
    (20.0, 0.0001)
    """

    latency_seconds: float
    seconds_per_sample: float
    p: float
    residual: float

    @property
    def half_batch_size(self) -> float:
        """n½ = a/b, where a step takes latency and samples alike; infinite where b is 0.

        With p = 1 it is where half the throughput is reached (Hockney and Jesshope 1981).
        """
        if self.seconds_per_sample == 0:
            return math.inf
        return self.latency_seconds / self.seconds_per_sample

    def seconds(self, batch_size: float) -> float:
        """t(B), the seconds that a step of `batch_size` samples takes by the law."""
        # Divided by the larger term, so that no power overflows.
        terms = (self.latency_seconds, self.seconds_per_sample * batch_size)
        largest, smallest = max(terms), min(terms)
        if largest == 0:
            return 0.0
        return float(largest * (1 + (smallest / largest) ** self.p) ** (1 / self.p))

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        return {
            "latency_seconds": self.latency_seconds,
            "seconds_per_sample": self.seconds_per_sample,
            "p": self.p,
            "half_batch_size": self.half_batch_size,
            "residual": self.residual,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(**{name: value for name, value in stored.items() if name != "half_batch_size"})


@dataclass(frozen=True, kw_only=True)
class Law:
    """The samples to a target: E(B) = E_min (1 + B/B_crit), so steps S(B) = E(B)/B.

    E_min is `samples_min`, what ever smaller batches need, and B_crit `critical_batch_size`, with
    the 95 % interval `low` to `high` (McCandlish et al. 2018, arXiv 1812.06162, equation 2.11).
    B_crit and `high` are infinite where larger batches were not seen to need more samples.
    `residual` is the root mean square of the relative errors of the fit.

    >>> law = Law(samples_min=50_000, critical_batch_size=200, low=150, high=260, residual=0.05)
    >>> law.samples(200), law.steps(200)
    (100000.0, 500.0)
    """

    samples_min: float
    critical_batch_size: float
    low: float
    high: float
    residual: float

    def samples(self, batch_size: float) -> float:
        """E(B), the samples to the target at this batch size."""
        return self.samples_min * (1.0 + batch_size / self.critical_batch_size)

    def steps(self, batch_size: float) -> float:
        """S(B), the steps to the target at this batch size."""
        return self.samples(batch_size) / batch_size

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object; what is infinite is null."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(**{name: math.inf if value is None else value for name, value in stored.items()})


def fit_samples_to_target(batch_sizes: Sequence[float] | ArrayLike, samples: ArrayLike) -> Law:
    """Fit E(B) = E_min (1 + B/B_crit) to the samples that training took at several batch sizes.

    `batch_sizes` and `samples` have one entry a run that reached the target, in any order; a size
    may come several times. The squares of the *relative* errors are made least (least squares of
    the logarithms). The interval of B_crit is where the squares stay below what an F test allows
    (the profile likelihood of one of two parameters, at 95 %): it is everything where two sizes
    are all there is.

    Raises OptionError where there are fewer than two different sizes, or an entry is not a number
    above 0.

    >>> law = fit_samples_to_target([16, 32, 64, 128, 256], [54e3, 58e3, 66e3, 82e3, 114e3])
    >>> round(law.critical_batch_size), round(law.samples_min)
    (200, 50000)
    """
    sizes, needed = _measurements(batch_sizes, samples, "samples", "the samples")
    y = np.log(needed)

    def squares(log_critical: float) -> float:
        growth = np.log1p(sizes / math.exp(log_critical))
        return float(np.square(y - growth - (y - growth).mean()).sum())

    first = math.log(sizes.min() / _BEYOND)
    last = math.log(sizes.max() * _BEYOND)
    grid = np.linspace(first, last, _GRID)
    errors = np.array([squares(value) for value in grid])
    place = int(errors.argmin())
    around = grid[max(0, place - 1)], grid[min(_GRID - 1, place + 1)]
    best = float(minimize_scalar(squares, bounds=around, options={"xatol": 1e-10}).x)
    least = min(squares(best), float(errors[place]))
    freedom = len(y) - 2
    if freedom:
        rounding = len(y) * np.finfo(float).eps
        # F with one degree of freedom above is the square of Student's t.
        allowed = least * (1 + float(stdtrit(freedom, 1 - _TAIL)) ** 2 / freedom)
        inside = grid[errors <= allowed + rounding]
        # A valley narrower than the grid holds its bottom alone.
        low = min(best, float(inside.min(initial=best)))
        high = max(best, float(inside.max(initial=best)))
    else:
        low, high = first, last
    growth = np.log1p(sizes / math.exp(best))
    fitted = float((y - growth).mean())
    is_flat = best > last - (grid[1] - grid[0])
    return Law(
        samples_min=math.exp(fitted),
        critical_batch_size=math.inf if is_flat else math.exp(best),
        low=0.0 if low <= first else math.exp(low),
        high=math.inf if high >= last - (grid[1] - grid[0]) or is_flat else math.exp(high),
        residual=float(np.sqrt(np.square(np.expm1(fitted + growth - y)).mean())),
    )


def best_batch_size(
    law: Law, step_time: StepTime, cap: int | None = None
) -> tuple[int, tuple[int, int]]:
    """The batch size of the least time to the target, and the interval within 10 % of that time.

    T(B) = S(B) t(B), least at √(n½ B_crit) where p = 1, and in general at
    (B_crit n½ᵖ)^(1/(p+1)). `cap` is the largest size allowed, such as what fits in memory.

    Raises OptionError where time falls without end and there is no cap.

    >>> law = Law(samples_min=50_000, critical_batch_size=200, low=150, high=260, residual=0.05)
    >>> time = StepTime(latency_seconds=2e-5, seconds_per_sample=1e-6, p=1.0, residual=0.0)
    >>> best_batch_size(law, time), best_batch_size(law, time, cap=40)
    ((63, (31, 130)), (40, (27, 40)))
    """
    if cap is not None and cap < 1:
        raise OptionError(f"cap={cap} is no batch size; it is a whole number from 1")
    critical, half = law.critical_batch_size, step_time.half_batch_size
    if math.isinf(critical) or math.isinf(half):
        ideal = math.inf
    elif half == 0:
        ideal = 1.0
    else:
        ideal = math.exp((math.log(critical) + step_time.p * math.log(half)) / (step_time.p + 1))
    if math.isinf(ideal) and cap is None:
        raise OptionError(
            "the time to the target falls with every larger batch, as far as the two laws tell: "
            "give the largest size that is allowed (cap=…)"
        )
    largest = math.inf if cap is None else cap

    def seconds(batch_size: float) -> float:
        return law.steps(batch_size) * step_time.seconds(batch_size)

    def is_near(batch_size: int) -> bool:
        return seconds(batch_size) <= (1 + NEAR_BEST) * seconds(best)

    ideal = min(max(ideal, 1.0), largest)
    near = {min(max(1, round_(ideal)), largest) for round_ in (math.floor, math.ceil)}
    best = int(min(near, key=seconds))
    # Time falls up to the best size and rises after it, so both ends are found by halving.
    low = bisect.bisect_left(range(1, best + 1), True, key=is_near) + 1
    beyond = best
    while is_near(beyond) and beyond < largest:
        beyond = int(min(2 * beyond, largest))
    spare = range(best, beyond + 1)
    high = best + bisect.bisect_left(spare, True, key=lambda size: not is_near(size)) - 1
    return best, (low, high)


def fit_step_time(batch_sizes: Sequence[float] | ArrayLike, seconds: ArrayLike) -> StepTime:
    """Fit t(B) = (aᵖ + (b B)ᵖ)^(1/p) to the times that steps of several batch sizes took.

    `batch_sizes` and `seconds` (of a whole step) have one entry a measurement, in any order; a
    size may come several times. The squares of the *relative* errors are made least (least
    squares of the logarithms), so that the fast small batches count as much as the slow large
    ones. a and b are not negative, and 1 ≤ p ≤ 40, where the corner at n½ = a/b is as sharp as
    anyone can measure. Two sizes do not tell p: it is 1 then. Times in proportion to the size
    give a = 0, times that do not grow with it b = 0.

    Raises OptionError where there are fewer than two different sizes, or a size or time is not a
    number above 0.

    >>> law = fit_step_time([1, 10, 100, 1000], [21e-6, 30e-6, 120e-6, 1020e-6])
    >>> round(law.latency_seconds * 1e6, 3), round(law.seconds_per_sample * 1e6, 3)
    (20.0, 1.0)
    >>> round(law.p, 3), round(law.half_batch_size, 2)
    (1.0, 20.0)
    """
    sizes, times = _measurements(batch_sizes, seconds, "seconds", "the step time")
    distinct = len(np.unique(sizes))
    x, y = np.log(sizes), np.log(times)
    # Without one term: these are the limits of the law, where its logarithms would run away.
    candidates = [
        _Candidate(float(y.mean()), -math.inf, 1.0),
        _Candidate(-math.inf, float((y - x).mean()), 1.0),
        _fitted(x, y, p=1.0),
    ]
    if distinct > 2:
        candidates += [_fitted(x, y, p=_LARGEST_P)]
        candidates += [_fitted(x, y, first_p=p) for p in _FIRST_P]
    errors = [float(np.square(candidate.log_time(x) - y).sum()) for candidate in candidates]
    # The first, simpler one of those that are equal but for rounding.
    limit = min(errors) * (1 + _ROUNDING) + len(x) * np.finfo(float).eps ** 2
    best = next(c for c, error in zip(candidates, errors, strict=True) if error <= limit)
    return StepTime(
        latency_seconds=math.exp(best.log_a),
        seconds_per_sample=math.exp(best.log_b),
        p=best.p,
        residual=float(np.sqrt(np.square(np.expm1(best.log_time(x) - y)).mean())),
    )


@dataclass(frozen=True)
class _Candidate:
    log_a: float
    log_b: float
    p: float

    def log_time(self, log_size: Floats) -> Floats:
        scaled = np.logaddexp(self.p * self.log_a, self.p * (self.log_b + log_size))
        return np.asarray(scaled / self.p, dtype=np.float64)


def _fitted(
    x: Floats, y: Floats, *, p: float | None = None, first_p: float | None = None
) -> _Candidate:
    """The least squares solution at `p`, or with p free and found from `first_p` on."""
    # u = log a, v = log b, s = 1/p: f = u + s log(1 + e^d) with d = (v + x - u)/s.
    lowest, highest = y.min() - _LOWEST, y.max() + 1.0
    largest = x.max()

    def parts(values: Floats) -> tuple[Floats, float, float]:
        s = float(values[2]) if p is None else 1.0 / p
        return (values[1] + x - values[0]) / s, s, float(values[0])

    def error(values: Floats) -> Floats:
        d, s, u = parts(values)
        return np.asarray(u + s * np.logaddexp(0.0, d) - y)

    def derivative(values: Floats) -> Floats:
        d, _, _ = parts(values)
        share = expit(d)
        columns = [1.0 - share, share]
        if p is None:
            columns.append(np.logaddexp(0.0, d) - d * share)
        return np.stack(columns, axis=1)

    start = [float(y.min()), float((y - x).min())]
    low, high = [lowest, lowest - largest], [highest, highest]
    if p is None:
        assert first_p is not None  # one of the two is given
        start.append(1.0 / first_p)
        low.append(1.0 / _LARGEST_P)
        high.append(1.0)
    found = least_squares(
        error,
        start,
        jac=derivative,
        bounds=(low, high),
        xtol=_TOLERANCE,
        ftol=_TOLERANCE,
        gtol=_TOLERANCE,
        max_nfev=_MOST_STEPS,
    ).x
    return _Candidate(float(found[0]), float(found[1]), 1.0 / float(found[2]) if p is None else p)


def _measurements(
    batch_sizes: Sequence[float] | ArrayLike, values: ArrayLike, name: str, of: str
) -> tuple[Floats, Floats]:
    """Batch sizes and what was measured at them; OptionError where they do not make a law."""
    sizes, measured = _positive("batch_sizes", batch_sizes), _positive(name, values)
    if sizes.shape != measured.shape:
        raise OptionError(
            f"batch_sizes has {len(sizes)} entries and {name} {len(measured)}: give the {name} of "
            "each batch size"
        )
    distinct = len(np.unique(sizes))
    if distinct < 2:
        raise OptionError(
            f"there {'is one batch size' if distinct else 'are no batch sizes'}, and the law of "
            f"{of} takes two different ones at least: measure at another one, such as 1"
        )
    return sizes, measured


def _positive(name: str, values: Sequence[float] | ArrayLike) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} holds something that is no number: {error}") from error
    if array.ndim != 1:
        raise OptionError(f"{name} has the shape {array.shape}; give one number a measurement")
    wrong = np.flatnonzero(~(np.isfinite(array) & (array > 0)))
    if len(wrong):
        raise OptionError(
            f"{name}[{wrong[0]}] is {array[wrong[0]]:g}; batch sizes and seconds are finite "
            "numbers above 0"
        )
    return array
