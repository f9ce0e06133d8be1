"""From the branches of a pilot to the laws, their trend, and what every size needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rightbatch.advice.law import Law, fit_samples_to_target
from rightbatch.advice.loss_points import samples_to
from rightbatch.advice.pilot_outcome import Outcome, observations_of
from rightbatch.advice.pilot_result import LevelLaw, Pilot, PilotRun, PilotSize
from rightbatch.advice.samples_posterior import SamplesPosterior, infer_samples
from rightbatch.plan.hashing import derive_key

# The losses above the pilot's own at which the law is fitted too, as shares of the way down from
# the initial loss, on a logarithmic scale.
_LEVELS = (0.5, 0.65, 0.8, 0.9)
_LEAST_SIZES = 3
# Carried to a loss that no branch reached, the trend may be off by its own size.
_MOST_GROWTH = 8.0


def infer_from_pilot(
    outcome: Outcome,
    sizes: Sequence[int],
    *,
    prior_critical: float,
    prior_factor: float,
    target_loss: float | None,
    seed: int = 0,
) -> tuple[SamplesPosterior, list[LevelLaw]]:
    """What every size needs to the target, and the laws at several losses on the way.

    Where the pilot's loss is above the target, the growth of B_crit as the loss falls is carried on
    by a straight line through the logarithms of both, and the uncertainty of that with it.
    """
    posterior = infer_samples(
        observations_of(outcome),
        sizes,
        prior_critical=prior_critical,
        prior_factor=prior_factor,
        seed=seed,
    )
    levels = level_laws(outcome)
    if target_loss is not None and outcome.loss > target_loss * 1.001:
        posterior = _carried_on(posterior, levels, outcome.loss, target_loss, seed)
    return posterior, levels


def level_laws(outcome: Outcome) -> list[LevelLaw]:
    """The law at the pilot's loss, and at some above it, at the best rate for each."""
    starts = [run.points[0].loss for run in outcome.runs]
    if not starts:
        return []
    first = float(np.median(starts))
    if not first > outcome.loss > 0:
        return []
    fall = math.log(first / outcome.loss)
    losses = [first * math.exp(-share * fall) for share in _LEVELS] + [outcome.loss]
    found = []
    for loss in losses:
        best: dict[tuple[int, int], float] = {}
        for run in outcome.runs:
            samples = samples_to(run.points, loss)
            if samples is not None and samples > 0:
                key = run.batch_size, run.seed
                best[key] = min(samples, best.get(key, math.inf))
        if len({size for size, _ in best}) >= _LEAST_SIZES:
            law = fit_samples_to_target([size for size, _ in best], list(best.values()))
            found.append(LevelLaw(loss=loss, law=law))
    return found


def summarise(
    outcome: Outcome,
    posterior: SamplesPosterior,
    levels: list[LevelLaw],
    step_seconds: Mapping[int, float],
    target_loss: float | None,
) -> Pilot:
    """The pilot as a result: what each size that ran needs, and all the branches."""
    low, high = np.exp(np.percentile(posterior.draws, [2.5, 97.5], axis=0))
    sizes = []
    for place, size in enumerate(posterior.sizes):
        rate = outcome.rates.get(size)
        if rate is None:
            continue
        samples = float(np.exp(posterior.mean[place]))
        sizes.append(
            PilotSize(
                batch_size=size,
                learning_rate=rate,
                runs=_count(outcome.runs, size, rate),
                samples=samples,
                low=float(low[place]),
                high=float(high[place]),
                seconds=samples / size * step_seconds[size],
            )
        )
    return Pilot(
        loss=outcome.loss,
        target_loss=target_loss,
        sizes=sizes,
        levels=levels,
        runs=outcome.runs,
        seconds=outcome.seconds,
        enough_samples=outcome.enough_samples,
    )


def law_of(posterior: SamplesPosterior, levels: Sequence[LevelLaw]) -> Law:
    """E_min and B_crit as all runs and the prior have them, with the 95 % interval of B_crit.

    The residual is that of the fit to the runs alone, at the pilot's loss; infinite without any.
    """
    low, critical, high = np.percentile(posterior.critical, [2.5, 50.0, 97.5])
    growth = np.log1p(np.asarray(posterior.sizes) / critical)
    return Law(
        samples_min=float(np.exp((posterior.mean - growth).mean())),
        critical_batch_size=float(critical),
        low=float(low),
        high=float(high),
        residual=levels[-1].law.residual if levels else math.inf,
    )


def _count(runs: Sequence[PilotRun], size: int, rate: float) -> int:
    return sum(
        run.batch_size == size and run.learning_rate == rate and run.samples is not None
        for run in runs
    )


def _carried_on(
    posterior: SamplesPosterior,
    levels: Sequence[LevelLaw],
    loss: float,
    target_loss: float,
    seed: int,
) -> SamplesPosterior:
    """The posterior with B_crit, and E with it, as they are likely to be at the target."""
    finite = [
        level for level in levels if 0 < level.law.critical_batch_size < math.inf and level.loss > 0
    ]
    slope = 0.0
    if len(finite) >= _LEAST_SIZES:
        x = np.log([level.loss for level in finite])
        y = np.log([level.law.critical_batch_size for level in finite])
        slope = min(float(np.polyfit(x, y, 1)[0]), 0.0)
    steps = math.log(target_loss / loss)
    growth = min(slope * steps, math.log(_MOST_GROWTH))
    generator = np.random.default_rng(derive_key("trend", seed))
    spread = 0.3 * abs(steps) + 0.5 * growth
    factor = np.exp(growth + spread * generator.standard_normal(len(posterior.critical)))
    critical = posterior.critical * factor
    sizes = np.asarray(posterior.sizes, dtype=np.float64)
    before = np.log1p(sizes[None, :] / posterior.critical[:, None])
    after = np.log1p(sizes[None, :] / critical[:, None])
    return replace(posterior, draws=posterior.draws - before + after, critical=critical)
