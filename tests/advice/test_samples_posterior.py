"""What runs say of the samples that sizes need: luck of seeds, and runs that were given up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rightbatch.advice.loss_points import LossPoint
from rightbatch.advice.pilot_outcome import Outcome, observations_of
from rightbatch.advice.pilot_result import PilotRun
from rightbatch.advice.samples_posterior import Observation, infer_samples

SIZES = [32, 128]


def runs_of(*, seed_effect: float, own: float, seeds: int = 8) -> list[Observation]:
    """The same samples at both sizes, but for the luck of the seed and of the run."""
    random = np.random.default_rng(3)
    luck = seed_effect * random.standard_normal(seeds)
    return [
        Observation(
            batch_size=size,
            seed=seed,
            samples=1e4 * math.exp(luck[seed] + own * random.standard_normal()),
        )
        for size in SIZES
        for seed in range(seeds)
    ]


def spread_of_the_ratio(runs: list[Observation]) -> float:
    found = infer_samples(runs, SIZES, prior_critical=100.0, prior_factor=100.0)
    return float((found.draws[:, 1] - found.draws[:, 0]).std())


def test_seeds_that_sizes_share_cancel_in_their_comparison() -> None:
    shared = runs_of(seed_effect=0.5, own=0.05)
    apart = [
        Observation(batch_size=run.batch_size, seed=n, samples=run.samples)
        for n, run in enumerate(shared)
    ]
    assert spread_of_the_ratio(shared) < 0.7 * spread_of_the_ratio(apart)


def test_seeds_without_an_effect_of_their_own_are_not_believed_to_have_one() -> None:
    quiet = runs_of(seed_effect=0.0, own=0.5)
    shared = runs_of(seed_effect=0.5, own=0.05)
    assert spread_of_the_ratio(quiet) > 1.5 * spread_of_the_ratio(shared)


def run(seed: int, samples: float | None, ended: str, *, rate: float = 0.5) -> PilotRun:
    seen = int(samples or 3000)
    return PilotRun(
        batch_size=64,
        learning_rate=rate,
        seed=seed,
        samples=samples,
        ended=ended,
        points=[LossPoint(samples=seen, seconds=0.0, loss=1.0)],
    )


def test_repetitions_that_were_given_up_count_as_bounds() -> None:
    outcome = Outcome(
        loss=1.0,
        rates={64: 0.5},
        runs=[
            run(0, 1000.0, "reached"),
            run(1, None, "hopeless"),
            run(2, None, "budget"),
            run(0, None, "hopeless", rate=0.1),
        ],
        seconds=1.0,
    )
    found = observations_of(outcome)
    assert [(one.seed, one.samples, one.is_bound) for one in found] == [
        (0, 1000.0, False),
        (1, 3000, True),
    ]
    # A size is not judged by the one of its runs that was lucky.
    lucky = [Observation(batch_size=64, seed=0, samples=1000.0)]
    means = [
        float(infer_samples(runs, [64], prior_critical=100.0, prior_factor=4.0).mean[0])
        for runs in (found, lucky)
    ]
    assert means[0] > means[1] + 0.15
    assert math.exp(means[1]) == pytest.approx(1000, rel=0.1)
