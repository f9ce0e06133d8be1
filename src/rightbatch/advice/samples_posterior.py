"""What runs at a few batch sizes say of the samples that every size needs, with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rightbatch.plan.hashing import derive_key

Floats = NDArray[np.float64]

# How far log E(B) strays from the law, smoothly over octaves of B: the law has one corner for all
# losses, and real curves are somewhat sharper or blunter (benchmarks/advice_sweep.py).
_MISFIT = 0.12
_MISFIT_OCTAVES = 2.0
# A rate from a grid of √2 leaves a size this much above its best.
_RATE_ERROR = 0.05
# The spread of runs that differ in their seed alone, until repetitions tell; they count as four.
_RUN_ERROR, _RUN_ERROR_WEIGHT = 0.15, 4.0
# A seed that is good for one size tends to be good for another: of the variance of runs, so much is
# the seed's until repetitions tell. From 0.03 to 0.72 was seen (benchmarks/advice_sweep.py).
_SEED_SHARE, _LEAST_SEED_SHARE = 0.35, 0.05
# A run that was given up says only that it would have taken longer.
_BOUND_ERROR = 0.3
_VAGUE = 10.0
_DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class Observation:
    """The samples that one run took; with `is_bound` it was given up after that many."""

    batch_size: int
    seed: int
    samples: float
    is_bound: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class SamplesPosterior:
    """log E at `sizes` in `draws` (2,000, sizes), and B_crit in as many draws."""

    sizes: list[int]
    draws: Floats
    critical: Floats

    @property
    def mean(self) -> Floats:
        """The mean of log E at each size."""
        return np.asarray(self.draws.mean(axis=0))


def infer_samples(
    observations: Sequence[Observation],
    sizes: Sequence[int],
    *,
    prior_critical: float,
    prior_factor: float,
    seed: int = 0,
) -> SamplesPosterior:
    """The distribution of log E(B) at `sizes`, given runs at some of them.

    log E = log E_min + log(1 + B/B_crit) + a smooth misfit (a Gaussian process over octaves) + the
    effect of the seed + the run's own error. log B_crit is normal around `prior_critical`, its
    standard deviation the logarithm of `prior_factor`; log E_min is anything.

    >>> runs = [Observation(batch_size=b, seed=0, samples=1e4 * (1 + b / 64)) for b in (8, 64, 256)]
    >>> found = infer_samples(runs, [8, 32, 256], prior_critical=100, prior_factor=8)
    >>> [float(value) for value in np.exp(found.mean).round(-3)]
    [11000.0, 15000.0, 50000.0]
    """
    x = np.log2([run.batch_size for run in observations])
    y = np.log([run.samples for run in observations])
    at = np.log2(np.asarray(sizes, dtype=np.float64))
    runs = np.array([run.seed for run in observations])
    bounds = np.array([run.is_bound for run in observations])
    spread, share = run_error(observations), _seed_share(observations)
    covariance = (
        _VAGUE**2
        + _MISFIT**2 * _smooth(x, x)
        + _RATE_ERROR**2 * (x[:, None] == x[None, :])
        + spread**2 * share * (runs[:, None] == runs[None, :])
    )
    own = spread * math.sqrt(1 - share)
    covariance += np.diag(np.where(bounds, max(_BOUND_ERROR, own), own) ** 2)
    cross = _VAGUE**2 + _MISFIT**2 * _smooth(at, x)
    prior = _VAGUE**2 + _MISFIT**2 * _smooth(at, at)
    inverse = np.linalg.inv(covariance)
    gain = cross @ inverse
    left = prior - gain @ cross.T
    # B_crit on a grid: for each value all else is Gaussian, with the same covariance.
    deviation = math.log(prior_factor)
    steps = np.linspace(-3.0, 3.0, 121)
    critical = np.exp(math.log(prior_critical) + deviation * steps)
    growth = np.log1p(2.0 ** x[None, :] / critical[:, None])
    residual = y[None, :] - growth
    weights = -0.5 * np.einsum("ki,ij,kj->k", residual, inverse, residual) - 0.5 * steps**2
    weights = np.exp(weights - weights.max())
    weights /= weights.sum()
    generator = np.random.default_rng(derive_key("posterior", seed))
    chosen = generator.choice(len(critical), size=_DRAWS, p=weights)
    means = np.log1p(2.0 ** at[None, :] / critical[:, None]) + residual @ gain.T
    values, vectors = np.linalg.eigh(left)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    noise = generator.standard_normal((_DRAWS, len(at))) @ root.T
    return SamplesPosterior(
        sizes=list(sizes), draws=means[chosen] + noise, critical=critical[chosen]
    )


def prior_samples(
    sizes: Sequence[int], *, prior_critical: float, prior_factor: float, seed: int = 0
) -> SamplesPosterior:
    """The same before any run: what B_crit alone says, with E_min = 1.

    >>> found = prior_samples([1, 100], prior_critical=100, prior_factor=1.01)
    >>> [float(value) for value in np.exp(found.mean).round(1)]
    [1.0, 2.0]
    """
    generator = np.random.default_rng(derive_key("prior", seed))
    deviation = math.log(prior_factor)
    critical = prior_critical * np.exp(deviation * generator.standard_normal(_DRAWS))
    growth = np.log1p(np.asarray(sizes, dtype=np.float64)[None, :] / critical[:, None])
    return SamplesPosterior(sizes=list(sizes), draws=growth, critical=critical)


def _smooth(a: Floats, b: Floats) -> Floats:
    return np.exp(-0.5 * np.square((a[:, None] - b[None, :]) / _MISFIT_OCTAVES))


def run_error(observations: Sequence[Observation]) -> float:
    """The spread of log E among runs of one size, pooled over sizes, with a prior.

    Runs that were given up count with what they had taken: left out, they would leave the spread
    of those that were lucky.

    >>> round(run_error([]), 2)
    0.15
    """
    groups: dict[int, list[float]] = {}
    for run in observations:
        groups.setdefault(run.batch_size, []).append(math.log(run.samples))
    squares, freedom = _RUN_ERROR_WEIGHT * _RUN_ERROR**2, _RUN_ERROR_WEIGHT
    for values in groups.values():
        squares += float(np.square(np.array(values) - np.mean(values)).sum())
        freedom += len(values) - 1
    return math.sqrt(squares / freedom)


def _seed_share(observations: Sequence[Observation]) -> float:
    """The share of the variance of runs that is their seed's, with a prior.

    What is left of log E beside a level for each size and one for each seed is the run's own.
    """
    total = run_error(observations) ** 2
    squares = _RUN_ERROR_WEIGHT * (1 - _SEED_SHARE) * total
    freedom = _RUN_ERROR_WEIGHT
    levels = sorted(
        {("size", run.batch_size) for run in observations}
        | {("seed", run.seed) for run in observations}
    )
    if observations:
        columns = np.zeros((len(observations), len(levels)))
        for row, run in enumerate(observations):
            columns[row, levels.index(("size", run.batch_size))] = 1.0
            columns[row, levels.index(("seed", run.seed))] = 1.0
        y = np.log([run.samples for run in observations])
        solution, _, rank, _ = np.linalg.lstsq(columns, y, rcond=None)
        squares += float(np.square(y - columns @ solution).sum())
        freedom += len(observations) - int(rank)
    return max(_LEAST_SEED_SHARE, 1 - squares / freedom / total)
