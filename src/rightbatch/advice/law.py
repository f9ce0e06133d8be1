"""The laws behind the advice, as pure functions on numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.special import expit

from rightbatch.errors import OptionError

Floats = NDArray[np.float64]

# Where p is 40 the corner at n½ is within 2 % of a sharp one, which no measurement of times tells
# apart from a sharper one; and aᵖ can still be written down as a number.
_LARGEST_P = 40.0
# The starts lie on both sides of every plausible p: one alone may end in a local minimum.
_FIRST_P = (1.2, 2.0, 6.0)
# How far below the fastest time the logarithms of a and b may go: beyond, they are zero.
_LOWEST = 30.0
_ROUNDING = 1e-9
_TOLERANCE = 1e-13
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
    sizes, times = _positive("batch_sizes", batch_sizes), _positive("seconds", seconds)
    if sizes.shape != times.shape:
        raise OptionError(
            f"batch_sizes has {len(sizes)} entries and seconds {len(times)}: give the time of "
            "each batch size"
        )
    distinct = len(np.unique(sizes))
    if distinct < 2:
        raise OptionError(
            f"there {'is one batch size' if distinct else 'are no batch sizes'}, and the law of "
            "the step time takes two different ones at least: measure at another one, such as 1"
        )
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
